"""The pipeline of models of one joint for volumes: found in the whole volume on either side, then in a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..heatmaps import local_expectation, log_probabilities
from ..images import Image
from ..landmarks import LandmarkSet
from .bundle import Bundle
from .decoding import decode, oriented_prior
from .detection import Detection, Seen
from .fitness import Fit, doubt_margin, fit_notes, refusal
from .joint import JointPipeline, Progress
from .networks import Ensemble
from .region import SIDES, Candidate, Side
from .volume_finding import FindingStage, window_values
from .volume_points import PointsLook, PointsStage


class VolumeJointPipeline(JointPipeline):
    """The stages of a bundle of kind ``volume_joint`` on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.finding = FindingStage(Ensemble(bundle, bundle.stages["finding"], device))
        self.points = PointsStage(Ensemble(bundle, bundle.stages["points"], device))

    def detect(
        self, image: Image, side: str, progress: Progress, cancelled: Callable[[], bool], force: bool
    ) -> Detection:
        """See `Detector.detect`."""
        progress(0.05, f"Looking for the {self.bundle.schema.title}")
        candidates = self.candidates(image, cancelled)
        best = max(candidate.presence for candidate in candidates.values())
        fit = Fit(best - self.bundle.calibration.presence_threshold)
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        chosen, notes = self.choose(image, candidates, side, force)
        progress(0.6, "Finding the landmarks")
        look = self.looked(image, chosen, cancelled)
        progress(0.95, "Estimating the errors")
        detection = self.describe(image, candidates, chosen, look.heatmaps[0], look.grids[0], notes)
        fit = fit.limited(doubt_margin(detection, self.bundle.calibration))
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        return replace(
            detection,
            fitness=fit.score,
            notes=detection.notes + fit_notes(fit),
            repredict=self.repredict(image, chosen.side, look, detection),
        )

    def presence(self, image: Image) -> float:
        """Logit of the joint on the side of the body that a volume shows."""
        return max(candidate.presence for candidate in self.candidates(image, lambda: False).values())

    def candidates(self, image: Image, cancelled: Callable[[], bool]) -> dict[Side, Candidate]:
        """The joint as each side of the body would show it."""
        window = self.finding.window(image)
        voxels = window_values(image, window, self.finding.ensemble.plan)
        found = {}
        for side in SIDES:
            mirrored = side == self.bundle.mirrored_side
            logits = self.finding.logits(voxels[..., ::-1] if mirrored else voxels, cancelled)
            grid = self.finding.grid(window.flipped(0) if mirrored else window)
            cells = local_expectation(log_probabilities(logits[:-1], 3), 3)
            points = grid.to_physical(cells.double().numpy())
            found[side] = Candidate(side, points, float(logits[-1].max()))
        return found

    def looked(self, image: Image, chosen: Candidate, cancelled: Callable[[], bool]) -> PointsLook:
        """The window about the joint, laid anew about what the first one showed."""
        mirrored = chosen.side == self.bundle.mirrored_side
        # Of landmarks cut off by the end of a scan the coarse places are anywhere: the median does not follow them.
        look = self.points.look(image, np.median(chosen.points, axis=0)[None], mirrored, cancelled)
        points = look.grids[0].to_physical(local_expectation(look.heatmaps[0], 3).double().numpy())
        return self.points.look(image, points.mean(axis=0)[None], mirrored, cancelled)

    def landmark_set(self, image: Image, side: Side, heatmaps: Tensor, grid: Frame) -> LandmarkSet:
        """Landmarks by heatmaps of the window."""
        prior = oriented_prior(self.bundle, image.frame, side)
        return decode(self.bundle, image, heatmaps, (grid,) * len(heatmaps), prior).landmarks

    def repredict(self, image: Image, side: Side, look: PointsLook, detection: Detection) -> Callable:
        """See `Detection`."""

        def seen(hints: Mapping[int, np.ndarray], start: LandmarkSet) -> Seen:
            places = {row: image.frame.to_physical(place) for row, place in hints.items()}
            if not places:
                return Seen(detection.landmarks)
            return Seen(self.landmark_set(image, side, self.points.hinted(look, 0, places), look.grids[0]))

        return seen
