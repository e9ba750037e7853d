"""The pipeline of spine models for volumes: vertebrae anywhere, their points, and their names together as a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from ...images import Image
from ...landmarks import LandmarkSet
from ...preprocessing.volume_window import body_frame
from ..bundle import Bundle
from ..chain import Chain, ChainWeights, Told, gained, level_doubt, link
from ..decoding import Decoded, decode, described
from ..detection import Detection, Seen
from ..fitness import Fit, fit_notes, refusal
from ..joint import Progress
from ..level_notes import level_notes
from ..levels import level_rows
from ..networks import Ensemble
from .finding import FindingStage, window_values
from .points import PointsLook, PointsStage
from .vertebrae import (
    CUT_OFF,
    Peaks,
    VolumeVertebrae,
    distinct,
    downwards,
    find_peaks,
    past_end,
    points_in,
    vertebrae_in,
)

_START = 0.3  # the most that a point gains where it is expected: what no hint speaks against stays
_ASTRAY = 0.6  # heights of a vertebra beyond which a hint is not about a candidate: one more is looked for there
_NOTHING = -12.0  # logit of presence of a volume that shows no vertebra


@dataclass(frozen=True, eq=False)
class Look:
    """A volume as the networks see it, before any hint: candidates, and a window about each.

    ``hinted`` keeps the heatmaps of windows that were looked at with hints, by window and hints.
    """

    peaks: Peaks
    points: PointsLook
    hinted: dict[tuple, Tensor] = field(default_factory=dict)

    def with_more(self, other: Look) -> Look:
        """These candidates, then those of another look."""
        pairs = zip(vars(self.peaks).values(), vars(other.peaks).values(), strict=True)
        return Look(Peaks(*(np.concatenate(pair) for pair in pairs)), self.points.with_more(other.points), self.hinted)


@dataclass(frozen=True, eq=False)
class Reading:
    """What a look shows, given hints: landmarks, and the chain that names them.

    ``evidence`` is the chain's score without what it gains where landmarks were expected.
    """

    decoded: Decoded
    chain: Chain
    vertebrae: VolumeVertebrae
    evidence: float


class VolumeColumnPipeline:
    """The stages of a bundle of kind ``volume_column`` on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.finding = FindingStage(Ensemble(bundle, bundle.stages["finding"], device), CUT_OFF)
        self.points = PointsStage(Ensemble(bundle, bundle.stages["points"], device))
        self.weights = ChainWeights(**bundle.decoding)
        self.rows = level_rows(bundle.schema)

    def detect(
        self, image: Image, side: str, progress: Progress, cancelled: Callable[[], bool], force: bool
    ) -> Detection:
        """See `Detector.detect`; ``side`` is not used, since a spine has none."""
        progress(0.05, f"Looking for the {self.bundle.schema.title}")
        peaks = self.find(image, cancelled)
        fit = Fit(surest(peaks) - self.bundle.calibration.presence_threshold)
        if not len(peaks.places) or (fit.refused and not force):
            raise refusal(image, self.bundle, fit)
        progress(0.6, "Finding the points of the vertebrae")
        look = Look(peaks, self.points.look(image, peaks.places, False, cancelled))
        apart = distinct(vertebrae_in(look.points, peaks, image.frame))
        kept = apart & (past_end(points_in(look.points), image.frame).max(axis=-1) == 0).any(axis=1)
        if not kept.any() and not force:
            raise refusal(image, self.bundle, fit)
        look = Look(peaks.of(kept), of_windows(look.points, np.flatnonzero(kept)))
        progress(0.95, "Naming the levels")
        detection = self.describe(image, look, self.read(look, {}, None, image))
        return replace(detection, fitness=fit.score, notes=detection.notes + fit_notes(fit))

    def find(self, image: Image, cancelled: Callable[[], bool]) -> Peaks:
        """Where vertebrae may be."""
        window = self.finding.window(image)
        voxels = window_values(image, window, self.finding.ensemble.plan)
        return find_peaks(self.finding.logits(voxels, cancelled), self.finding.grid(window), image.frame)

    def presence(self, image: Image) -> float:
        """Logit of the surest vertebra of a volume."""
        return surest(self.find(image, lambda: False))

    def read(
        self, look: Look, hints: Mapping[int, np.ndarray], start: LandmarkSet | None, image: Image
    ) -> Reading:
        """Landmarks, given hints (row to index coordinates) and where a shifted chain should lie."""
        places = {row: image.frame.to_physical(place) for row, place in hints.items()}
        down = downwards(image.frame)
        told = [self.told(row, down(place), self.weights.contradiction) for row, place in places.items()]
        expected = []
        if start is not None:
            known = np.flatnonzero(np.isfinite(start.positions).all(axis=1))
            there = down(image.frame.to_physical(start.positions))
            expected = [self.told(row, there[row], _START) for row in known]
        look = self.with_candidates_at(look, places, image)
        vertebrae = vertebrae_in(look.points, look.peaks, image.frame)
        ends = np.sort(down(body_frame(image.frame).to_physical([[0, 0, n] for n in (0, image_height(image))]))[:, 2])
        chain = link(vertebrae, [*told, *expected], *ends, self.weights)
        evidence = chain.score - gained(chain, vertebrae, expected, self.weights)
        heatmaps = self.hinted(look, chain, places)
        return Reading(self.decoded(look, heatmaps, chain, vertebrae, image), chain, vertebrae, evidence)

    def told(self, row: int, place: np.ndarray, most: float) -> Told:
        """A landmark that is known, for the chain."""
        level, point = np.argwhere(self.rows == row)[0]
        return Told(int(level), int(point), place, most)

    def with_candidates_at(self, look: Look, places: Mapping[int, np.ndarray], image: Image) -> Look:
        """The look, with one more candidate where the user put the center of a vertebra that was not found."""
        vertebrae, down = vertebrae_in(look.points, look.peaks, image.frame), downwards(image.frame)
        height = float(np.median(vertebrae.heights))
        for row, place in places.items():
            point = int(np.argwhere(self.rows == row)[0, 1])
            apart = np.linalg.norm(vertebrae.corners[:, point] - down(place), axis=1)
            if apart.min() > _ASTRAY * height:
                # Where the other vertebrae have their centers, seen from the same point.
                offset = np.median(vertebrae.centres - vertebrae.corners[:, point], axis=0)
                centre = place + body_frame(image.frame).direction() @ (offset * [1, 1, -1])
                level = np.full((1, len(self.rows)), -np.log(len(self.rows)))
                more = self.points.look(image, centre[None], False, lambda: False)
                look = look.with_more(Look(Peaks(centre[None], np.ones(1), level), more))
        return look

    def hinted(self, look: Look, chain: Chain, places: Mapping[int, np.ndarray]) -> Tensor:
        """Heatmaps (V, P, d, h, w) of all windows; those with hints are looked at again, once for the same hints."""
        heatmaps = look.points.heatmaps
        for level, member in enumerate(chain.members):
            own = {point: places[row] for point, row in enumerate(self.rows[level]) if row in places}
            if member >= 0 and own:
                key = (int(member), *((point, place.tobytes()) for point, place in own.items()))
                if key not in look.hinted:
                    look.hinted[key] = self.points.hinted(look.points, int(member), own)
                heatmaps = heatmaps.clone()
                heatmaps[member] = look.hinted[key]
        return heatmaps

    def decoded(
        self, look: Look, heatmaps: Tensor, chain: Chain, vertebrae: VolumeVertebrae, image: Image
    ) -> Decoded:
        """Landmarks of the chain; levels at which no vertebra was seen are absent, and doubt of the level counts."""
        bundle, count = self.bundle, self.rows.size
        maps = torch.zeros(count, *heatmaps.shape[2:])
        grids, absent, doubt = [look.points.grids[0]] * count, np.ones(count, dtype=bool), np.zeros(count)
        apart = level_doubt(chain, vertebrae)
        for level, member in enumerate(chain.members):
            if member >= 0:
                rows = self.rows[level]
                maps[rows], absent[rows], doubt[rows] = heatmaps[member], False, apart[level]
                for row in rows:
                    grids[row] = look.points.grids[member]
        decoded = decode(bundle, image, maps, grids, absent=absent)
        seen = np.flatnonzero(chain.members >= 0)
        is_broken = len(seen) > 0 and len(seen) <= np.ptp(seen)
        return in_doubt(decoded, doubt / np.sqrt(np.mean(image.frame.spacing**2)), is_broken)

    def describe(self, image: Image, look: Look, reading: Reading) -> Detection:
        """The detection with all that a correction needs."""

        def repredict(hints: Mapping[int, np.ndarray], start: LandmarkSet) -> Seen:
            again = self.read(look, hints, start, image)
            return Seen(again.decoded.landmarks, again.evidence)

        members = reading.chain.members
        presence = float(1 - np.prod(1 - reading.vertebrae.presence[members[members >= 0]]))
        statuses = reading.decoded.landmarks.statuses
        notes = level_notes(reading.chain, statuses, self.rows, self.bundle.schema)
        return described(self.bundle, image, reading.decoded, presence, notes, repredict=repredict)


def surest(peaks: Peaks) -> float:
    """Logit of the surest candidate."""
    return max(_NOTHING, float(logit(peaks.presence.max()))) if len(peaks.presence) else _NOTHING


def in_doubt(decoded: Decoded, doubt: np.ndarray, is_broken: bool) -> Decoded:
    """Expected errors with (n,) index units more, for the doubt that a landmark is that of another level.

    Where a level between others was not found, any of them may be another one: all are to be reviewed.
    """
    landmarks = decoded.landmarks
    errors = landmarks.expected_errors + doubt
    found = [status != "absent" for status in landmarks.statuses]
    doubtful = (errors > decoded.review_threshold) | is_broken
    statuses = np.where(found, np.where(doubtful, "review", "predicted"), "absent")
    changed = landmarks.replace(expected_errors=errors, statuses=tuple(statuses.tolist()))
    return replace(decoded, landmarks=changed)


def of_windows(look: PointsLook, rows: np.ndarray) -> PointsLook:
    """Some of the windows of a look."""
    grids = tuple(look.grids[row] for row in rows)
    return PointsLook(grids, tuple(kept[rows] for kept in look.encoded), look.heatmaps[rows])


def image_height(image: Image) -> int:
    """Index of the last slice upwards."""
    return body_frame(image.frame).size[2] - 1
