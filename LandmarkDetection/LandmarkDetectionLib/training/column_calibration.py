"""What the vertebrae of films kept out say about errors, against the errors that were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from ..errors import LandmarkDetectionError
from ..images import read_image
from ..inference.bundle import Bundle
from ..inference.detector import Detector
from ..preprocessing.crop import centroid_size
from ..priors import ErrorModel
from .calibration import ERRONEOUS, REGION, threshold_at
from .column_films import CORNERS, sorted_vertebrae
from .films import read_labels

_LEVEL_RIGHT = 0.5
"""A vertebra has the right level when its centre is nearer to the true one than this share of the level's height."""

NEUTRAL = {"error_scale": 1.0, "covariance_scale": 1.0}
"""With these a model says what its maps say."""


@dataclass(frozen=True, eq=False)
class ColumnEvidence:
    """Films that the network did not learn from, all in pixels of the film as loaded.

    Attributes:
        found, truth: (m, n, 2), found is NaN where a landmark was called absent.
        covariances: (m, n, 2, 2) and `expected` (m, n), by the model without calibration.
    """

    found: np.ndarray
    truth: np.ndarray
    covariances: np.ndarray
    expected: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(m,) centroid sizes of the true landmarks."""
        return np.array([centroid_size(points) for points in self.truth])

    @property
    def errors(self) -> np.ndarray:
        """(m, n) radial errors, NaN where absent."""
        return np.linalg.norm(self.found - self.truth, axis=-1)

    @property
    def level_right(self) -> np.ndarray:
        """(m, n), whether the landmark belongs to a vertebra of the right level."""
        found, truth = (points.reshape(len(points), -1, CORNERS, 2) for points in (self.found, self.truth))
        height = np.linalg.norm(truth[:, :, 2:].mean(axis=2) - truth[:, :, :2].mean(axis=2), axis=-1)
        right = np.linalg.norm(found.mean(axis=2) - truth.mean(axis=2), axis=-1) < _LEVEL_RIGHT * height
        return np.repeat(right, CORNERS, axis=1)

    def joined(self, other: ColumnEvidence) -> ColumnEvidence:
        """Both as one."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return ColumnEvidence(*(np.concatenate(pair) for pair in pairs))

    def error_model(self) -> ErrorModel:
        """How errors go together, from the films on which every level is right."""
        whole = self.level_right.all(axis=1)
        return ErrorModel.fit((self.found - self.truth)[whole], self.sizes[whole])

    def fit(self) -> dict[str, float]:
        """The values of a `Calibration`; those of the landmarks themselves from levels that are right."""
        right = self.level_right
        apart, spread = (self.found - self.truth)[right], self.covariances[right]
        distances = np.einsum("ni,ni->n", apart, np.linalg.solve(spread, apart[..., None])[..., 0])
        scale = float(self.errors[right].mean() / self.expected[right].mean())
        found = np.isfinite(self.errors)
        relative, expected = self.errors / self.sizes[:, None], scale * self.expected / self.sizes[:, None]
        return {
            "error_scale": scale,
            "covariance_scale": float(np.quantile(distances, REGION) / chi2.ppf(REGION, 2)),
            "review_threshold": threshold_at(expected[found], relative[found] > ERRONEOUS),
        }

    def figures(self) -> dict:
        """Radial errors in pixels."""
        errors = self.errors[np.isfinite(self.errors)]
        return {
            "films": len(self.truth),
            "films_with_wrong_level": int((~self.level_right).any(axis=1).sum()),
            "absent": int(np.isnan(self.errors).sum()),
            "radial_error_px": {
                "mean": float(errors.mean()),
                "median": float(np.median(errors)),
                "p95": float(np.quantile(errors, 0.95)),
            },
        }


def gather(bundle: Bundle, data: Path, names: Sequence[str]) -> ColumnEvidence:
    """Evidence from labelled films; those that the model refuses are left out."""
    labels, _ = read_labels(data)
    detector = Detector(bundle, device="cpu")
    rows = []
    for name in names:
        try:
            landmarks = detector.detect(read_image(data / "images" / name)).landmarks
        except LandmarkDetectionError:
            continue
        truth = sorted_vertebrae(labels[name])
        rows.append((landmarks.positions, truth, landmarks.covariances, landmarks.expected_errors))
    if not rows:
        raise LandmarkDetectionError(f"No image of '{data}' could be used; check that its images fit the model.")
    return ColumnEvidence(*(np.stack(arrays) for arrays in zip(*rows, strict=True)))


def members(bundle: Bundle, **weights: str) -> Bundle:
    """The bundle with one file of weights for each stage that is named."""
    stages = {name: replace(bundle.stages[name], weights=(file,)) for name, file in weights.items()}
    return replace(bundle, stages={**bundle.stages, **stages})
