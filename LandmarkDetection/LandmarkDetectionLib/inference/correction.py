"""How the other landmarks answer to what the user fixed: a function of detection, pins, level and absent points.

The errors of one detection go together. Their joint covariance is half that of the shape posterior (what the prior
and the heatmaps leave open) and half that of the errors which the model made on images kept out (`ErrorModel`). A
point that the user puts elsewhere tells its error; the others move by the errors that are then to be expected of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import block_diag

from ..landmarks import LandmarkSet
from ..preprocessing.crop import centroid_size
from ..priors.errors import Conditioned, condition
from ..priors.gaussian import expected_radius
from ..priors.solve import diagonal_blocks
from .detection import Detection, Seen
from .levels import level_rows, renamed_row, shifted
from .remembered import Remembered

_SMALLEST_DEVIATION = 0.05  # index steps; a heatmap that claims to be surer would leave nothing to the others

Pins = Mapping[int, np.ndarray]
"""Row of each landmark the user has fixed, and its position (d,) in index coordinates."""


@dataclass(frozen=True)
class Corrections:
    """What the user did to a detection.

    Attributes:
        pins: fixed points.
        apart: rows of those pins that say nothing about the others.
        astray: rows of those pins that lie far off their level. On a vertebra they say that it is this level, whatever
            the order; elsewhere they say nothing either.
        absent: rows that the user declared not to be in the image.
        level: by how many levels the chain was shifted.
    """

    pins: Pins = field(default_factory=dict)
    apart: frozenset[int] = frozenset()
    astray: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    level: int = 0

    @property
    def hints(self) -> Pins:
        """The pins that say where others are."""
        return {row: place for row, place in self.pins.items() if row not in self.apart | self.astray}

    def alone(self, rows: Collection[int]) -> Corrections:
        """The same, with nothing to be concluded from the pins among some rows."""
        return replace(self, apart=self.apart | (self.pins.keys() & rows), astray=self.astray - set(rows))

    def without(self, row: int) -> Corrections:
        """The same before anything was said of a row."""
        pins = {k: place for k, place in self.pins.items() if k != row}
        return Corrections(pins, self.apart - {row}, self.astray - {row}, self.absent - {row}, self.level)

    def put(self, row: int, place: np.ndarray) -> Corrections:
        """The same with a point where the user wants it."""
        free = self.without(row)
        return replace(free, pins={**free.pins, row: place})

    def shifted(self, row: int, place: np.ndarray, step: int) -> Corrections:
        """The same with all levels shifted by the drop of a point.

        An older pin on the levels as they were would pull the shifted chain back.
        """
        moved = self.put(row, place)
        return replace(moved, apart=frozenset(moved.pins) - moved.astray - {row}, level=self.level + step)

    def renamed(self, levels: np.ndarray, step: int) -> Corrections:
        """The same under new names, all labels moved by `step` levels; what falls off the end is given up."""

        def taken(rows: Iterable[int]) -> frozenset[int]:
            return frozenset(renamed_row(levels, row, step) for row in rows) - {None}

        pins = {renamed_row(levels, row, step): place for row, place in self.pins.items()}
        pins.pop(None, None)
        return Corrections(pins, *map(taken, (self.apart, self.astray, self.absent)), self.level + step)


class Corrector:
    """Moves the free landmarks of a detection. Lengths inside are isotropic: index times spacing.

    Expected errors are those of the detection times what the correction changed: the ratio of the expected radius with
    the pins to that without. So a calibrated error stays calibrated, and nothing changes before something was fixed.
    """

    def __init__(self, detection: Detection) -> None:
        self.detection, self.base, self.prior = detection, detection.landmarks, detection.prior
        self.spacing = self.base.frame.spacing
        self.levels = level_rows(self.base.schema)
        # A drag asks for the same thing at every mouse event, a drop for the same as the drag and what may come of it.
        self._seen, self._joints = Remembered(), Remembered()

    def released(self, corrections: Corrections) -> LandmarkSet:
        """The landmarks after a correction; a network that takes hints has looked again."""
        return self._answer(self.seen(corrections), corrections)

    def followed(self, corrections: Corrections, row: int, place: np.ndarray, alone: bool) -> LandmarkSet:
        """Live follow of a drag: the same answer, but no network looks again before the release."""
        held = corrections.put(row, place)
        return self._answer(self.seen(corrections), held.alone({row}) if alone else held)

    def seen(self, corrections: Corrections) -> Seen:
        """What the image shows, given the level and, where the network takes them, the pins as hints."""
        hints, level, repredict = corrections.hints, corrections.level, self.detection.repredict
        astray = {row: corrections.pins[row] for row in corrections.astray}

        def compute() -> Seen:
            places = self.base.positions
            for _ in range(abs(level)):
                places = shifted(places, self.levels, int(np.sign(level)))
            start = relocated(self.base, places) if level else self.base
            if repredict is None or not (hints or astray or level):
                return Seen(start)
            return repredict(hints, placed(start, astray) if astray else start)

        told = (tuple((row, place.tobytes()) for row, place in sorted(pins.items())) for pins in (hints, astray))
        return self._seen((level, *told), compute)

    def is_out_of_order(self, corrections: Corrections, row: int) -> bool:
        """Whether the image shows a vertebra where a pin lies astray, and it has taken the name of the pin."""
        seen = self.seen(corrections)
        level = np.flatnonzero((self.levels == row).any(axis=1))
        if not set(level.tolist()) & seen.out_of_order:
            return False
        places = seen.landmarks.positions * self.spacing
        apart = np.linalg.norm(places[self.levels[level[0]]] - places[row], axis=1)
        # Nearer than the next corner of the same vertebra: another pin of the level may lie on another vertebra.
        return bool(np.linalg.norm(corrections.pins[row] * self.spacing - places[row]) < np.sort(apart)[1])

    def differ(self, first: Corrections, second: Corrections) -> bool:
        """Whether most levels are seen at other places, half a level off or more."""
        before, after = (self.seen(done).landmarks.positions * self.spacing for done in (first, second))
        middles = before[self.levels].mean(axis=1)
        steps = np.linalg.norm(np.diff(middles, axis=0), axis=1)
        apart = np.linalg.norm(after[self.levels].mean(axis=1) - middles, axis=1)
        return bool(np.nanmedian(apart) > 0.5 * np.nanmedian(steps))

    def surprise(self, corrections: Corrections, row: int, place: np.ndarray) -> float:
        """Squared Mahalanobis distance of a drop from where the image showed the landmark; 0 where it showed none."""
        seen = self.seen(corrections).landmarks
        offset = place - seen.positions[row]
        if not np.isfinite(offset).all():
            return 0.0
        covariance = seen.covariances[row] + _SMALLEST_DEVIATION**2 * np.eye(len(place))
        return float(offset @ np.linalg.solve(covariance, offset))

    def most_helpful(self, current: LandmarkSet, corrections: Corrections) -> int | None:
        """Row of the free landmark that, once fixed, lowers the summed variance of all most; None if none is free.

        ``sum_j tr(V_ji V_ii^-1 V_ij)`` of the joint covariance V, calibrated as the expected errors are.
        """
        candidates = self._free(current, corrections)
        if not candidates:
            return None
        dims = len(self.spacing)
        joint = self._conditioned(self.seen(corrections), corrections).joint
        joint = joint.reshape(len(current.positions), dims, -1, dims)[candidates][:, :, candidates]
        radii = expected_radius(joint[np.arange(len(candidates)), :, np.arange(len(candidates))])
        factors = current.expected_errors[candidates] / radii
        joint = joint * factors[:, None, None, None] * factors[:, None]
        gains = [
            np.einsum("jab,bc,jac->", joint[:, :, k], np.linalg.inv(joint[k, :, k]), joint[:, :, k])
            for k in range(len(candidates))
        ]
        return candidates[int(np.argmax(gains))]

    def completed(self, current: LandmarkSet) -> np.ndarray | None:
        """(n, d) isotropic positions of the whole shape, absent landmarks filled in by the prior; None if too few."""
        known = np.isfinite(current.positions).all(axis=1)
        if not self._placeable(current.positions[known]):
            return None
        positions = current.positions * self.spacing
        covariances = np.broadcast_to(np.eye(len(self.spacing)), current.covariances.shape)
        filled = self.prior.posterior(positions, covariances, known, positions)
        return np.where(known[:, None], positions, filled.positions)

    def _answer(self, image: Seen, corrections: Corrections) -> LandmarkSet:
        """What is seen, moved by the errors that the pins tell of."""
        seen = image.landmarks
        rows = self._free(seen, corrections)
        told = self._conditioned(image, corrections)
        dims, unit = len(self.spacing), np.sqrt(np.mean(self.spacing**2))
        before = expected_radius(diagonal_blocks(self._joint(image, corrections.absent), dims))
        left = diagonal_blocks(told.joint, dims)
        after = expected_radius(left)
        freedom = self.prior.degrees_of_freedom
        scaling = (freedom + told.squared) / (freedom + told.count)
        certainty = self.detection.certainty
        region = scaling if certainty is None else scaling * certainty.correction_scale(told.count // dims)
        positions, covariances = seen.positions.copy(), seen.covariances.copy()
        errors, statuses, sources = seen.expected_errors.copy(), list(seen.statuses), list(seen.sources)
        threshold = self.detection.review_threshold
        for row in rows if told.count else ():
            factor = seen.expected_errors[row] * unit / before[row]
            positions[row] += told.shift[row] / self.spacing
            covariances[row] = region * factor**2 * left[row] / np.outer(self.spacing, self.spacing)
            errors[row] = np.sqrt(scaling) * factor * after[row] / unit
            if threshold is not None:
                statuses[row] = "review" if errors[row] > threshold else "predicted"
        for row in corrections.absent:
            positions[row], covariances[row], errors[row] = np.nan, np.nan, np.nan
            statuses[row], sources[row] = "absent", "user"
        for row, place in corrections.pins.items():
            positions[row], covariances[row], errors[row] = place, 0.0, 0.0
            statuses[row], sources[row] = "moved", "user"
        return seen.replace(
            positions=positions,
            covariances=covariances,
            expected_errors=errors,
            statuses=tuple(statuses),
            sources=tuple(sources),
        )

    def _conditioned(self, image: Seen, corrections: Corrections) -> Conditioned:
        """The errors of what is seen, given those of the pins that count."""
        seen, hints = image.landmarks.positions, corrections.hints
        found = np.isfinite(seen).all(axis=1)
        rows = [row for row in sorted(hints) if found[row]]
        apart = [(hints[row] - seen[row]) * self.spacing for row in rows]
        joint, dims = self._joint(image, corrections.absent), len(self.spacing)
        if not rows:
            return Conditioned(np.zeros((len(found), dims)), joint, 0.0, 0)
        return condition(joint, np.array(rows), np.array(apart), dims)

    def _joint(self, image: Seen, absent: Collection[int]) -> np.ndarray:
        """(n * d, n * d) covariance of the errors of what is seen; a point out of order shares none with others."""
        seen = image.landmarks

        def compute() -> np.ndarray:
            covariances = seen.covariances * np.outer(self.spacing, self.spacing)
            covariances = covariances + (_SMALLEST_DEVIATION * self.spacing) ** 2 * np.eye(len(self.spacing))
            positions = seen.positions * self.spacing
            missing = ~(np.isfinite(positions).all(axis=1) & np.isfinite(covariances).all(axis=(1, 2)))
            missing[list(absent)] = True
            own = block_diag(*np.where(missing[:, None, None], np.eye(len(self.spacing)), covariances))
            strange = np.zeros(len(positions), dtype=bool)
            strange[self.levels[list(image.out_of_order)]] = True
            positions[missing | strange] = np.nan
            if not self._placeable(positions[~(missing | strange)]):
                return own
            joint = self.prior.posterior(positions, covariances).joint
            errors = self.detection.errors
            if errors is not None:
                joint = (joint + centroid_size(positions) ** 2 * errors.covariance) / 2
            strange = np.repeat(strange, len(self.spacing))
            return np.where(strange[:, None] | strange, own, joint)

        return self._joints((seen.positions.tobytes(), image.out_of_order, frozenset(absent)), compute)

    def _free(self, seen: LandmarkSet, corrections: Corrections) -> list[int]:
        """Rows that may move: found by the model, neither pinned nor marked absent."""
        found = np.isfinite(seen.positions).all(axis=1)
        fixed = {*corrections.pins, *corrections.absent}
        return [row for row in np.flatnonzero(found).tolist() if row not in fixed]

    @staticmethod
    def _placeable(points: np.ndarray) -> bool:
        """Whether points (k, d) are enough to place a shape."""
        return len(points) >= points.shape[1] and np.ptp(points, axis=0).max() > 0


def placed(landmarks: LandmarkSet, pins: Pins) -> LandmarkSet:
    """The landmarks with some of them ``moved`` where the user put them."""
    positions, statuses = landmarks.positions.copy(), list(landmarks.statuses)
    for row, place in pins.items():
        positions[row], statuses[row] = place, "moved"
    return landmarks.replace(positions=positions, statuses=tuple(statuses))


def relocated(landmarks: LandmarkSet, places: np.ndarray) -> LandmarkSet:
    """The landmarks at other places (n, d): absent where there is none, to be reviewed where they were absent."""
    there = np.isfinite(places).all(axis=1)
    errors, covariances = landmarks.expected_errors.copy(), landmarks.covariances.copy()
    unknown = there & ~(np.isfinite(errors) & np.isfinite(covariances).all(axis=(1, 2)))
    errors[unknown] = np.nanmax(landmarks.expected_errors)
    covariances[unknown] = errors[unknown, None, None] ** 2 / places.shape[1] * np.eye(places.shape[1])
    statuses = tuple(
        "absent" if not found else "review" if old == "absent" else old
        for found, old in zip(there, landmarks.statuses, strict=True)
    )
    return landmarks.replace(positions=places, covariances=covariances, expected_errors=errors, statuses=statuses)
