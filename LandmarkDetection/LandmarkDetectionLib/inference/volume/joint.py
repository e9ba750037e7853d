"""The pipeline of models of one joint for volumes: found in the whole volume as on either side, then in a window.

Which side of the body it is, and whether it is there at all, tell the landmarks themselves: as those of the other side,
or in other anatomy, they are placed less surely and make an unlikely shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...geometry import Frame
from ...heatmaps import expected_radial_error, local_expectation, log_probabilities
from ...images import Image
from ...landmarks import LandmarkSet
from ..bundle import Bundle
from ..decoding import decode
from ..detection import Detection, Seen
from ..fitness import Fit, doubt_margin, fit_notes, refusal
from ..joint import JointPipeline, Progress
from ..networks import Ensemble
from ..region import SIDES, Candidate, Side
from .finding import FindingStage, window_values
from .points import PointsLook, PointsStage

_DOUBT = 4.0  # logits of presence for a millimeter of mean expected error, against one for a unit of shape distance


@dataclass(frozen=True, eq=False)
class Looked(Candidate):
    """A candidate after the second look: the window about it, and its landmarks (n, 3) in LPS."""

    look: PointsLook


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
        progress(0.95, "Estimating the errors")
        look = chosen.look
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

    def candidates(self, image: Image, cancelled: Callable[[], bool]) -> dict[Side, Looked]:
        """The joint as each side of the body would show it."""
        window = self.finding.window(image)
        voxels = window_values(image, window, self.finding.ensemble.plan)
        found = {}
        for side in SIDES:
            mirrored = side == self.bundle.mirrored_side
            logits = self.finding.logits(voxels[..., ::-1] if mirrored else voxels, cancelled)
            grid = self.finding.grid(window.flipped(0) if mirrored else window)
            cells = local_expectation(log_probabilities(logits, 3), 3)
            found[side] = self.looked(image, side, grid.to_physical(cells.double().numpy()), cancelled)
        return found

    def looked(self, image: Image, side: Side, coarse: np.ndarray, cancelled: Callable[[], bool]) -> Looked:
        """A candidate by coarse landmarks (n, 3): the window about them, laid anew about what the first one showed."""
        mirrored = side == self.bundle.mirrored_side
        # Of landmarks cut off by the end of a scan the coarse places are anywhere: the median does not follow them.
        first = self.points.look(image, np.median(coarse, axis=0)[None], mirrored, cancelled)
        look = self.points.look(image, placed(first).mean(axis=0)[None], mirrored, cancelled)
        points = placed(look)
        heatmaps = look.heatmaps[0]
        radii = look.grids[0].spacing[0] * expected_radial_error(heatmaps, local_expectation(heatmaps, 3), 3)
        prior = self.bundle.prior.mirrored() if mirrored else self.bundle.prior
        return Looked(side, points, -_DOUBT * float(radii.mean()) - prior.distance(points), look)

    def landmark_set(self, image: Image, side: Side, heatmaps: Tensor, grid: Frame) -> LandmarkSet:
        """Landmarks by heatmaps of the window."""
        return decode(self.bundle, image, heatmaps, (grid,) * len(heatmaps), side).landmarks

    def repredict(self, image: Image, side: Side, look: PointsLook, detection: Detection) -> Callable:
        """See `Detection`."""

        def seen(hints: Mapping[int, np.ndarray], start: LandmarkSet) -> Seen:
            places = {row: image.frame.to_physical(place) for row, place in hints.items()}
            if not places:
                return Seen(detection.landmarks)
            return Seen(self.landmark_set(image, side, self.points.hinted(look, 0, places), look.grids[0]))

        return seen


def placed(look: PointsLook) -> np.ndarray:
    """Landmarks (n, 3) in LPS by the heatmaps of the first window."""
    return look.grids[0].to_physical(local_expectation(look.heatmaps[0], 3).double().numpy())
