"""The session in the scene: what a saved scene needs so that work goes on where it stopped."""

from __future__ import annotations

import json
from weakref import WeakKeyDictionary

import slicer
import slicer.util

from ..errors import LandmarkDetectionError
from ..inference.detection import Detection
from ..inference.session import Session
from .markups import input_volume, searched_axes
from .volumes import placement_of

SESSION_ATTRIBUTE = "LandmarkDetection.session"

_detection_texts: WeakKeyDictionary[Detection, str] = WeakKeyDictionary()


def save_session(node, session: Session) -> None:
    """Keep the whole session (points, pins, who set what, history; not the heatmaps) on its markups node."""
    node.SetAttribute(SESSION_ATTRIBUTE, _session_text(session))


def _session_text(session: Session) -> str:
    """The session as JSON. The detection in it never changes and, with its prior, is most of the text: kept once made.

    A correction of 68 points is saved in a third of the time so, and what is saved at once cannot be lost.
    """
    changing = session.to_dict()
    detection = changing.pop("detection")
    if session.detection not in _detection_texts:
        _detection_texts[session.detection] = _json(detection)
    return f'{{"detection":{_detection_texts[session.detection]},{_json(changing)[1:]}'


def _json(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"))


def has_session(node) -> bool:
    """Whether a markups node holds landmarks that can be worked on."""
    return node is not None and bool(node.GetAttribute(SESSION_ATTRIBUTE))


def find_results(scene=None) -> list:
    """All markups nodes in the scene that hold a session, oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode", scene)
    return [node for node in nodes if has_session(node)]


def restore_session(node) -> Session:
    """The session kept on a markups node; it works without heatmaps until they are attached.

    Raises:
        LandmarkDetectionError: the node holds none, or it is damaged, or the image is no longer in the scene.
    """
    if not has_session(node):
        raise LandmarkDetectionError(f"'{node.GetName()}' was not made by Landmark Detection; detect landmarks first.")
    require_volume(node)
    try:
        stored = json.loads(node.GetAttribute(SESSION_ATTRIBUTE))
    except ValueError as error:
        raise LandmarkDetectionError(
            f"The work saved with '{node.GetName()}' is damaged ({error}); detect the landmarks again."
        ) from error
    if not isinstance(stored, dict):
        raise LandmarkDetectionError(f"The work saved with '{node.GetName()}' is damaged; detect the landmarks again.")
    return Session.from_dict(stored)


def require_volume(node):
    """The volume of a markups node.

    Raises:
        LandmarkDetectionError: it is no longer in the scene.
    """
    volume = input_volume(node)
    if volume is None or volume.GetImageData() is None:
        raise LandmarkDetectionError(
            f"The image of '{node.GetName()}' is no longer in the scene; load it again and detect the landmarks anew."
        )
    return volume


def restore_placement(node):
    """The grid on which the points of a restored session lie, from the volume that the node refers to.

    Raises:
        LandmarkDetectionError: the volume is lost, or how it was turned.
    """
    return placement_of(require_volume(node), searched_axes(node))
