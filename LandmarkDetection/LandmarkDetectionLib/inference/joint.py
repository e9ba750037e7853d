"""The pipeline of models of one joint: a region stage that knows the side, then landmarks in a window about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SideError
from ..geometry import Frame
from ..heatmaps import local_expectation, log_probabilities
from ..images import Image
from ..preprocessing.crop import centroid_size, crop_about
from ..preprocessing.intensity import normalise
from ..preprocessing.pyramid import CLOSE_LOOK, sample_halves
from .bundle import Bundle
from .decoding import decode, described
from .detection import Detection
from .fitness import Fit, doubt_margin, fit_notes, judged, refusal
from .networks import Ensemble, mixture, stop_if
from .orientation import HALF, SIDEWAYS
from .region import Candidate, RegionStage, Side, physical_points

Progress = Callable[[float, str], None]

_OTHER_SIDE = 4.0  # logits of presence by which the other side must be ahead where both could be meant
# Margins that no training film reaches upside down (at most 2.6) or on its side (1.4); upright ones begin at 5.5.
_UPRIGHT, _NOT_LYING = 4.0, 2.5
_SAME_PLACE = 0.5  # centroid sizes between two knees that are one


class JointPipeline:
    """The stages of a bundle of kind ``joint`` on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.region = RegionStage(Ensemble(bundle, bundle.stages["region"], device), bundle.mirrored_side)
        self.landmarks = Ensemble(bundle, bundle.stages["landmarks"], device)

    def detect(
        self, image: Image, side: str, progress: Progress, cancelled: Callable[[], bool], force: bool
    ) -> Detection:
        """See `Detector.detect`."""
        progress(0.05, f"Looking for the {self.bundle.schema.title}")
        candidates = self.region.candidates(image, cancelled)
        fit = self.fit(image, candidates, cancelled)
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        chosen, notes = self.choose(image, candidates, side, force)
        progress(0.4, "Finding the landmarks")
        heatmaps, grid = self.locate(image, chosen, cancelled)
        progress(0.95, "Estimating the errors")
        detection = self.describe(image, candidates, chosen, heatmaps, grid, notes)
        # A film of other anatomy can pass the coarse look, but no landmark is at home in it.
        fit = fit.limited(doubt_margin(detection, self.bundle.calibration))
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        return replace(detection, fitness=fit.score, notes=detection.notes + fit_notes(fit))

    def fit(self, image: Image, candidates: dict[Side, Candidate], cancelled: Callable[[], bool]) -> Fit:
        """How well the region stage finds the anatomy, as the film is and turned; a mirrored film is the other side."""
        threshold = self.bundle.calibration.presence_threshold

        def margin(found: dict[Side, Candidate]) -> float:
            return max(candidate.presence for candidate in found.values()) - threshold

        def look(turned: Image) -> float:
            return margin(self.region.candidates(turned, cancelled))

        as_it_is = margin(candidates)
        turns = (HALF,) * (as_it_is < _UPRIGHT) + SIDEWAYS * (as_it_is < _NOT_LYING)
        return judged(image, as_it_is, as_it_is, look, turns)

    def choose(
        self, image: Image, candidates: dict[Side, Candidate], side: str, force: bool
    ) -> tuple[Candidate, tuple[str, ...]]:
        """The candidate to go on with, and what the user should know about the choice."""
        threshold = self.bundle.calibration.presence_threshold
        best = max(candidates.values(), key=lambda candidate: candidate.presence)
        if side == "auto":
            return best, side_notes(image, best.side)
        declared = candidates[side]
        hidden = declared.presence < threshold <= best.presence
        contradicted = best.presence - declared.presence > _OTHER_SIDE and one_knee(best, declared)
        if (hidden or contradicted) and not force:
            raise SideError(
                f"'{image.name}' shows a {best.side} knee, but the declared side is {side}; "
                f"choose {best.side} or auto, or check whether the film is mirrored."
            )
        return declared, side_notes(image, declared.side)

    def locate(self, image: Image, chosen: Candidate, cancelled: Callable[[], bool]) -> tuple[Tensor, Frame]:
        """Log-probabilities ``(n, h, w)`` and the grid they belong to, re-centred once on what was found.

        The first look is one member's alone; in the second all members look.
        """
        stage = self.landmarks
        first, window = self.look(image, chosen.side, chosen.points, stage.members[:1], cancelled)
        points = physical_points(local_expectation(first), stage.stride, window)
        heatmaps, window = self.look(image, chosen.side, points, stage.members, cancelled)
        return heatmaps, window.resampled(size=heatmaps.shape[:0:-1])

    def look(
        self, image: Image, side: Side, points: np.ndarray, members: list[nn.Module], cancelled: Callable[[], bool]
    ) -> tuple[Tensor, Frame]:
        """Mean of the members' heatmaps about estimated landmarks ``(n, 3)`` in LPS, and the window they are on."""
        plan = self.landmarks.plan
        width = plan.extent * centroid_size(points)
        window = crop_about(image.frame, points.mean(axis=0), width, plan.size, side == self.bundle.mirrored_side)
        inputs = normalise(sample_halves(image, window, CLOSE_LOOK), plan.percentiles)
        heatmaps = []
        for member in members:
            stop_if(cancelled)
            heatmaps.append(log_probabilities(self.landmarks.logits(member, inputs[None])[0]))
        return mixture(heatmaps), window

    def describe(
        self,
        image: Image,
        candidates: dict[Side, Candidate],
        chosen: Candidate,
        heatmaps: Tensor,
        grid: Frame,
        notes: tuple[str, ...],
    ) -> Detection:
        """Landmarks in the frame of the image, with what the heatmaps and the shape say about them."""
        bundle = self.bundle
        decoded = decode(bundle, image, heatmaps, (grid,) * len(heatmaps), chosen.side)
        others = [candidate.presence for candidate in candidates.values() if candidate.side != chosen.side]
        probability = sigmoid(chosen.presence - max(others))
        return described(bundle, image, decoded, sigmoid(chosen.presence), notes, chosen.side, probability)


def one_knee(first: Candidate, second: Candidate) -> bool:
    """Whether both sides were found at the same place: a film of one knee, not of both."""
    apart = np.linalg.norm(first.points.mean(axis=0) - second.points.mean(axis=0))
    return bool(apart < _SAME_PLACE * centroid_size(first.points))


def sigmoid(logit: float) -> float:
    """Probability of a logit."""
    return float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))


def side_notes(image: Image, side: Side) -> tuple[str, ...]:
    """A sentence where the file declares another side than the film shows."""
    if image.view_side in (None, side):
        return ()
    return (f"The file says {image.view_side}, but the film was read as a {side} knee; check for a mirrored film.",)
