"""What the methods of `uncertainty.py` need to know of each film; every film is looked at once."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.evaluation.dataset import Case
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.heatmaps import local_expectation, log_probabilities
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import Bundle
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.finer import FINER
from LandmarkDetectionLib.inference.networks import mixture
from LandmarkDetectionLib.inference.patches import PatchPipeline
from LandmarkDetectionLib.landmarks import LandmarkSchema
from LandmarkDetectionLib.preprocessing.crop import centroid_size
from LandmarkDetectionLib.training.calibration.evidence import evidence, uncalibrated
from LandmarkDetectionLib.training.calibration.fitting import Evidence
from LandmarkDetectionLib.training.data.films import read_groups
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

PASSES = 8
"""Passes with dropout, and views of a patch besides the one that counts; both by the first member alone."""

DROPOUT = 0.1

SHIFT = 0.05
"""How far the patches of the other views are moved, in centroid sizes, each in another direction."""

SCALE = 1.06
"""How much larger every second of them is, and by the same factor smaller the others."""

SCATTERED = ("members", "dropout", "views")


@dataclass(frozen=True, eq=False)
class Looks:
    """What was seen of m films.

    Attributes:
        evidence: of the heatmaps and points, not calibrated.
        scatter: covariances (m, n, 2, 2) in cells of the points of other members, passes or views.
        milliseconds: (m,) of processor time by what it was spent on.
    """

    evidence: Evidence
    scatter: dict[str, np.ndarray]
    milliseconds: dict[str, np.ndarray]

    def select(self, rows: np.ndarray) -> Looks:
        """Some of the films."""
        parts = ({name: values[rows] for name, values in table.items()} for table in (self.scatter, self.milliseconds))
        return Looks(self.evidence.select(rows), *parts)


class Looker:
    """A patch model that looks at each film in several ways."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.pipeline = PatchPipeline(uncalibrated(bundle), torch.device("cpu"))
        self.scaled = [of_one_member(self.pipeline, factor) for factor in (SCALE, 1 / SCALE)]
        self.partner = partners(bundle.schema)
        self.refused = 0
        self.scatter: dict[str, list[np.ndarray]] = {name: [] for name in SCATTERED}
        self.milliseconds: dict[str, list[float]] = {name: [] for name in ("detection", *SCATTERED)}

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Processor time rather than wall time: the machine may do other things, too."""
        start = time.process_time()
        yield
        self.milliseconds[name].append(1000 * (time.process_time() - start))

    def look(self, image: Image) -> Detection | None:
        """The detection, with all scatter kept; None where the film does not show the anatomy."""
        with self.clock("detection"):
            candidate = self.pipeline.candidate(image, never)
            if candidate.presence < self.bundle.calibration.presence_threshold:
                self.refused += 1
                return None
            views, windows = self.pipeline.views(image, candidate.points)
            maps, features = self.members(self.pipeline.normalised(views))
            heatmaps = mixture(maps)
            grids = tuple(window.resampled(size=heatmaps.shape[:0:-1]) for window in windows)
            detection = self.pipeline.describe(image, candidate, heatmaps, grids)
        with self.clock("members"):
            points = torch.stack([local_expectation(own) for own in maps])
            self.scatter["members"].append(FINER**2 * scatter(points.double().numpy()))
        with self.clock("dropout"):
            self.scatter["dropout"].append(FINER**2 * scatter(self.dropped(features)))
        with self.clock("views"):
            cell = grids[0].index_map(image.frame)[0, 0] / FINER
            self.scatter["views"].append(scatter(self.other_views(image, candidate.points)) / cell**2)
        return detection

    @torch.inference_mode()
    def members(self, inputs: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """Log-probabilities (n, h, w) by each member, and what the first one's head was given."""
        stage, own, kept = self.pipeline.landmarks, torch.arange(len(inputs)), []
        handle = stage.members[0].head.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
        try:
            maps = [log_probabilities(stage.logits(member, inputs)[own, own]) for member in stage.members]
        finally:
            handle.remove()
        return maps, kept[0]

    @torch.inference_mode()
    def dropped(self, features: Tensor) -> np.ndarray:
        """Points (`PASSES`, n, 2) in cells of the network: all before the dropped channels is the same in each pass."""
        head, own, points = self.pipeline.landmarks.members[0].head, torch.arange(len(features)), []
        for _ in range(PASSES):
            logits = head(functional.dropout2d(features, DROPOUT, training=True))
            points.append(local_expectation(logits[own, own]))
        return torch.stack(points).double().numpy()

    def other_views(self, image: Image, points: np.ndarray) -> np.ndarray:
        """Points in index units by one member in moved patches, larger and smaller in turn; (views, n, 2)."""
        step, found = SHIFT * centroid_size(points), []
        for turn in range(PASSES):
            angle = 2 * np.pi * turn / PASSES
            moved = points + image.frame.direction() @ (step * np.array([np.cos(angle), np.sin(angle)]))
            found.append(index_points(image.frame, *self.scaled[turn % 2].locate(image, moved, never)))
        if self.partner is not None:
            found.append(index_points(image.frame, *flipped(of_one_member(self.pipeline), image, points, self.partner)))
        return np.stack(found)


def never() -> bool:
    """Nobody cancels a benchmark but by ending it."""
    return False


def of_one_member(pipeline: PatchPipeline, factor: float = 1.0) -> PatchPipeline:
    """The first of the networks, in patches larger by a factor."""
    other, stage = copy.copy(pipeline), copy.copy(pipeline.landmarks)
    stage.members = stage.members[:1]
    stage.plan = replace(stage.plan, extent=factor * stage.plan.extent)
    other.landmarks = stage
    return other


def partners(schema: LandmarkSchema) -> Tensor | None:
    """Which landmark each one is on the mirrored film, (n,); None where the anatomy has no mirror image."""
    if not schema.mirror_pairs:
        return None
    order, row = np.arange(len(schema.ids)), {id: k for k, id in enumerate(schema.ids)}
    for one, two in schema.mirror_pairs:
        order[row[one]], order[row[two]] = row[two], row[one]
    return torch.from_numpy(order)


def flipped(
    pipeline: PatchPipeline, image: Image, points: np.ndarray, partner: Tensor
) -> tuple[Tensor, tuple[Frame, ...]]:
    """What `PatchPipeline.locate` gives, seen in mirrored patches."""
    stage, own = pipeline.landmarks, torch.arange(len(points))
    views, windows = pipeline.views(image, points)
    inputs = pipeline.normalised(views)[..., ::-1]
    maps = [log_probabilities(stage.logits(member, inputs)[own, partner].flip(-1)) for member in stage.members]
    return mixture(maps), tuple(window.resampled(size=maps[0].shape[:0:-1]) for window in windows)


def index_points(frame: Frame, heatmaps: Tensor, grids: Sequence[Frame]) -> np.ndarray:
    """Decoded points (n, 2) in index units of a film."""
    cells = local_expectation(heatmaps).double().numpy()
    return frame.to_index(np.stack([grid.to_physical(cell) for grid, cell in zip(grids, cells, strict=True)]))


def scatter(points: np.ndarray) -> np.ndarray:
    """Covariances (n, 2, 2) of several points (several, n, 2) for each landmark."""
    apart = points - points.mean(axis=0)
    return np.einsum("pni,pnj->nij", apart, apart) / (len(points) - 1)


def look_at(
    bundle: Bundle, folder: Path, cases: Sequence[Case], spacing_mm: float | None, bar: Progress
) -> tuple[Looks, int]:
    """All films of some cases, and how many were refused.

    Raises:
        LandmarkDetectionError: an image cannot be read, or none shows the anatomy.
    """
    looker, task = Looker(bundle), bar.add_task("films", total=len(cases))

    def found() -> Iterator[tuple[str, Detection]]:
        for case in cases:
            detection = looker.look(read_image(case.path, spacing_mm))
            bar.advance(task)
            if detection is not None:
                yield case.name, detection

    seen = evidence(found(), {case.name: case.truth for case in cases}, read_groups(folder), own_spread=False)
    spent = {name: np.array(values) for name, values in looker.milliseconds.items()}
    return Looks(seen, {name: np.stack(values) for name, values in looker.scatter.items()}, spent), looker.refused
