"""The pipeline of spine models: vertebrae anywhere, named together as a chain, and named again with every hint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..images import Image
from ..landmarks import LandmarkSet
from ..networks.hints import hint_maps
from ..preprocessing.crop import centroid_size, crop_about
from ..preprocessing.foreground import foreground_box
from ..preprocessing.intensity import normalise
from ..preprocessing.resample import sample
from .bundle import Bundle
from .chain import Chain, ChainWeights, Told, completed, gained, level_doubt, link, shift_probability
from .corners import CornerStage, refined
from .detection import Detection, Heatmaps, Seen
from .joint import Progress, outside_by, refusal
from .levels import level_rows
from .networks import Ensemble, stop_if
from .vertebrae import SeenMaps, Vertebrae, find_vertebrae

HINT_DEVIATION = 1.5
"""Standard deviation of a hint's bump, in cells of the heatmaps, in training and in use."""

_START = 0.3  # the most that a corner gains where it is expected: what no hint speaks against stays
_SHIFT_WORTH_SAYING = 0.1  # probability
_FINE = 1024 / 448  # pixels of the vertebra stage's film to one of the column's, as in training
_USUAL = (0.75, 1.2)  # size of the first window against that of one laid about the column
_BEST = 6  # vertebrae that tell whether a film shows a spine
_FEWEST = 4  # levels that must be seen before a film counts as one of a spine


@dataclass(frozen=True, eq=False)
class Look:
    """One window of a film as the members see it, before any hint, and its vertebrae at a finer scale."""

    window: Frame
    encoded: list[Tensor]
    corners: CornerStage | None = None
    fine: Frame | None = None


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

    def heatmaps(self, rows: np.ndarray) -> Heatmaps:
        """Where each landmark may be: its corner of every vertebra that may be its level."""
        maps = np.einsum("lv,vkhw->lkhw", self.chain.marginals, self.vertebrae.heatmaps)
        ordered = maps.reshape(-1, *maps.shape[2:])[np.argsort(rows.ravel())]
        return Heatmaps(np.log(np.maximum(ordered, 1e-12)), self.grid)


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
        members = self.column.members
        first = self.look(image, self.whole(image), members[:1], cancelled)
        found = self.read(first, {}, None, image)
        if not force and found.seen < _FEWEST:
            raise refusal(image, self.bundle)
        progress(0.4, "Finding the vertebrae")
        window = self.about(found, image)
        if window is None or self.usual(first.window, window):
            others = self.look(image, first.window, members[1:], cancelled)
            look = replace(others, encoded=first.encoded + others.encoded)
        else:
            look = self.look(image, window, members, cancelled)
        look = self.with_corners(image, look)
        progress(0.9, "Naming the levels")
        reading = self.read(look, {}, None, image)
        if not force and reading.strength < self.bundle.calibration.presence_threshold:
            raise refusal(image, self.bundle)
        return self.describe(image, look, reading)

    def whole(self, image: Image) -> Frame:
        """A window that holds the whole foreground."""
        start, extent = foreground_box(image.array)
        size = np.asarray(self.column.plan.size)
        centre = image.frame.to_physical(np.asarray(start) + (np.asarray(extent) - 1) / 2)
        pixel = float((np.asarray(extent) * image.frame.spacing / size).max())
        return crop_about(image.frame, centre, pixel * size[0], tuple(size))

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
        inputs = normalise(sample(image, window), self.column.plan.percentiles)[None]
        encoded = []
        for member in members:
            stop_if(cancelled)
            encoded.append(self.column.encoded(member, inputs))
        return Look(window, encoded)

    def with_corners(self, image: Image, look: Look) -> Look:
        """The window once more, fine enough for the corners."""
        fine = look.window.resampled(size=tuple(round(_FINE * n) for n in look.window.size))
        return replace(look, corners=CornerStage(self.vertebra, sample(image, fine)), fine=fine)

    def read(
        self, look: Look, hints: Mapping[int, np.ndarray], start: LandmarkSet | None, image: Image
    ) -> Reading:
        """Landmarks in a window, given hints (row to index coordinates) and where a shifted chain should lie."""
        frame = image.frame
        stride = self.column.stride
        grid = look.window.resampled(size=tuple(n // stride for n in look.window.size))
        cells = {row: grid.to_index(frame.to_physical(place)) for row, place in hints.items()}
        told = [self.told(row, place, self.weights.contradiction) for row, place in cells.items()]
        expected = []
        if start is not None:
            places = grid.to_index(frame.to_physical(start.positions))
            known = np.flatnonzero(np.isfinite(places).all(axis=1))
            expected = [self.told(row, places[row], _START) for row in known]
        maps = self.hinted_maps(look, cells, grid)
        vertebrae = find_vertebrae(maps)
        corners = grid.to_index(frame.to_physical(np.array([[0.0, 0.0], np.asarray(frame.size) - 1.0])))
        chain = link(vertebrae, told + expected, corners[0, 1], corners[1, 1], self.weights)
        evidence = chain.score - gained(chain, vertebrae, expected, self.weights)
        if look.corners is not None:
            vertebrae = refined(vertebrae, chain, look.corners, grid.index_map(look.fine))
        return Reading(self.landmark_set(vertebrae, chain, grid, frame), chain, vertebrae, grid, evidence)

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
        quads, seen = completed(chain.members, vertebrae.corners)
        height = float(np.median(vertebrae.heights[chain.members[seen]])) if seen.any() else 0.0
        covariances = np.broadcast_to(height**2 / 4 * np.eye(2), (*quads.shape[:2], 2, 2)).copy()
        radii = np.full(quads.shape[:2], height)
        rows = chain.members[seen]
        covariances[seen] = calibration.covariance_scale * vertebrae.covariances[rows]
        radii[seen] = calibration.error_scale * vertebrae.radii[rows]
        radii[seen] += level_doubt(chain, vertebrae)[seen][:, None]
        positions = (quads @ matrix.T + offset).reshape(-1, 2)
        errors = cell * radii.ravel()
        threshold = self.review_threshold(positions)
        outside = ~np.isfinite(positions).all(axis=1) | (outside_by(np.nan_to_num(positions), frame) > 1.0)
        positions[outside] = np.nan
        statuses = np.where(outside, "absent", np.where(errors > threshold, "review", "predicted"))
        order = np.argsort(self.rows.ravel())
        source = f"{self.bundle.name} {self.bundle.version}"
        return LandmarkSet(
            schema=self.bundle.schema,
            frame=frame,
            positions=positions[order],
            covariances=(matrix @ covariances @ matrix.T).reshape(-1, 2, 2)[order],
            expected_errors=errors[order],
            statuses=tuple(statuses[order].tolist()),
            sources=(source,) * len(positions),
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
            return Seen(reading.landmarks, reading.evidence)

        landmarks, members = reading.landmarks, reading.chain.members
        isotropic = landmarks.positions * image.frame.spacing
        complete = np.isfinite(isotropic).all()
        return Detection(
            bundle_name=bundle.name,
            bundle_version=bundle.version,
            bundle_sha256=bundle.sha256,
            image_name=image.name,
            landmarks=landmarks,
            side=None,
            side_probability=None,
            presence=float(1 - np.prod(1 - reading.vertebrae.presence[members[members >= 0]])),
            prior=bundle.prior,
            heatmaps=reading.heatmaps(self.rows),
            notes=image.notes + self.notes(reading),
            plausibility=bundle.prior.plausibility(isotropic) if complete else 0.0,
            review_threshold=self.review_threshold(landmarks.positions),
            errors=bundle.errors,
            repredict=repredict,
        )

    def notes(self, reading: Reading) -> tuple[str, ...]:
        """What the user should know about the levels."""
        notes = []
        shift = shift_probability(reading.chain)
        if shift > _SHIFT_WORTH_SAYING:
            notes.append(
                f"The levels may be off by one (probability {100 * shift:.0f} %): check the last rib and the sacrum, "
                "and drag any corner onto the neighboring vertebra to move all levels."
            )
        absent = np.array([status == "absent" for status in reading.landmarks.statuses])[self.rows].all(axis=1)
        if absent.any():
            names = [ids[0].split("_")[0] for ids, gone in zip(self.bundle.schema.levels, absent, strict=True) if gone]
            notes.append(f"Not in the image: {', '.join(names)}.")
        return tuple(notes)
