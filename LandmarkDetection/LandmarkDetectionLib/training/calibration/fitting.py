"""Calibration: what a model says of films that it did not learn from, against the truth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from ...errors import LandmarkDetectionError
from ...heatmaps import covariance, expected_radial_error
from ...inference.doubt import bounded, combined
from ...priors import ErrorModel
from ...uncertainty.certainty import LEVEL, Certainty, quantiles_of_ratio
from ...uncertainty.conformal import joint_masses, landmark_quantiles
from ...uncertainty.regions import ellipse_distance, truth_mass
from ...uncertainty.review import threshold_at
from ...uncertainty.temperature import fit_temperatures

ERRONEOUS = 0.1
"""A landmark counts as wrong when it is off by more than this share of the centroid size (2.5 mm on a usual knee)."""

REFUSAL_MARGIN = 1.8
"""A film is refused when its mean expected error is this many times the largest among the films calibrated on."""

SHAPE_SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
"""How much of the distance to where the other landmarks put one may count in its expected error."""

WIDENINGS = (1.0, 1.25, 1.5, 1.75, 2.0)
"""Factors from the temperature to that for expected errors that are tried."""

CEILINGS = (1.5, 2.0, 2.5)
"""Multiples of the mean expected radial error that are tried as its ceiling.

Higher ones, or none, make the errors of skulls likelier by less than 0.001 a point, cross-validated, and leave the
flattest heatmaps, which say least, as they are.
"""

POOLED = 300.0
"""Films that the mean error of all landmarks counts for in that of each: few films tell little of a single one."""

SHARED = 20.0
"""Volumes that the temperature of all landmarks counts for in that of each: many a landmark is seen in a few only."""

SENSITIVITY = 0.5
"""Share of the wrong landmarks that the review threshold flags (Contour-Hugging Heatmaps, section 2.3)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Detections of m films that the networks did not learn from, before any calibration, in cells of the heatmaps.

    Or of m volumes. Of these, a landmark counts where it is in view and was found; no heatmap says where others are.

    Attributes:
        groups: (m,) subject or study of each film; films of one group are never on both sides of a division.
        logits: (m, n, h, w) or (m, n, d, h, w) log-probabilities, in half precision: there may be thousands.
        truth, found: (m, n, 2 or 3), NaN where unknown or absent.
        cell: (m,) length of a cell, and `size`, (m,) of the shape (`shape_size`), in pixels of the film or in mm.
        strange: (m, n) distance to where the other landmarks put each, see `ShapePrior.residuals`.
        spread: (m, n, d, d) covariances and `radius`, (m, n) expected errors, where the model does not take them from
            its heatmaps; else None.
    """

    groups: tuple[str, ...]
    logits: Tensor
    truth: Tensor
    found: Tensor
    cell: np.ndarray
    size: np.ndarray
    strange: np.ndarray
    spread: np.ndarray | None = None
    radius: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.groups)

    def select(self, rows: Sequence[int]) -> Evidence:
        """Some of the films."""
        chosen = np.asarray(rows)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        groups = tuple(self.groups[row] for row in chosen)
        picked = {name: None if value is None else value[chosen] for name, value in values.items() if name != "groups"}
        return Evidence(groups, **picked)

    def of(self, groups: Collection[str]) -> Evidence:
        """The films of some subjects or studies."""
        return self.select([row for row, group in enumerate(self.groups) if group in groups])

    def within(self, reach: float) -> Evidence:
        """The same, without the landmarks that lie ``reach`` centroid sizes or more from their truth."""
        far = torch.from_numpy(self.errors >= reach)
        return replace(self, truth=torch.where(far[..., None], torch.nan, self.truth))

    def joined(self, other: Evidence) -> Evidence:
        """The films of both."""
        values = {}
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            join = torch.cat if isinstance(one, Tensor) else np.concatenate
            values[field.name] = None if one is None else one + two if field.name == "groups" else join([one, two])
        return Evidence(**values)

    @property
    def dims(self) -> int:
        """2 for films, 3 for volumes."""
        return self.truth.shape[-1]

    @property
    def apart(self) -> np.ndarray:
        """(m, n, 2 or 3) errors in cells."""
        return (self.found - self.truth).double().numpy()

    @property
    def errors(self) -> np.ndarray:
        """(m, n) radial errors as shares of the centroid size."""
        return np.linalg.norm(self.apart, axis=-1) * (self.cell / self.size)[:, None]

    def each(
        self,
        temperature: Tensor,
        measure: Callable[[Tensor, int, np.ndarray], np.ndarray],
        shape: tuple[int, ...] = (),
    ) -> np.ndarray:
        """Something about each heatmap, (m, n, *shape): one image after the other, NaN for what does not count.

        Args:
            temperature: (n,).
            measure: takes the tempered log-probabilities (k, ...), float32, of some landmarks of one image, the row of
                the image and the rows (k,) of the landmarks; its result is (k, *shape).
        """
        counts = np.isfinite(self.errors) | (self.dims == 2)
        values = np.full((*counts.shape, *shape), np.nan)
        for image, maps in enumerate(self.logits):
            rows = np.flatnonzero(counts[image])
            if len(rows):
                tempered = maps[rows].float() / temperature[rows].view(-1, *[1] * self.dims)
                values[image, rows] = measure(tempered, image, rows)
        return values

    def spreads(self, temperature: Tensor) -> np.ndarray:
        """Covariances (m, n, d, d) in cells, before any scale."""
        if self.spread is not None:
            return self.spread

        def measure(maps: Tensor, image: int, rows: np.ndarray) -> np.ndarray:
            return covariance(maps, self.found[image, rows], self.dims).double().numpy()

        return self.each(temperature, measure, (self.dims, self.dims))

    def radii(self, temperature: Tensor) -> np.ndarray:
        """Expected errors (m, n) in cells, before any scale."""
        if self.radius is not None:
            return self.radius

        def measure(maps: Tensor, image: int, rows: np.ndarray) -> np.ndarray:
            return expected_radial_error(maps, self.found[image, rows], self.dims).double().numpy()

        return self.each(temperature, measure)

    def needed(self, temperature: Tensor) -> np.ndarray:
        """Masses (m, n) of the smallest highest-density regions that hold the truths; 1 beyond the heatmap."""

        def measure(maps: Tensor, image: int, rows: np.ndarray) -> np.ndarray:
            return truth_mass(maps.numpy(), self.truth[image, rows].numpy())

        return self.each(temperature, measure)

    def error_model(self, reach: float = np.inf) -> ErrorModel:
        """How the errors go together, from films on which every landmark is nearer than ``reach`` centroid sizes."""
        whole = np.isfinite(self.errors).all(axis=1) & (np.nan_to_num(self.errors) < reach).all(axis=1)
        return ErrorModel.fit(self.apart[whole], (self.size / self.cell)[whole])

    def figures(self) -> dict:
        """Radial errors in pixels of the film, or in mm; of volumes also how often what is in view, or not, is told."""
        errors = self.errors * self.size[:, None]
        known = errors[np.isfinite(errors)]
        radial = {
            "mean": float(known.mean()),
            "median": float(np.median(known)),
            "p95": float(np.quantile(known, 0.95)),
        }
        found, there = (torch.isfinite(places).all(dim=-1) for places in (self.found, self.truth))
        if self.dims == 2:
            return {"films": len(self), "absent": int((~found).sum()), "radial_error_px": radial}
        return {
            "volumes": len(self),
            "present_found": float(found[there].float().mean()) if there.any() else None,
            "absent_reported": float((~found)[~there].float().mean()) if (~there).any() else None,
            "radial_error_mm": radial,
        }


def fit(evidence: Evidence, reach: float = np.inf, wrong: float = ERRONEOUS) -> dict:
    """The values of a `Calibration` that films with a known truth decide, in its fields.

    Args:
        reach: error in centroid sizes beyond which a landmark does not count for the ellipses: one on the wrong level
            of a column is not a matter of a larger ellipse.

    Raises:
        LandmarkDetectionError: no landmark was found where one is.
    """
    if not np.isfinite(evidence.errors).any():
        raise LandmarkDetectionError("No landmark with a known place was found; check that the images fit the model.")
    # As in the paper the truth is a cell, not a place between cells: the confidence in a cell is to be true of it.
    truth = evidence.truth.round()
    temperature = fit_temperatures(evidence.logits, truth, 0.0 if evidence.dims == 2 else SHARED).float()
    errors = evidence.errors
    distances = np.where(errors < reach, ellipse_distance(evidence.apart, evidence.spreads(temperature)), np.nan)
    said = expected_errors(evidence, temperature)
    expected = said.expected
    needed = evidence.needed(temperature)
    masses = landmark_quantiles(needed, LEVEL)
    known = np.isfinite(errors) & np.isfinite(expected)
    together = joint_masses(needed, masses, LEVEL)
    return {
        "temperature": tuple(temperature.double().tolist()),
        "error_temperature": tuple((said.widening * temperature).double().tolist()),
        "error_ceiling": said.ceiling,
        "error_scale": tuple(said.error_scale.tolist()),
        "shape_scale": tuple(said.shape_scale.tolist()),
        "covariance_scale": tuple((landmark_quantiles(distances, LEVEL) / chi2.ppf(LEVEL, evidence.dims)).tolist()),
        "review_threshold": threshold_at(expected[known], errors[known] > wrong, SENSITIVITY),
        "refusal_threshold": REFUSAL_MARGIN * float(np.nanmax(np.nanmean(said.doubts[known.any(axis=1)], axis=1))),
        "certainty": Certainty(LEVEL, masses, together, quantiles_of_ratio(expected, errors)),
    }


@dataclass(frozen=True, eq=False)
class ExpectedErrors:
    """Expected errors (m, n) as shares of the centroid size, with and without ceiling, and what makes them.

    ``widening`` is the factor from the temperature to that for errors, ``ceiling`` a share of the centroid size,
    ``cost`` the mean negative log-likelihood of the errors if they are spread exponentially about what is expected.
    """

    expected: np.ndarray
    doubts: np.ndarray
    widening: float
    ceiling: float
    error_scale: np.ndarray
    shape_scale: np.ndarray
    cost: float


def expected_errors(evidence: Evidence, temperature: Tensor) -> ExpectedErrors:
    """The root sum square of what the heatmap and what the other landmarks say, its mean right for every landmark.

    How wide the heatmaps are taken, up to where they say more, and how much the other landmarks count, is what makes
    the errors likeliest.
    """
    errors, share = evidence.errors, (evidence.cell / evidence.size)[:, None]
    strange = evidence.strange * share
    shape_scale = pooled_ratio(errors, strange)
    # Of a volume that shows two points the size, in which a ceiling is told, is not known.
    ceilings = CEILINGS if evidence.dims == 2 else (np.inf,)
    found = []
    for widening in WIDENINGS if evidence.radius is None else (1.0,):
        said = evidence.radii(widening * temperature) * share
        for ceiling in np.nanmean(said) * np.array(ceilings):
            error_scale = pooled_ratio(errors, bounded(said, ceiling))
            for part in SHAPE_SHARES:
                expected = combined(said, strange, ceiling, error_scale, part * shape_scale)
                scale = pooled_ratio(errors, expected)
                cost = float(np.nanmean(np.log(scale * expected) + errors / (scale * expected)))
                scales = scale * error_scale, scale * part * shape_scale
                doubts = scale * combined(said, strange, np.inf, error_scale, part * shape_scale)
                found.append(ExpectedErrors(scale * expected, doubts, widening, float(ceiling), *scales, cost))
    return min(found, key=lambda one: one.cost)


def pooled_ratio(errors: np.ndarray, expected: np.ndarray, weight: float = POOLED) -> np.ndarray:
    """(n,) mean error over mean expected error of each landmark, drawn towards that of all by ``weight`` films."""
    known = np.isfinite(errors) & np.isfinite(expected)
    seen, said = np.where(known, errors, 0.0), np.where(known, expected, 0.0)
    overall = seen.sum() / said.sum()
    usual = said.sum() / known.sum()
    return (seen.sum(axis=0) + weight * overall * usual) / (said.sum(axis=0) + weight * usual)
