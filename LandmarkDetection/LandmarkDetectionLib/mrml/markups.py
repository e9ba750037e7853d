"""A `LandmarkSet` as one fiducial node: written in place, read back exactly."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
import vtk

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSet
from ..markups_file import (
    CHANCE_MEASUREMENT,
    COVARIANCE_TERMS,
    DISTANCE_MEASUREMENT,
    LIKELY_MEASUREMENT,
    Doubt,
    doubt,
    doubt_measurements,
    point_descriptions,
    reviewed,
)
from .names import style_points
from .placement import Axes, Placement

VOLUME_ROLE = "LandmarkDetection.inputVolume"
MODEL_ATTRIBUTE = "LandmarkDetection.model"
VERSION_ATTRIBUTE = "LandmarkDetection.modelVersion"
HASH_ATTRIBUTE = "LandmarkDetection.modelSha256"
SIDE_ATTRIBUTE = "LandmarkDetection.side"
SIDE_PROBABILITY_ATTRIBUTE = "LandmarkDetection.sideProbability"
REVIEW_ATTRIBUTE = "LandmarkDetection.reviewAbove"
AXES_ATTRIBUTE = "LandmarkDetection.axes"
"""How the volume was turned when it was searched, as in `Placement.axes`: its transforms may be others by now."""


def create_markups(volume, detection, placement: Placement, name: str | None = None):
    """Add a fiducial node for a detection, beside and under the transform of its volume.

    Args:
        volume: the volume node that was searched.
        detection: an `inference.detector.Detection`.
        placement: the grid of the image in the scene.
        name: name of the node; by default the volume's name with " landmarks".

    Returns:
        The vtkMRMLMarkupsFiducialNode, with a fixed number of points in the order of the schema.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name or f"{volume.GetName()} landmarks")
    node.CreateDefaultDisplayNodes()
    write_detection(node, volume, detection, placement)
    return node


def write_detection(node, volume, detection, placement: Placement) -> None:
    """Write a new detection into an existing fiducial node: provenance, place and points."""
    with slicer.util.NodeModify(node):
        attributes = {
            MODEL_ATTRIBUTE: detection.bundle_name,
            VERSION_ATTRIBUTE: detection.bundle_version,
            HASH_ATTRIBUTE: detection.bundle_sha256,
            SIDE_ATTRIBUTE: detection.side,
            SIDE_PROBABILITY_ATTRIBUTE: None if detection.side is None else f"{detection.side_probability:.4f}",
            AXES_ATTRIBUTE: " ".join(map(str, placement.axes)) or None,
        }
        for key, value in attributes.items():
            node.SetAttribute(key, value)  # None (a model that knows no sides, a film) takes the attribute away
        attach_to_volume(node, volume)
        if node.GetNumberOfControlPoints() != len(detection.landmarks.schema.landmarks):
            style_points(node, detection.landmarks)
        write_landmarks(node, detection.landmarks, placement, detection)


def attach_to_volume(node, volume) -> None:
    """Refer to the volume, and lie under its parent transform, linear or not."""
    node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def input_volume(node):
    """The volume node of a detection, or None when it is no longer in the scene."""
    return node.GetNodeReference(VOLUME_ROLE)


def searched_axes(node) -> Axes | None:
    """How the volume of a detection was turned when it was searched; None for a film.

    Raises:
        LandmarkDetectionError: the node does not say it in a way that can be read.
    """
    text = node.GetAttribute(AXES_ATTRIBUTE)
    if text is None:
        return None
    try:
        axes = tuple(map(int, text.split()))
    except ValueError:
        axes = ()
    if sorted(map(abs, axes)) != [1, 2, 3]:
        raise LandmarkDetectionError(
            f"The orientation saved with '{node.GetName()}' is damaged ('{text}'); detect the landmarks again."
        )
    return axes


def own_review_limit(node) -> float | None:
    """The expected error (index units) above which the user wants to review points of this node; None if not said."""
    return float(node.GetAttribute(REVIEW_ATTRIBUTE) or 0.0) or None


def set_own_review_limit(node, above: float | None) -> bool:
    """Keep the user's limit with the node, None leaves it to the model. Returns whether it is another than before."""
    changed = own_review_limit(node) != (above or None)
    if changed:
        node.SetAttribute(REVIEW_ATTRIBUTE, repr(float(above)) if above else None)
    return changed


def review_limit(node, detection) -> float | None:
    """The expected error (index units) above which points are to be reviewed: the user's limit or the model's."""
    own = own_review_limit(node)
    return detection.review_threshold if own is None else own


def told_landmarks(node, landmarks: LandmarkSet, detection) -> tuple[LandmarkSet, Doubt]:
    """What node and table say of landmarks: reviewed by the limit that holds here, and how far off each may be."""
    limit = review_limit(node, detection)
    return reviewed(landmarks, own_review_limit(node)), doubt(landmarks, detection.certainty, limit)


def write_landmarks(node, landmarks: LandmarkSet, placement: Placement, detection) -> None:
    """Write positions, labels, descriptions, states and measurements in one modification of the node.

    Absent landmarks become *missing*; landmarks without a position that are not absent become *undefined*. A point is
    *selected* unless it is to be reviewed.
    """
    landmarks, told = told_landmarks(node, landmarks, detection)
    with slicer.util.NodeModify(node):
        _set_number_of_points(node, len(landmarks.schema.landmarks))
        write_positions(node, landmarks, placement)
        descriptions = point_descriptions(landmarks, told)
        for row, landmark in enumerate(landmarks.schema.landmarks):
            node.SetNthControlPointLabel(row, landmark.id)
            node.SetNthControlPointDescription(row, descriptions[row])
            node.SetNthControlPointSelected(row, landmarks.statuses[row] != "review")
        _write_measurements(node, landmarks, placement, told)


def write_positions(node, landmarks: LandmarkSet, placement: Placement, held: int | None = None) -> None:
    """Write positions only, in one modification: all that is worth its time while a point is dragged.

    The point in row `held` is under the user's mouse and is not moved.
    """
    local = placement.to_local(landmarks.positions)
    with slicer.util.NodeModify(node):
        for row, status in enumerate(landmarks.statuses):
            if row != held:
                _write_position(node, row, local[row], status)


def _set_number_of_points(node, count: int) -> None:
    if node.GetNumberOfControlPoints() == count and node.GetFixedNumberOfControlPoints():
        return
    node.SetFixedNumberOfControlPoints(False)
    node.RemoveAllControlPoints()
    for _ in range(count):
        node.AddControlPoint(0.0, 0.0, 0.0)
    # Per-point arrays are not shrunk when a point is removed, so points can be unset but not removed.
    node.SetFixedNumberOfControlPoints(True)


def _write_position(node, row: int, local: np.ndarray, status: str) -> None:
    if status == "absent":
        if node.GetNthControlPointPositionStatus(row) != node.PositionMissing:
            node.SetNthControlPointPositionMissing(row)
    elif not np.isfinite(local).all():
        if node.GetNthControlPointPositionStatus(row) != node.PositionUndefined:
            node.UnsetNthControlPointPosition(row)
    else:
        node.SetNthControlPointPosition(row, *local)


def _write_measurements(node, landmarks: LandmarkSet, placement: Placement, told: Doubt) -> None:
    """What is told of certainty (mm or px) and the covariance terms in the coordinates of the node."""
    measurements = doubt_measurements(told)
    for name in (LIKELY_MEASUREMENT, CHANCE_MEASUREMENT, DISTANCE_MEASUREMENT):
        if name not in measurements:
            _remove_measurement(node, name)  # of an older detection, by a model that could tell more
    for name, (values, unit) in measurements.items():
        _write_measurement(node, name, values, unit)
    placed = np.isfinite(landmarks.positions).all(axis=1)
    covariances = placement.covariances_to_local(landmarks.covariances)
    usable = placed & np.isfinite(covariances).all(axis=(1, 2))
    for term, (row, column) in COVARIANCE_TERMS.items():
        _write_measurement(node, f"covariance{term}", np.where(usable, covariances[:, row, column], 0.0), "mm2")


def _remove_measurement(node, name: str) -> None:
    for number in reversed(range(node.GetNumberOfMeasurements())):
        if node.GetNthMeasurement(number).GetName() == name:
            node.RemoveNthMeasurement(number)


def _write_measurement(node, name: str, values: np.ndarray, unit: str) -> None:
    measurement = node.GetMeasurement(name)
    if measurement is None:
        measurement = slicer.vtkMRMLStaticMeasurement()
        measurement.SetName(name)
        node.AddMeasurement(measurement)
    array = vtk.vtkDoubleArray()
    array.SetName(name)
    array.SetNumberOfTuples(len(values))
    for row, value in enumerate(values):
        array.SetValue(row, float(value))
    measurement.SetUnits(unit)
    measurement.SetControlPointValues(array)


def local_positions(node) -> np.ndarray:
    """(n, 3) local RAS positions of all points, NaN where a point is undefined, missing or only being placed."""
    positions = np.full((node.GetNumberOfControlPoints(), 3), np.nan)
    for row in range(len(positions)):
        if node.GetNthControlPointPositionStatus(row) == node.PositionDefined:
            node.GetNthControlPointPosition(row, positions[row])
    return positions


def read_positions(node, placement: Placement) -> np.ndarray:
    """(n, d) index coordinates of all points, NaN where there is none; a film's points are dropped onto its plane."""
    return placement.to_index(local_positions(node))


def needs_review(node) -> list[bool]:
    """For each point, whether it waits for a person's review."""
    return [not node.GetNthControlPointSelected(row) for row in range(node.GetNumberOfControlPoints())]
