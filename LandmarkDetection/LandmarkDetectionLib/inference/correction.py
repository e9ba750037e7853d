"""How the other landmarks answer to what the user fixed: a function of detection, pins and absent points."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ..landmarks import LandmarkSet
from ..priors import Posterior
from ..priors.gaussian import expected_radius
from .decoding import Decoded, HeatmapGrid, messages
from .detection import Detection, Heatmaps

_SMALLEST_DEVIATION = 0.05  # index steps; a heatmap that claims to be surer would leave nothing to the others

Pins = Mapping[int, np.ndarray]
"""Row of each landmark the user has fixed, and its position (d,) in index coordinates."""


@dataclass(frozen=True, eq=False)
class Observations:
    """What the image said at first: positions (n, d) and covariances (n, d, d) in index units, NaN where nothing."""

    positions: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, detection: Detection) -> Observations:
        """Moments of the heatmaps where there are some, otherwise the landmarks of the detection as they are."""
        landmarks = detection.landmarks
        spacing = landmarks.frame.spacing
        if detection.heatmaps is None:
            positions, covariances = landmarks.positions.copy(), landmarks.covariances.copy()
        else:
            positions, covariances = HeatmapGrid(detection.heatmaps, landmarks.frame).moments()
            positions, covariances = positions / spacing, covariances / np.outer(spacing, spacing)
        missing = ~np.isfinite(landmarks.positions).all(axis=1) | ~np.isfinite(covariances).all(axis=(1, 2))
        positions[missing], covariances[missing] = np.nan, np.nan
        return cls(positions, covariances + _SMALLEST_DEVIATION**2 * np.eye(len(spacing)))


class Corrector:
    """Moves the free landmarks of a detection. Lengths inside are isotropic: index times spacing.

    Expected errors are those of the detection times what the correction changed: the ratio of the expected radius with
    the pins to that without. So a calibrated error stays calibrated, and nothing changes before something was fixed.
    """

    def __init__(self, detection: Detection, observations: Observations, heatmaps: Heatmaps | None) -> None:
        self.detection, self.base, self.prior = detection, detection.landmarks, detection.prior
        self.observations = observations
        self.spacing = self.base.frame.spacing
        self.grid = None if heatmaps is None else HeatmapGrid(heatmaps, self.base.frame)
        self._seen = observations.positions * self.spacing
        self._seen_covariances = observations.covariances * np.outer(self.spacing, self.spacing)
        self._cache: dict = {}

    def released(self, pins: Pins, absent: Collection[int]) -> LandmarkSet:
        """Every free landmark decoded from its own heatmap times what all others and the pins say about it.

        Where no heatmaps are attached, a Gaussian takes the place of each. The detection itself when nothing is pinned.
        """
        posterior = self._posterior(pins, absent) if pins else None
        if posterior is None:
            return self._assembled(pins, absent, {}, 1.0)
        before = self._radii_before(absent)
        decoded = self._decode(posterior, pins, absent)
        return self._assembled(pins, absent, decoded, posterior.scaling, before)

    def refined(self) -> LandmarkSet:
        """Every landmark decoded from its own heatmap times what all others say, with nothing fixed by the user.

        For a detector that wants the prior in its first answer. Covariances and expected errors are those of the
        product, not calibrated.
        """
        posterior = self._posterior({}, ())
        decoded = {} if posterior is None else self._decode(posterior, {}, ())
        return self._assembled({}, (), decoded, 1.0, None)

    def followed(
        self, current: LandmarkSet, pins: Pins, absent: Collection[int], index: int, position: np.ndarray
    ) -> LandmarkSet:
        """Live follow: every free landmark moves from where it is by as much as the posterior mean does.

        The difference of two posteriors, one with the dragged point where it was and one with it where it is now, so
        that nothing jumps when a drag begins.
        """
        held = {row: place for row, place in pins.items() if row != index}
        absent = frozenset(absent) - {index}
        now = self._posterior({**held, index: position}, absent)
        if now is None:
            return self._assembled({**held, index: position}, absent, {}, 1.0)
        start = current.positions[index]
        origin = {**held, index: start} if np.isfinite(start).all() else held
        reference = self._cached("start", origin, absent, lambda: self._posterior(origin, absent))
        shift = now.positions - reference.positions if reference is not None else np.zeros_like(now.positions)
        unscaled = now.covariances / now.scaling
        radii = expected_radius(unscaled)
        decoded = {
            row: Decoded(current.positions[row] * self.spacing + shift[row], unscaled[row], radii[row])
            for row in self._free({**held, index: position}, absent)
        }
        before = self._cached("gaussian", {}, absent, lambda: self._gaussian_radii(absent))
        return self._assembled({**held, index: position}, absent, decoded, now.scaling, before)

    def most_helpful(self, current: LandmarkSet, pins: Pins, absent: Collection[int]) -> int | None:
        """Row of the free landmark that, once fixed, lowers the summed variance of all most; None if none is free.

        ``sum_j tr(V_ji V_ii^-1 V_ij)`` of the joint posterior covariance V, calibrated as the expected errors are.
        """
        candidates = self._free(pins, absent)
        posterior = self._posterior(pins, absent) if candidates else None
        if posterior is None:
            return max(candidates, key=lambda row: current.expected_errors[row], default=None)
        count, dims = self._seen.shape
        before = self._cached("gaussian", {}, absent, lambda: self._gaussian_radii(absent))
        factors = np.array([self._calibration(row, before) for row in range(count)])
        joint = posterior.joint.reshape(count, dims, count, dims) * factors[:, None, None, None]
        joint = joint * factors[None, None, :, None]
        gains = [
            np.einsum("jab,bc,jac->", rows, np.linalg.inv(joint[row, :, row, :]), rows)
            for row in candidates
            for rows in [joint[candidates][:, :, row, :]]
        ]
        return candidates[int(np.argmax(gains))]

    def completed(self, current: LandmarkSet, pins: Pins, absent: Collection[int]) -> np.ndarray | None:
        """(n, d) isotropic positions of the whole shape, absent landmarks filled in by the prior; None if too few."""
        posterior = self._posterior(pins, absent)
        known = np.isfinite(current.positions).all(axis=1, keepdims=True)
        return None if posterior is None else np.where(known, current.positions * self.spacing, posterior.positions)

    def _free(self, pins: Pins, absent: Collection[int]) -> list[int]:
        """Rows that may move: found by the model, neither pinned nor marked absent."""
        found = np.isfinite(self.base.positions).all(axis=1)
        return [row for row in np.flatnonzero(found).tolist() if row not in pins and row not in absent]

    def _posterior(self, pins: Pins, absent: Collection[int]) -> Posterior | None:
        """Joint posterior; None where too few points are known to place a shape."""
        seen = self._seen.copy()
        seen[list(absent)] = np.nan
        fixed, places = np.zeros(len(seen), dtype=bool), np.full_like(seen, np.nan)
        for row, place in pins.items():
            fixed[row], places[row] = True, place * self.spacing
        known = np.where(fixed[:, None], places, seen)
        known = known[np.isfinite(known).all(axis=1)]
        if len(known) < seen.shape[1] or np.ptp(known, axis=0).max() == 0:
            return None
        return self.prior.posterior(seen, self._seen_covariances, fixed, places)

    def _decode(self, posterior: Posterior, pins: Pins, absent: Collection[int]) -> dict[int, Decoded]:
        """Each free landmark under a posterior, before the posterior's scaling."""
        rows = self._free(pins, absent)
        if self.grid is None:
            covariances = posterior.covariances / posterior.scaling
            radii = expected_radius(covariances)
            return {row: Decoded(posterior.positions[row], covariances[row], radii[row]) for row in rows}
        seen = np.isfinite(self._seen).all(axis=1)
        seen[list(absent)] = False
        precisions = np.zeros_like(self._seen_covariances)
        precisions[seen] = np.linalg.inv(self._seen_covariances[seen])
        means, message_precisions = messages(posterior, np.where(seen[:, None], self._seen, 0.0), precisions)
        return {row: self.grid.decode(row, means[row], message_precisions[row]) for row in rows}

    def _radii_before(self, absent: Collection[int]) -> np.ndarray:
        """(n,) expected radii with nothing pinned, NaN where not found."""

        def compute() -> np.ndarray:
            radii = np.full(len(self._seen), np.nan)
            posterior = self._posterior({}, absent)
            for row, decoded in (self._decode(posterior, {}, absent) if posterior else {}).items():
                radii[row] = decoded.radius
            return radii

        return self._cached("decoded", {}, absent, compute)

    def _gaussian_radii(self, absent: Collection[int]) -> np.ndarray:
        """(n,) expected radii of the Gaussian posterior with nothing pinned, NaN where it does not exist."""
        posterior = self._posterior({}, absent)
        return np.full(len(self._seen), np.nan) if posterior is None else expected_radius(posterior.covariances)

    def _calibration(self, row: int, before: np.ndarray | None) -> float:
        """Factor from a radius of this model to an expected error of the detection; 1 where nothing is known."""
        if before is None:
            return 1.0
        factor = self.base.expected_errors[row] * np.sqrt(np.mean(self.spacing**2)) / before[row]
        return float(factor) if np.isfinite(factor) and factor > 0 else 1.0

    def _assembled(self, pins, absent, decoded: Mapping[int, Decoded], scaling: float, before=None) -> LandmarkSet:
        """The detection with the decoded rows put in, pinned rows as the user has them, absent rows empty."""
        base, unit = self.base, np.sqrt(np.mean(self.spacing**2))
        positions, covariances = base.positions.copy(), base.covariances.copy()
        errors, statuses, sources = base.expected_errors.copy(), list(base.statuses), list(base.sources)
        threshold = self.detection.review_threshold
        for row, found in decoded.items():
            factor = self._calibration(row, before)
            positions[row] = found.position / self.spacing
            covariances[row] = scaling * factor**2 * found.covariance / np.outer(self.spacing, self.spacing)
            errors[row] = np.sqrt(scaling) * factor * found.radius / unit
            if threshold is not None:
                statuses[row] = "review" if errors[row] > threshold else "predicted"
        for row in absent:
            positions[row], covariances[row], errors[row] = np.nan, np.nan, np.nan
            statuses[row], sources[row] = "absent", "user"
        for row, place in pins.items():
            positions[row], covariances[row], errors[row] = place, 0.0, 0.0
            statuses[row], sources[row] = "moved", "user"
        return LandmarkSet(base.schema, base.frame, positions, covariances, errors, tuple(statuses), tuple(sources))

    def _cached(self, kind: str, pins: Pins, absent: Collection[int], compute):
        """One remembered result of each kind: a drag asks for the same thing at every mouse event."""
        key = (tuple((row, place.tobytes()) for row, place in sorted(pins.items())), frozenset(absent))
        if self._cache.get(kind, (None,))[0] != key:
            self._cache[kind] = (key, compute())
        return self._cache[kind][1]
