"""From a finished job to markups in the scene, provided that the scene still holds what the job was for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from ..errors import LandmarkDetectionError
from ..inference.session import Session
from ..inference.worker import Job
from .dependencies import missing_dependencies
from .following import FOLLOWING
from .markups import create_markups, input_volume, searched_axes, write_detection
from .placement import Placement
from .volumes import cache_key, volume_image


@dataclass
class Request:
    """A detection on its way.

    Attributes:
        job: the work on the other thread.
        volume: the volume node; kept alive, so that its leaving the scene can be told from a new node with its ID.
        placement: where the image lies.
        key: the `cache_key` of the volume when its image was taken.
        markups: the markups node to overwrite, or None for a new one.
    """

    job: Job
    volume: Any
    placement: Placement
    key: tuple
    markups: Any = None

    def require_unchanged(self) -> None:
        """Raises LandmarkDetectionError if the image left the scene or changed while it was searched."""
        if self.volume.GetScene() is None or self.volume.GetImageData() is None:
            raise LandmarkDetectionError("The image was removed during the detection, so the result was dropped.")
        # The parent transform, last in the key, may change: results are local to the volume.
        if cache_key(self.volume)[:-1] != self.key[:-1]:
            raise LandmarkDetectionError(
                f"'{self.volume.GetName()}' changed during the detection, so the result was dropped; apply again."
            )

    def place(self, detection):
        """Put a detection into the scene and follow it. Returns the markups node.

        Raises:
            LandmarkDetectionError: the image is gone or has changed.
        """
        self.require_unchanged()
        node = self.markups
        if node is None or node.GetScene() is None:
            node = create_markups(self.volume, detection, self.placement)
        else:
            FOLLOWING.end(node)
            write_detection(node, self.volume, detection, self.placement)
        FOLLOWING.begin(node, Session(detection))
        _lay_beside(node, self.volume)
        return node


class ResumeRequest(Request):
    """The same image again, for what a saved scene does not keep of a session: heatmaps and the network with hints."""

    def place(self, detection):
        """Hand heatmaps and `repredict` to the restored session; its landmarks stay as they are."""
        self.require_unchanged()
        if self.markups.GetScene() is not None:
            FOLLOWING.attach_heatmaps(self.markups, detection.heatmaps, detection.repredict)
        return self.markups


def resume_request(node, find_bundle: Callable, worker: Callable) -> ResumeRequest | None:
    """A request for the heatmaps of a restored session, or None where it has them or they cannot be computed as before.

    Nothing is installed for it, and another version of the model does not do: its heatmaps would contradict the points.
    """
    tracker = FOLLOWING.tracker(node)
    if tracker is None or missing_dependencies():
        return None
    stored = tracker.session.detection
    if stored.heatmaps is not None or stored.repredict is not None:
        return None
    try:
        bundle = find_bundle(stored.bundle_name)
    except LandmarkDetectionError:
        return None  # the model is not installed here: the session goes on by its shape prior alone
    if bundle.sha256 != stored.bundle_sha256:
        return None
    frame = stored.landmarks.frame
    given = float(np.mean(frame.spacing)) if frame.spacing_source == "given" else None
    volume = input_volume(node)
    axes = searched_axes(node)
    # A volume is taken as it was searched: a transform that came later must not turn it or shift its frame.
    source = volume_image(volume, given) if axes is None else volume_image(volume, axes=axes, frame=frame)
    job = worker().detect(source.image, stored.bundle_name, "auto", stored.side or "auto")
    return ResumeRequest(job, volume, source.placement, source.key, node)


def reusable_node(node, volume):
    """`node` if it holds a detection in this volume that the user has not corrected, else None."""
    tracker = FOLLOWING.tracker(node) if node is not None else None
    untouched = tracker is not None and not tracker.session.can_undo and not tracker.session.can_redo
    return node if untouched and input_volume(node) is volume else None


def _lay_beside(node, volume) -> None:
    """Put the markups into the folder of the volume in the subject hierarchy, where there is one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))


def summary(session: Session) -> str:
    """Sentences about a detection: how many landmarks, the side where the model knows sides, the detector's notes."""
    detection, landmarks = session.detection, session.landmarks
    present = sum(status != "absent" for status in landmarks.statuses)
    sentences = [f"{present} landmarks found."]
    if detection.side is not None:
        sentences = [f"{present} landmarks found, {detection.side} side ({100 * detection.side_probability:.0f} %)."]
    absent = len(landmarks.statuses) - present
    if absent:
        sentences.append(f"{absent} are not in the image.")
    return " ".join([*sentences, *detection.notes])
