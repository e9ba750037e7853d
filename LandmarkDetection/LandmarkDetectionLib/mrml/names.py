"""Names in the views where a detection has too many points for a label at each.

The labels of the points stay what they are, since files and other modules go by them; they are just not drawn. One
companion node draws a name for each group instead (one vertebra of a spine) and the label of the highlighted landmark.
"""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util

from ..landmarks import LandmarkSchema, LandmarkSet
from .placement import Placement

NAMES_ROLE = "LandmarkDetection.names"
HIGHLIGHT_ATTRIBUTE = "LandmarkDetection.highlighted"

LABEL_LIMIT = 30
"""With more points than this, labels at every point would cover each other and the image."""

NAME_COLOR = (1.0, 0.92, 0.5)
CLEARANCE = 0.3
"""Distance from a group to its name, in widths of the group: near enough to belong to it, too far to be grabbed."""


def is_crowded(landmarks: LandmarkSet) -> bool:
    """Whether there are too many points to label each of them."""
    return len(landmarks.schema.landmarks) > LABEL_LIMIT


def style_points(node, landmarks: LandmarkSet) -> None:
    """Size of the points of a new detection, and whether labels are drawn; later the user may choose otherwise."""
    crowded = is_crowded(landmarks)
    display = node.GetDisplayNode()
    display.SetUseGlyphScale(True)
    display.SetGlyphScale(1.0 if crowded else 1.5)
    display.SetTextScale(2.5)
    display.SetPointLabelsVisibility(not crowded)


def groups(schema: LandmarkSchema) -> dict[str, list[int]]:
    """Rows of the landmarks by the part of their ids before the underscore: the four corners of "T7" are one group."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(schema.ids):
        found.setdefault(name.split("_")[0], []).append(row)
    return found


def update_names(node, landmarks: LandmarkSet, placement: Placement):
    """Bring the names in line with the landmarks; made once, then updated in place.

    Returns:
        The companion node, or None where each point carries its own label.
    """
    names = node.GetNodeReference(NAMES_ROLE)
    if not is_crowded(landmarks):
        if names is not None:
            slicer.mrmlScene.RemoveNode(names)
        return None
    texts, places = _texts_and_places(node, landmarks, placement)
    names = names or _add_names(node)
    with slicer.util.NodeModify(names):
        names.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        while names.GetNumberOfControlPoints() < len(texts):
            names.AddControlPoint(0.0, 0.0, 0.0)
        for row, (text, place) in enumerate(zip(texts, places, strict=True)):
            names.SetNthControlPointLabel(row, text)
            if np.isfinite(place).all():
                names.SetNthControlPointPosition(row, *place)
            elif names.GetNthControlPointPositionStatus(row) == names.PositionDefined:
                names.UnsetNthControlPointPosition(row)
    return names


def highlight(node, landmark: str | None, landmarks: LandmarkSet, placement: Placement) -> None:
    """Draw the label of one landmark, or of none, beside its point."""
    if node.GetAttribute(HIGHLIGHT_ATTRIBUTE) != landmark:
        node.SetAttribute(HIGHLIGHT_ATTRIBUTE, landmark)
        update_names(node, landmarks, placement)


def follow_visibility(node) -> None:
    """Names are hidden and shown with the points they belong to."""
    names = node.GetNodeReference(NAMES_ROLE)
    if names is not None:
        names.SetDisplayVisibility(node.GetDisplayVisibility())


def _texts_and_places(node, landmarks: LandmarkSet, placement: Placement) -> tuple[list[str], np.ndarray]:
    """One text and one local position for each group, and last for the highlighted landmark; NaN where it is absent."""
    texts, places, widths = [], [], []
    # Beside the column: to its side on a film; behind it in a volume, where all its points lie near one sagittal plane
    # and where a text that runs to the right in a sagittal view leaves the vertebra free.
    axis = 0 if landmarks.frame.dims == 2 else 1
    for name, rows in groups(landmarks.schema).items():
        points = landmarks.positions[rows]
        points = points[np.isfinite(points).all(axis=1)]
        place = np.full(landmarks.frame.dims, np.nan)
        if len(points):
            place = points.mean(axis=0)
            widths.append(np.ptp(points[:, axis]))
            place[axis] = points[:, axis].max() + CLEARANCE * widths[-1]
        texts.append(name)
        places.append(place)
    highlighted, place = node.GetAttribute(HIGHLIGHT_ATTRIBUTE) or "", np.full(landmarks.frame.dims, np.nan)
    if highlighted in landmarks.schema.ids:
        # Beside the point, not on it: the mouse must find the point.
        place = landmarks.positions[landmarks.schema.index(highlighted)].copy()
        place[axis] += CLEARANCE / 2 * (np.median(widths) if widths else 0.0)
    return [*texts, highlighted], placement.to_local(np.array([*places, place]))


def _add_names(node):
    names = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{node.GetName()} names")
    names.SetHideFromEditors(True)  # nothing to edit, to list or to search in
    names.SetLocked(True)
    names.SetSelectable(False)
    names.CreateDefaultDisplayNodes()
    display = names.GetDisplayNode()
    display.SetUseGlyphScale(True)
    display.SetGlyphScale(0.01)  # the text alone
    display.SetTextScale(2.5)
    display.SetSelectedColor(*NAME_COLOR)
    display.SetVisibility(node.GetDisplayVisibility())
    node.SetNodeReferenceID(NAMES_ROLE, names.GetID())
    return names
