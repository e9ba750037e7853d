"""The pipeline of spine models: vertebrae anywhere, named together as a chain, and named again with every hint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..images import Image
from ..landmarks import LandmarkSet
from ..networks.hints import hint_maps
from ..preprocessing.crop import centroid_size, crop_about, whole_film
from ..preprocessing.intensity import normalise
from ..preprocessing.pyramid import CLOSE_LOOK, FIRST_LOOK, sample_halves
from .bundle import Bundle
from .chain import Chain, ChainWeights, Told, completed, gained, level_doubt, link
from .corners import CornerStage, refined
from .decoding import Decoded, described, outside_by
from .detection import Detection, Heatmaps, Seen
from .doubt import expected_errors
from .fitness import Fit, fit_notes, judged, refusal
from .joint import Progress
from .level_notes import level_notes
from .levels import IN_DOUBT, level_rows
from .names import claimed, left
from .networks import Ensemble, stop_if
from .orientation import HALF, SIDEWAYS
from .remembered import Remembered
from .vertebrae import SeenMaps, Vertebrae, find_vertebrae

HINT_DEVIATION = 1.5
"""Standard deviation of a hint's bump, in cells of the heatmaps, in training and in use."""

_START = 0.3  # the most that a corner gains where it is expected: what no hint speaks against stays
_FINE = 1024 / 448  # pixels of the vertebra stage's film to one of the column's, as in training
_USUAL = (0.86, 1.2)  # size of the first window against that of one laid about the column; less of films cut off
_BEST = 6  # vertebrae that tell whether a film shows a spine
_FINER = 2  # cells of the heatmaps along one cell of the networks
_SHARPEST = 0.3  # cells, standard deviation below which a Gaussian would fall between the cells
_UNLIKELY = 1e-4  # probability of a vertebra's level that is not drawn, and of a landmark that is anywhere else
_WIDER = 1.6  # size of a window for a part of a column, against one that holds the film
_ROUNDS = 3  # windows laid about what was seen in the last one
_FEWEST = 4  # levels that must be seen before a film counts as one of a spine
_RECOGNISED = -2.4  # least of `Reading.recognised` for a whole column; chosen on films kept out of training
_RECOGNISED_LESS = 0.15  # by which that is lower for each level that is not seen: a part of a column is harder to name
_STEEP = 11.0  # margin of a film for a logarithm that is 1 above its limit
_NOTHING = -12.0  # margin of a film that shows next to no vertebrae


@dataclass(frozen=True, eq=False)
class Look:
    """One window of a film as the members see it, before any hint, and its vertebrae at a finer scale.

    ``found`` are the vertebrae by members and hints: what changes but where they are expected asks for them again.
    """

    window: Frame
    encoded: list[Tensor]
    corners: CornerStage | None = None
    fine: Frame | None = None
    found: Remembered = field(default_factory=Remembered)


@dataclass(frozen=True, eq=False)
class Reading:
    """What a look shows, given hints: landmarks, and the chain and its candidates in cells of ``grid``.

    ``evidence`` is the chain's score without what it gains where landmarks were expected.
    """

    landmarks: LandmarkSet
    chain: Chain
    vertebrae: Vertebrae
    grid: Frame
    evidence: float

    @property
    def seen(self) -> int:
        """Levels at which a vertebra was seen, not only continued."""
        return int((self.chain.members >= 0).sum())

    @property
    def strength(self) -> float:
        """Mean probability of the vertebrae that are seen best: of a cut-off column only some are seen at all."""
        members = self.chain.members
        presence = np.sort(self.vertebrae.presence[members[members >= 0]])[::-1]
        return float(presence[:_BEST].mean()) if len(presence) else 0.0

    @property
    def recognised(self) -> float:
        """Logarithm of how well the vertebrae are seen, look like the levels they are named, and agree on them."""
        rows = np.flatnonzero(self.chain.members >= 0)
        if not len(rows):
            return -np.inf
        named = float(self.vertebrae.levels[self.chain.members[rows], rows].mean())
        return float(np.log(self.strength)) + named + 0.5 * float(np.log(max(self.chain.probability, 1e-9)))

    def heatmaps(self, rows: np.ndarray, temperature: np.ndarray) -> Heatmaps:
        """Where each landmark may be: its corner of every vertebra that may be its level, each a Gaussian.

        Args:
            rows: (L, 4) row of each corner of each level.
            temperature: (n,) of each landmark.
        """
        grid = self.grid.resampled(size=tuple(_FINER * n for n in self.grid.size))
        likely = self.chain.marginals.max(axis=0) > _UNLIKELY
        corners = _FINER * (self.vertebrae.corners[likely] + 0.5) - 0.5
        density = gaussians(corners, _FINER**2 * self.vertebrae.covariances[likely], grid.size)
        maps = np.einsum("lv,vkc->lkc", self.chain.marginals[:, likely].astype(np.float32), density)
        maps = maps.reshape(rows.size, -1)[np.argsort(rows.ravel())]
        logits = np.log(np.maximum(maps, _UNLIKELY / maps.shape[1])) / np.asarray(temperature)[:, None]
        return Heatmaps(logits.reshape(-1, *grid.size[::-1]), grid)


def gaussians(means: np.ndarray, covariances: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Densities (V, 4, cells) of Gaussians with means (V, 4, 2) and covariances (V, 4, 2, 2), in cells of a grid."""
    covariances = covariances + _SHARPEST**2 * np.eye(2)
    precision = np.linalg.inv(covariances).astype(np.float32)
    columns, lines = (np.arange(n, dtype=np.float32) for n in size)
    x = (columns - means[..., 0, None].astype(np.float32))[..., None, :]
    y = (lines - means[..., 1, None].astype(np.float32))[..., None]
    squared = precision[..., 0, 0, None, None] * x**2 + precision[..., 1, 1, None, None] * y**2
    squared += (2 * precision[..., 0, 1])[..., None, None] * x * y
    scale = 1 / (2 * np.pi * np.sqrt(np.linalg.det(covariances)))
    density = np.exp(-0.5 * squared) * scale[..., None, None].astype(np.float32)
    return density.reshape(*means.shape[:2], -1)


class ColumnPipeline:
    """The stages of a bundle of kind ``column`` on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.column = Ensemble(bundle, bundle.stages["column"], device)
        self.vertebra = Ensemble(bundle, bundle.stages["vertebra"], device)
        self.weights = ChainWeights(**bundle.decoding)
        self.rows = level_rows(bundle.schema)

    def detect(
        self, image: Image, side: str, progress: Progress, cancelled: Callable[[], bool], force: bool
    ) -> Detection:
        """See `Detector.detect`; ``side`` is not used, since a spine has none."""
        progress(0.05, f"Looking for the {self.bundle.schema.title}")
        first, found = self.find(image, cancelled)
        if not force and found.seen < _FEWEST:
            raise refusal(image, self.bundle, self.fit(image, found, found, cancelled))
        progress(0.4, "Finding the vertebrae")
        others = self.look(image, first.window, self.column.members[1:], cancelled)
        look = self.with_corners(image, replace(others, encoded=first.encoded + others.encoded))
        progress(0.9, "Naming the levels")
        reading = self.read(look, {}, None, image)
        fit = self.fit(image, found, reading, cancelled)
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        detection = self.describe(image, look, reading)
        return replace(detection, fitness=fit.score, notes=detection.notes + fit_notes(fit))

    def find(self, image: Image, cancelled: Callable[[], bool]) -> tuple[Look, Reading]:
        """What the first member sees in a window of the usual size about the vertebrae that are in the film."""
        window = self.whole(image)
        look, found = self.glance(image, window, cancelled)
        if self.margin(found) < 0:
            # The vertebrae of a film that shows only a part of a column are too large for the networks.
            wide = crop_about(image.frame, window.to_physical((np.asarray(window.size) - 1) / 2),
                              _WIDER * window.size[0] * window.spacing[0], window.size)  # fmt: skip
            again = self.glance(image, wide, cancelled)
            look, found = again if self.margin(again[1]) > self.margin(found) else (look, found)
        for _ in range(_ROUNDS):
            wanted = self.about(found, image)
            if wanted is None or self.usual(look.window, wanted):
                break
            look, found = self.glance(image, wanted, cancelled)
        return look, found

    def glance(self, image: Image, window: Frame, cancelled: Callable[[], bool]) -> tuple[Look, Reading]:
        """What the first member sees in a window."""
        look = self.look(image, window, self.column.members[:1], cancelled)
        return look, self.read(look, {}, None, image)

    def fit(self, image: Image, found: Reading, reading: Reading, cancelled: Callable[[], bool]) -> Fit:
        """How well the film shows a spine, by its first and its last reading, as it is and turned.

        A mirrored film fits as well: what tells left from right, the heart and the stomach, no network was taught.
        """

        def look(turned: Image) -> float:
            return self.margin(self.find(turned, cancelled)[1])

        margin = self.margin(reading)
        turns = (HALF,) if margin > 0 else (HALF, *SIDEWAYS)
        return judged(image, margin, self.margin(found), look, turns)

    def margin(self, reading: Reading) -> float:
        """How far a reading lies on the right side of the limits of a spine, in the unit of `Fit.margin`."""
        if reading.seen < _FEWEST:
            return _NOTHING
        strength = float(np.log(reading.strength / self.bundle.calibration.presence_threshold))
        limit = _RECOGNISED - _RECOGNISED_LESS * (len(reading.chain.members) - reading.seen)
        return max(_NOTHING, _STEEP * min(strength, reading.recognised - limit))

    def whole(self, image: Image) -> Frame:
        """A window that holds the whole foreground."""
        return whole_film(image, self.column.plan.size, "foreground")

    def about(self, found: Reading, image: Image) -> Frame | None:
        """A window of the usual size about the vertebrae that were seen; the prior tells how long the column is.

        None where too few were seen.
        """
        seen = np.isin(np.arange(self.rows.size), self.rows[found.chain.members >= 0])
        positions = np.where(seen[:, None], found.landmarks.positions, np.nan)
        if np.isfinite(positions).all(axis=1).sum() < _FEWEST * self.rows.shape[1]:
            return None
        covariances = np.broadcast_to(np.eye(2), (len(positions), 2, 2))
        whole = self.bundle.prior.posterior(positions * image.frame.spacing, covariances).positions
        plan = self.column.plan
        middle = (np.nanmin(positions, axis=0) + np.nanmax(positions, axis=0)) / 2
        width = plan.extent * centroid_size(whole)
        return crop_about(image.frame, image.frame.to_physical(middle), width, plan.size)

    @staticmethod
    def usual(window: Frame, wanted: Frame) -> bool:
        """Whether a window is already about as large as it should be; most films show the column and little else."""
        low, high = _USUAL
        return bool(low < window.spacing[0] / wanted.spacing[0] < high)

    def look(self, image: Image, window: Frame, members: list, cancelled: Callable[[], bool]) -> Look:
        """What the members keep of a window."""
        inputs = normalise(sample_halves(image, window, FIRST_LOOK), self.column.plan.percentiles)[None]
        encoded = []
        for member in members:
            stop_if(cancelled)
            encoded.append(self.column.encoded(member, inputs))
        return Look(window, encoded)

    def with_corners(self, image: Image, look: Look) -> Look:
        """The window once more, fine enough for the corners."""
        fine = look.window.resampled(size=tuple(round(_FINE * n) for n in look.window.size))
        return replace(look, corners=CornerStage(self.vertebra, sample_halves(image, fine, CLOSE_LOOK)), fine=fine)

    def read(
        self, look: Look, hints: Mapping[int, np.ndarray], start: LandmarkSet | None, image: Image
    ) -> Reading:
        """Landmarks in a window, given hints (row to index coordinates) and where the others are expected."""
        frame = image.frame
        stride = self.column.stride
        grid = look.window.resampled(size=tuple(n // stride for n in look.window.size))
        cells = {row: grid.to_index(frame.to_physical(place)) for row, place in hints.items()}
        corners = grid.to_index(frame.to_physical(np.array([[-0.5, -0.5], np.asarray(frame.size) - 0.5])))
        key = (len(look.encoded), *((row, place.tobytes()) for row, place in sorted(cells.items())))
        # Beyond the film its edge goes on, and vertebrae in it with it.
        vertebrae = look.found(key, lambda: find_vertebrae(self.hinted_maps(look, cells, grid)).within(*corners))
        told = [self.told(row, place, self.weights.contradiction) for row, place in cells.items()]
        chain, evidence = self.chain(vertebrae, told, start, grid, corners[:, 1])
        if look.corners is not None:
            vertebrae = refined(vertebrae, chain, look.corners, grid.index_map(look.fine))
        return Reading(self.landmark_set(vertebrae, chain, grid, frame), chain, vertebrae, grid, evidence)

    def chain(
        self, vertebrae: Vertebrae, told: list[Told], start: LandmarkSet | None, grid: Frame, limits: np.ndarray
    ) -> tuple[Chain, float]:
        """The chain, and its score without what it gains where landmarks were expected.

        Args:
            told: hints.
            start: see `Repredict`.
            limits: first and last row of the image in cells.
        """
        given, expected, moved_up = self.expected(vertebrae, start, grid)
        chain = link(vertebrae, told + expected, *limits, self.weights, given)
        evidence = chain.score - gained(chain, vertebrae, expected, self.weights)
        if not moved_up:
            return chain, evidence
        # Where all other levels could move up, the image decides; in doubt, no vertebra is left without a name.
        free = link(vertebrae, told, *limits, self.weights, given)
        fuller = (chain.members >= 0).sum() > (free.members >= 0).sum()
        return (chain, evidence) if fuller and evidence > free.score - IN_DOUBT else (free, free.score)

    def expected(
        self, vertebrae: Vertebrae, start: LandmarkSet | None, grid: Frame
    ) -> tuple[dict[int, int], list[Told], bool]:
        """Candidates of the levels that the user named, where all others are expected, and whether they move up."""
        if start is None:
            return {}, [], False
        places = grid.to_index(start.frame.to_physical(start.positions))
        known = np.isfinite(places).all(axis=1)
        put = known & [status == "moved" for status in start.statuses]
        given = claimed(vertebrae, [self.told(row, places[row], 0.0) for row in np.flatnonzero(put)], self.weights)
        places[put] = np.nan
        quads = places[self.rows]
        homes = left(vertebrae, quads, given, self.weights)
        expected = [
            Told(level, corner, quads[home, corner], _START)
            for level, home in homes.items()
            for corner in np.flatnonzero(np.isfinite(quads[home]).all(axis=1))
        ]
        return given, expected, any(level != home for level, home in homes.items())

    def told(self, row: int, place: np.ndarray, most: float) -> Told:
        """A landmark that is known, for the chain."""
        level, corner = np.argwhere(self.rows == row)[0]
        return Told(int(level), int(corner), place, most)

    def hinted_maps(self, look: Look, cells: Mapping[int, np.ndarray], grid: Frame) -> SeenMaps:
        """The members' maps, run again on what they kept of the window."""
        hints = None
        if cells:
            points = torch.full((1, self.rows.size, 2), torch.nan)
            for row, place in cells.items():
                points[0, row] = torch.from_numpy(np.asarray(place, dtype=np.float32))
            hints = hint_maps(points, grid.size, HINT_DEVIATION)
        members = zip(self.column.members, look.encoded, strict=False)
        return SeenMaps.mean([self.column.decoded(member, encoded, hints) for member, encoded in members])

    def landmark_set(self, vertebrae: Vertebrae, chain: Chain, grid: Frame, frame: Frame) -> LandmarkSet:
        """The chain in the frame of the image; levels between are interpolated, levels beyond continued."""
        calibration = self.bundle.calibration
        affine = grid.index_map(frame)
        matrix, offset = affine[:, :-1], affine[:, -1]
        cell = float(np.sqrt(abs(np.linalg.det(matrix))))
        quads, seen = completed(chain.members, vertebrae.corners, chain.given)
        height = float(np.median(vertebrae.heights[chain.members[seen]])) if seen.any() else 0.0
        covariances = np.broadcast_to(height**2 / 4 * np.eye(2), (*quads.shape[:2], 2, 2)).copy()
        radii = np.full(quads.shape[:2], height)
        rows = chain.members[seen]
        covariances[seen] = vertebrae.covariances[rows]
        radii[seen] = vertebrae.radii[rows] + level_doubt(chain, vertebrae)[seen][:, None]
        order = np.argsort(self.rows.ravel())
        positions = (quads @ matrix.T + offset).reshape(-1, 2)[order]
        spread = (matrix @ covariances @ matrix.T).reshape(-1, 2, 2)[order]
        threshold = self.review_threshold(positions)
        outside = ~np.isfinite(positions).all(axis=1) | (outside_by(np.nan_to_num(positions), frame) > 1.0)
        positions[outside] = np.nan
        said = cell * radii.ravel()[order]
        in_order = positions.copy()
        in_order[self.rows[list(chain.given)]] = np.nan
        errors, _ = expected_errors(said, in_order, spread, frame.spacing, self.bundle.prior, calibration)
        statuses = np.where(outside, "absent", np.where(errors > threshold, "review", "predicted"))
        return LandmarkSet(
            schema=self.bundle.schema,
            frame=frame,
            positions=positions,
            covariances=np.asarray(calibration.covariance_scale)[:, None, None] * spread,
            expected_errors=errors,
            statuses=tuple(statuses.tolist()),
            sources=(f"{self.bundle.name} {self.bundle.version}",) * len(positions),
        )

    def review_threshold(self, positions: np.ndarray) -> float:
        """Expected error in index units above which a landmark is to be reviewed."""
        known = np.isfinite(positions).all(axis=1)
        return self.bundle.calibration.review_threshold * (centroid_size(positions) if known.any() else 1.0)

    def describe(self, image: Image, look: Look, reading: Reading) -> Detection:
        """The detection with all that a correction needs."""
        bundle = self.bundle

        def repredict(hints: Mapping[int, np.ndarray], start: LandmarkSet) -> Seen:
            reading = self.read(look, hints, start, image)
            return Seen(reading.landmarks, reading.evidence, frozenset(reading.chain.given))

        members = reading.chain.members
        presence = float(1 - np.prod(1 - reading.vertebrae.presence[members[members >= 0]]))
        heatmaps = reading.heatmaps(self.rows, np.asarray(bundle.calibration.temperature))
        decoded = Decoded(reading.landmarks, heatmaps, self.review_threshold(reading.landmarks.positions))
        notes = level_notes(reading.chain, reading.landmarks.statuses, self.rows, bundle.schema)
        return described(bundle, image, decoded, presence, notes, repredict=repredict)
