"""Runs a detector over a data set and puts all figures together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import Cancelled, LandmarkDetectionError
from ..images import read_image
from ..inference.detection import Detection
from ..inference.detector import Detector
from ..landmarks import LandmarkSchema
from . import certainty, metrics
from .clicks import Protocol, click_figures, protocol_named, simulate, simulate_manual
from .dataset import Case, DataSet


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one image: a detection with its errors, or the reason why it was refused.

    Attributes:
        truth: (n, d) index coordinates in the order of the detector's landmarks, NaN where unknown.
        confidence, correct: the heatmaps' certainty of their best cells, and whether they hold the truth.
        curve, manual: mean error in pixels after each click, with the session and by hand.
    """

    case: Case
    truth: np.ndarray
    detection: Detection | None = None
    refusal: str = ""
    millimetre_errors: np.ndarray | None = None
    confidence: np.ndarray = field(default_factory=lambda: np.array([]))
    correct: np.ndarray = field(default_factory=lambda: np.array([], dtype=bool))
    curve: np.ndarray | None = None
    manual: np.ndarray | None = None

    @property
    def errors(self) -> np.ndarray:
        """(n,) radial errors in pixels of the image as loaded."""
        return metrics.radial_errors(self.detection.landmarks.positions, self.truth)


def evaluate(
    dataset: DataSet,
    detector: Detector,
    schema: LandmarkSchema,
    split: str | None = None,
    clicks: int = 0,
    protocol: str = "ours",
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> tuple[dict, list[Outcome]]:
    """Detect on every image of a split and measure.

    Returns:
        the figures, ready for ``metrics.json``, and one outcome for each image.

    Raises:
        LandmarkDetectionError: the data set does not fit the model, or the protocol or split is unknown.
    """
    rules = protocol_named(protocol)
    rows = _rows(dataset, schema)
    cases = dataset.split(split)
    outcomes = []
    for done, case in enumerate(cases):
        progress(done, len(cases), case.name)
        truth = _ordered(case.truth, rows)
        try:
            detection = detector.detect(read_image(case.path, spacing=dataset.spacing_mm))
        except Cancelled:
            raise
        except LandmarkDetectionError as error:
            outcomes.append(Outcome(case, truth, refusal=str(error)))
            continue
        outcomes.append(_measured(case, truth, detection, clicks, rules))
    progress(len(cases), len(cases), "")
    return figures(outcomes, schema, rules), outcomes


def _rows(dataset: DataSet, schema: LandmarkSchema) -> list[int | None]:
    rows = [dataset.landmarks.index(id) if id in dataset.landmarks else None for id in schema.ids]
    if all(row is None for row in rows):
        raise LandmarkDetectionError(
            f"The data set '{dataset.name}' has none of the landmarks of '{schema.name}'; choose a model made for it."
        )
    return rows


def _ordered(truth: np.ndarray, rows: Sequence[int | None]) -> np.ndarray:
    unknown = np.full(truth.shape[1], np.nan)
    return np.array([unknown if row is None else truth[row] for row in rows])


def _measured(case: Case, truth: np.ndarray, detection: Detection, clicks: int, rules: Protocol) -> Outcome:
    landmarks = detection.landmarks
    frame = landmarks.frame
    millimetres = None
    if frame.has_millimetres:
        millimetres = metrics.radial_errors(landmarks.physical(), frame.to_physical(truth))
    heatmaps = detection.heatmaps
    cells = heatmaps.frame.to_index(frame.to_physical(truth))
    confidence, correct = certainty.heatmap_confidence(heatmaps.logits, cells)
    return Outcome(
        case,
        truth,
        detection,
        millimetre_errors=millimetres,
        confidence=confidence,
        correct=correct,
        curve=simulate(detection, truth, clicks, rules),
        manual=simulate_manual(landmarks.positions, truth, clicks),
    )


def figures(outcomes: Sequence[Outcome], schema: LandmarkSchema, rules: Protocol) -> dict:
    """The content of ``metrics.json``; a figure that cannot be computed is null."""
    found = [outcome for outcome in outcomes if outcome.detection is not None]
    counts = {"images": len(outcomes), "refused": len(outcomes) - len(found)}
    if not found:
        raise LandmarkDetectionError(
            f"None of the {len(outcomes)} images could be used; the first was refused because: {outcomes[0].refusal}"
        )
    sides = [o.detection.side == o.case.side for o in found if o.case.side is not None]
    truth = np.stack([o.truth for o in found])
    predicted = np.stack([o.detection.landmarks.positions for o in found])
    chains = {bone: [schema.index(id) for id in chain] for bone, chain in schema.chains.items()}
    pixels = metrics.radial_errors(predicted, truth)
    with_mm = [o.millimetre_errors for o in found if o.millimetre_errors is not None]
    millimetres = np.stack(with_mm) if with_mm else None
    return {
        **counts,
        "missed": int((np.isfinite(truth).all(-1) & ~np.isfinite(predicted).all(-1)).sum()),
        "side_accuracy": float(np.mean(sides)) if sides else None,
        "radial_error_px": metrics.summary(pixels),
        "radial_error_normal_px": metrics.summary(metrics.normal_errors(predicted, truth, list(chains.values()))),
        "radial_error_mm": None if millimetres is None else metrics.summary(millimetres),
        "within_px": metrics.within(pixels, metrics.WITHIN_PIXELS),
        "within_mm": None if millimetres is None else metrics.within(millimetres, metrics.WITHIN_MILLIMETRES),
        "pck_bone": metrics.bone_pck(*((pixels, chains, "px") if millimetres is None else (millimetres, chains, "mm"))),
        "by_landmark_px": {
            id: metrics.summary(pixels[:, [k]]) for k, id in enumerate(schema.ids) if np.isfinite(pixels[:, k]).any()
        },
        **click_figures([o.curve for o in found], [o.manual for o in found], rules),
        **_certainty_figures(found, pixels, predicted, truth, schema),
    }


def _certainty_figures(
    found: Sequence[Outcome], pixels: np.ndarray, predicted: np.ndarray, truth: np.ndarray, schema: LandmarkSchema
) -> dict:
    covariances = np.stack([o.detection.landmarks.covariances for o in found])
    expected, errors = np.stack([o.detection.landmarks.expected_errors for o in found]), pixels
    if all(o.millimetre_errors is not None for o in found):
        expected = np.stack([o.detection.landmarks.expected_errors_mm() for o in found])
        errors = np.stack([o.millimetre_errors for o in found])
    coverage, area = certainty.regions(predicted, covariances, truth, schema.ids)
    return {
        "ece": certainty.calibration_error(
            np.concatenate([o.confidence for o in found]), np.concatenate([o.correct for o in found])
        ),
        "ere_correlation": certainty.grouped_correlation(expected, errors),
        "auc": {f"{radius}": certainty.area_under_curve(expected, errors, radius) for radius in (2, 4)},
        "coverage": coverage,
        "region_area": area,
    }
