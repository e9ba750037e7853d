"""The pipeline of models of one joint: a region stage that knows the side, then landmarks in a window about it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NotThisAnatomyError, SideError
from ..geometry import Frame
from ..heatmaps import covariance, expected_radial_error, local_expectation, log_probabilities
from ..images import Image
from ..landmarks import LandmarkSet
from ..preprocessing.crop import centroid_size, crop_about
from ..preprocessing.intensity import normalise
from ..preprocessing.resample import sample
from .bundle import Bundle
from .detection import Detection, Heatmaps
from .networks import Ensemble, mixture, stop_if
from .region import Candidate, RegionStage, Side, physical_points

Progress = Callable[[float, str], None]


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
        chosen, notes = self.choose(image, candidates, side, force)
        progress(0.4, "Finding the landmarks")
        heatmaps, window = self.locate(image, chosen, cancelled)
        progress(0.95, "Estimating the errors")
        detection = self.describe(image, candidates, chosen, heatmaps, window, notes)
        # A film of other anatomy can pass the coarse look, but no landmark is at home in it.
        doubt = detection.landmarks.expected_errors.mean() / detection.review_threshold
        calibration = self.bundle.calibration
        if doubt > calibration.refusal_threshold / calibration.review_threshold and not force:
            raise refusal(image, self.bundle)
        return detection

    def choose(
        self, image: Image, candidates: dict[Side, Candidate], side: str, force: bool
    ) -> tuple[Candidate, tuple[str, ...]]:
        """The candidate to go on with, and what the user should know about the choice."""
        threshold = self.bundle.calibration.presence_threshold
        best = max(candidates.values(), key=lambda candidate: candidate.presence)
        if best.presence < threshold and not force:
            raise refusal(image, self.bundle)
        if side == "auto":
            return best, side_notes(image, best.side)
        declared = candidates[side]
        if declared.presence < threshold <= best.presence and not force:
            raise SideError(
                f"'{image.name}' shows a {best.side} knee, but the declared side is {side}; "
                f"choose {best.side} or auto, or check whether the film is mirrored."
            )
        return declared, side_notes(image, declared.side)

    def locate(self, image: Image, chosen: Candidate, cancelled: Callable[[], bool]) -> tuple[Tensor, Frame]:
        """Log-probabilities ``(n, h, w)`` and the window they belong to, re-centred once on what was found.

        The first look is one member's alone; in the second all members look.
        """
        stage = self.landmarks
        first, window = self.look(image, chosen.side, chosen.points, stage.members[:1], cancelled)
        points = physical_points(local_expectation(first), stage.stride, window)
        return self.look(image, chosen.side, points, stage.members, cancelled)

    def look(
        self, image: Image, side: Side, points: np.ndarray, members: list[nn.Module], cancelled: Callable[[], bool]
    ) -> tuple[Tensor, Frame]:
        """Mean of the members' heatmaps about estimated landmarks ``(n, 3)`` in LPS, and the window they are on."""
        plan = self.landmarks.plan
        width = plan.extent * centroid_size(points)
        window = crop_about(image.frame, points.mean(axis=0), width, plan.size, side == self.bundle.mirrored_side)
        inputs = normalise(sample(image, window), plan.percentiles)
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
        window: Frame,
        notes: tuple[str, ...],
    ) -> Detection:
        """Landmarks in the frame of the image, with what the heatmaps and the shape say about them."""
        bundle = self.bundle
        tempered = heatmaps / bundle.calibration.temperature
        grid = window.resampled(size=heatmaps.shape[:0:-1])
        prior, errors = bundle.prior, bundle.errors
        if chosen.side == bundle.mirrored_side:
            prior, errors = prior.mirrored(), None if errors is None else errors.mirrored(image.dims)
        landmarks, threshold = self.landmark_set(image, heatmaps, tempered, grid)
        isotropic = landmarks.positions * image.frame.spacing
        complete = np.isfinite(isotropic).all()
        others = [c.presence for c in candidates.values() if c.side != chosen.side]
        return Detection(
            bundle_name=bundle.name,
            bundle_version=bundle.version,
            bundle_sha256=bundle.sha256,
            image_name=image.name,
            landmarks=landmarks,
            side=chosen.side,
            side_probability=sigmoid(chosen.presence - max(others)),
            presence=sigmoid(chosen.presence),
            prior=prior,
            heatmaps=Heatmaps(tempered.numpy(), grid),
            notes=image.notes + notes,
            plausibility=prior.plausibility(isotropic) if complete else 0.0,
            review_threshold=threshold,
            errors=errors,
        )

    def landmark_set(
        self, image: Image, heatmaps: Tensor, tempered: Tensor, grid: Frame
    ) -> tuple[LandmarkSet, float]:
        """Decoded points with covariances and expected errors in index units, and the review threshold in the same."""
        cells = local_expectation(heatmaps)
        affine = grid.index_map(image.frame)
        matrix = affine[:, :-1]
        positions = cells.double().numpy() @ matrix.T + affine[:, -1]
        calibration = self.bundle.calibration
        spread = calibration.covariance_scale * covariance(tempered, cells).double().numpy()
        covariances = matrix @ spread @ matrix.T
        cell = float(np.sqrt(abs(np.linalg.det(matrix))))
        errors = calibration.error_scale * cell * expected_radial_error(tempered, cells).double().numpy()
        threshold = calibration.review_threshold * centroid_size(positions)
        outside = outside_by(positions, image.frame) > np.maximum(1.0, errors)
        statuses = np.where(outside, "absent", np.where(errors > threshold, "review", "predicted"))
        positions[outside] = np.nan
        source = f"{self.bundle.name} {self.bundle.version}"
        landmarks = LandmarkSet(
            schema=self.bundle.schema,
            frame=image.frame,
            positions=positions,
            covariances=covariances,
            expected_errors=errors,
            statuses=tuple(statuses.tolist()),
            sources=(source,) * len(positions),
        )
        return landmarks, threshold


def refusal(image: Image, bundle: Bundle) -> NotThisAnatomyError:
    """The sentence for an image of other anatomy."""
    return NotThisAnatomyError(
        f"'{image.name}' does not look like the film this model reads ({bundle.title}); "
        "choose another image or another model."
    )


def sigmoid(logit: float) -> float:
    """Probability of a logit."""
    return float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))


def outside_by(positions: np.ndarray, frame: Frame) -> np.ndarray:
    """How far points ``(n, d)`` lie outside the pixels of an image, in index units; 0 inside."""
    last = np.asarray(frame.size) - 0.5
    return np.maximum(np.maximum(-0.5 - positions, positions - last), 0).max(axis=1)


def side_notes(image: Image, side: Side) -> tuple[str, ...]:
    """A sentence where the file declares another side than the film shows."""
    if image.view_side in (None, side):
        return ()
    return (f"The file says {image.view_side}, but the film was read as a {side} knee; check for a mirrored film.",)
