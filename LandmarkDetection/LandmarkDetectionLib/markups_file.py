"""Landmarks as a Slicer Markups file (``.mrk.json``, schema 1.0.3), written without Slicer.

The file lies in the frame that Slicer gives the *image file*, whatever spacing was used to measure: Slicer shows a PNG
or JPG with 1 mm pixels, so points written in true millimetres would miss the film.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .geometry import Frame
from .landmarks import LandmarkSet

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
ERROR_MEASUREMENT = "expectedError"
COVARIANCE_TERMS = {"RR": (0, 0), "RA": (0, 1), "RS": (0, 2), "AA": (1, 1), "AS": (1, 2), "SS": (2, 2)}
NOT_AVAILABLE = -1.0
"""Stands for a missing expected error: NaN is not JSON."""

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_ORIENTATION = [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]  # the RAS axes, written in LPS
_WORDS = {"predicted": "predicted", "moved": "placed by the user", "review": "predicted, please review"}


def markups_document(landmarks: LandmarkSet, scene_frame: Frame) -> dict:
    """The content of the file: one list of points with labels, descriptions, expected errors and covariances.

    Args:
        landmarks: measured in their own frame, whose grid is that of the image.
        scene_frame: the same grid as Slicer places it, see `LandmarkDetectionLib.images.Image.scene_frame`.

    Absent landmarks are *missing*, those that were not found *undefined*; neither has a position.
    """
    points = scene_frame.to_physical(landmarks.positions)
    descriptions = point_descriptions(landmarks)
    controls = [
        _control_point(row, landmark.id, points[row], landmarks.statuses[row], descriptions[row])
        for row, landmark in enumerate(landmarks.schema.landmarks)
    ]
    return {
        "@schema": SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "locked": False,
                "fixedNumberOfControlPoints": True,
                "labelFormat": "%N-%d",
                "lastUsedControlPointNumber": len(controls),
                "controlPoints": controls,
                "measurements": _measurements(landmarks, scene_frame),
            }
        ],
    }


def write_markups(path: Path, landmarks: LandmarkSet, scene_frame: Frame) -> None:
    """Write `markups_document` to `path`.

    Raises:
        OSError: the file cannot be written.
    """
    document = json.dumps(markups_document(landmarks, scene_frame), indent=1, allow_nan=False, ensure_ascii=False)
    Path(path).write_text(document + "\n", encoding="utf-8")


def point_descriptions(landmarks: LandmarkSet) -> list[str]:
    """What a person reads beside each point, for example "1.2 mm expected error, predicted"; px without spacing."""
    errors, unit = reported_errors(landmarks)
    words = []
    for status, error, position in zip(landmarks.statuses, errors, landmarks.positions, strict=True):
        if status == "absent":
            words.append("absent")
        elif not np.isfinite(position).all():
            words.append("not found")
        elif status == "moved":
            words.append(_WORDS[status])
        else:
            words.append(f"{error:.1f} {unit} expected error, {_WORDS[status]}")
    return words


def reported_errors(landmarks: LandmarkSet) -> tuple[np.ndarray, str]:
    """(n,) expected errors and their unit: "mm" where the spacing is known, else "px"."""
    millimetres = landmarks.expected_errors_mm()
    return (landmarks.expected_errors, "px") if millimetres is None else (millimetres, "mm")


def _control_point(row: int, label: str, position: np.ndarray, status: str, description: str) -> dict:
    defined = status != "absent" and bool(np.isfinite(position).all())
    state = "defined" if defined else "missing" if status == "absent" else "undefined"
    return {
        "id": str(row + 1),
        "label": label,
        "description": description,
        "associatedNodeID": "",
        "position": [float(value) for value in position] if defined else "",
        "orientation": _ORIENTATION,
        # As in the scene: a point that waits for a person's review is not selected.
        "selected": status != "review",
        "locked": False,
        "visibility": True,
        "positionStatus": state,
    }


def _measurements(landmarks: LandmarkSet, scene_frame: Frame) -> list[dict]:
    errors, unit = reported_errors(landmarks)
    placed = np.isfinite(landmarks.positions).all(axis=1)
    steps = scene_frame.steps * _LPS_TO_RAS[:, None]
    covariances = steps @ landmarks.covariances @ steps.T
    usable = placed & np.isfinite(covariances).all(axis=(1, 2))
    rows = [_measurement(ERROR_MEASUREMENT, np.where(placed & np.isfinite(errors), errors, NOT_AVAILABLE), unit)]
    for term, (row, column) in COVARIANCE_TERMS.items():
        rows.append(_measurement(f"covariance{term}", np.where(usable, covariances[:, row, column], 0.0), "mm2"))
    return rows


def _measurement(name: str, values: np.ndarray, unit: str) -> dict:
    return {
        "name": name,
        "enabled": True,
        "units": unit,
        "printFormat": "%5.3f %s",
        "controlPointValues": [float(value) for value in values],
    }
