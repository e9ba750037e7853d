"""Runs a detector over a data set and measures what it finds and how it reacts to corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import Cancelled, LandmarkDetectionError, NotThisAnatomyError
from ..images import read_image
from ..inference.detection import Detection
from ..inference.detector import Detector
from ..landmarks import LandmarkSchema
from ..uncertainty.reliability import heatmap_confidence
from .clicks import Annotator, ManualAnnotator, SessionAnnotator, simulate
from .dataset import Case, DataSet
from .figures import figures
from .outcome import Outcome
from .protocols import Protocol, protocol_named
from .regions import REGION_LEVEL, density_regions, ellipse_regions

Progress = Callable[[int, int, str], None]


def evaluate(
    dataset: DataSet,
    detector: Detector,
    schema: LandmarkSchema,
    split: str | None = None,
    clicks: int = 0,
    protocol: str = "ours",
    progress: Progress = lambda done, total, name: None,
    clicked: Progress = lambda done, total, name: None,
    annotator: Callable[[Detection], Annotator] = SessionAnnotator,
) -> tuple[dict, list[Outcome]]:
    """Detect on every image of a split, correct, and measure.

    Args:
        clicks: corrections that are simulated on each image.
        protocol: a name of `PROTOCOLS`.
        progress: told the images done, how many there are, and the name of the next.
        clicked: the same for the corrections of one image.
        annotator: what is corrected, made from a detection.

    Returns:
        the figures, ready for ``metrics.json``, and one outcome for each image.

    Raises:
        LandmarkDetectionError: the data set does not fit the model, or the protocol or split is unknown.
    """
    rules = protocol_named(protocol)
    rows = truth_rows(dataset, schema)
    cases = dataset.split(split)
    outcomes = []
    for done, case in enumerate(cases):
        progress(done, len(cases), case.name)
        truth = in_order_of(case.truth, rows)
        try:
            detection = detector.detect(read_image(case.path, spacing=dataset.spacing_mm))
        except Cancelled:
            raise
        except LandmarkDetectionError as error:
            score = error.score if isinstance(error, NotThisAnatomyError) else None
            outcomes.append(Outcome(case, truth, refusal=str(error), score=score))
            continue
        outcomes.append(_measured(case, truth, detection, annotator(detection), clicks, rules, clicked))
    progress(len(cases), len(cases), "")
    return figures(outcomes, schema, rules, [row is not None for row in rows]), outcomes


def truth_rows(dataset: DataSet, schema: LandmarkSchema) -> list[int | None]:
    """The row of each landmark of a schema in the truth of a data set, None where the data set does not have it.

    Raises:
        LandmarkDetectionError: the data set has none of them.
    """
    rows = [dataset.landmarks.index(id) if id in dataset.landmarks else None for id in schema.ids]
    if all(row is None for row in rows):
        raise LandmarkDetectionError(
            f"The data set '{dataset.name}' has none of the landmarks of '{schema.name}'; choose a model made for it."
        )
    return rows


def in_order_of(truth: np.ndarray, rows: Sequence[int | None]) -> np.ndarray:
    """The truth (n, d) in the order that `truth_rows` found, NaN where there is none."""
    unknown = np.full(truth.shape[1], np.nan)
    return np.array([unknown if row is None else truth[row] for row in rows])


def _measured(
    case: Case,
    truth: np.ndarray,
    detection: Detection,
    annotator: Annotator,
    clicks: int,
    rules: Protocol,
    clicked: Progress,
) -> Outcome:
    landmarks, frame = detection.landmarks, detection.landmarks.frame
    held = {
        "ellipses": ellipse_regions(landmarks.positions, landmarks.covariances, truth, REGION_LEVEL),
        "contours": density_regions(detection, truth),
    }
    if detection.heatmaps is not None:
        cells = detection.heatmaps.cells(frame.to_physical(truth))
        if frame.dims == 3:
            # The heatmap of a landmark that is said to be out of view says nothing.
            cells[~np.isfinite(landmarks.positions).all(axis=-1)] = np.nan
        sure, right = heatmap_confidence(detection.heatmaps.logits, cells)
        held |= {"confidence": sure, "correct": right}
    if np.isfinite(truth).all(axis=-1).any():
        clicked(0, clicks, case.name)
        by_hand = ManualAnnotator(landmarks.positions, landmarks.covariances)
        steps = None if frame.dims == 2 else frame.spacing
        held["corrections"] = simulate(
            annotator, truth, clicks, rules, frame.size, lambda done: clicked(done, clicks, case.name), steps
        )
        held["manual"] = simulate(by_hand, truth, clicks, rules, frame.size, steps=steps)
    return Outcome(case, truth, detection, score=detection.fitness, **held)
