"""The pipeline of a patch model: a look at the whole view, then every landmark in its own patch, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..heatmaps import log_probabilities
from ..images import Image
from ..preprocessing.crop import centroid_size, crop_about
from ..preprocessing.intensity import normalise
from ..preprocessing.patches import AFAR, patches, reduced
from ..preprocessing.pyramid import CLOSE_LOOK, sample_halves
from .bundle import Bundle
from .decoding import decode, described
from .detection import Detection
from .fitness import Fit, doubt_margin, fit_notes, judged, refusal
from .joint import Progress, sigmoid
from .networks import Ensemble, mixture, stop_if
from .orientation import HALF, MIRRORED, OVER, SIDEWAYS
from .region import Candidate, RegionStage


class PatchPipeline:
    """The stages of a bundle of kind ``patch`` on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.region = RegionStage(Ensemble(bundle, bundle.stages["region"], device), None)
        self.landmarks = Ensemble(bundle, bundle.stages["landmarks"], device)

    def detect(
        self, image: Image, side: str, progress: Progress, cancelled: Callable[[], bool], force: bool
    ) -> Detection:
        """See `Detector.detect`; ``side`` is not used, since the view has none."""
        progress(0.05, f"Looking for the {self.bundle.schema.title}")
        candidate = self.candidate(image, cancelled)
        fit = self.fit(image, candidate, cancelled)
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        progress(0.3, "Finding the landmarks")
        heatmaps, grids = self.locate(image, candidate.points, cancelled)
        progress(0.95, "Estimating the errors")
        detection = self.describe(image, candidate, heatmaps, grids)
        # A film of other anatomy can pass the coarse look, but no landmark is at home in it.
        fit = fit.limited(doubt_margin(detection, self.bundle.calibration))
        if fit.refused and not force:
            raise refusal(image, self.bundle, fit)
        return replace(detection, fitness=fit.score, notes=detection.notes + fit_notes(fit))

    def fit(self, image: Image, candidate: Candidate, cancelled: Callable[[], bool]) -> Fit:
        """How well the first look finds the view, as the film is, turned and mirrored: the view has one orientation."""
        threshold = self.bundle.calibration.presence_threshold

        def look(turned: Image) -> float:
            return self.candidate(turned, cancelled).presence - threshold

        as_it_is = candidate.presence - threshold
        return judged(image, as_it_is, as_it_is, look, (HALF, MIRRORED, OVER, *SIDEWAYS))

    def candidate(self, image: Image, cancelled: Callable[[], bool]) -> Candidate:
        """The view as the first look sees it."""
        return self.region.candidates(image, cancelled)[None]

    def locate(
        self, image: Image, points: np.ndarray, cancelled: Callable[[], bool]
    ) -> tuple[Tensor, tuple[Frame, ...]]:
        """Log-probabilities ``(n, h, w)`` of all landmarks near ``points`` (n, 3) in LPS, and the grid of each."""
        views, windows = self.views(image, points)
        inputs = self.normalised(views)
        own = torch.arange(len(views))
        heatmaps = []
        for member in self.landmarks.members:
            stop_if(cancelled)
            # Every patch shows other landmarks too; only the one it lies about is looked for.
            heatmaps.append(log_probabilities(self.landmarks.logits(member, inputs)[own, own]))
        size = heatmaps[0].shape[:0:-1]
        return mixture(heatmaps), tuple(window.resampled(size=size) for window in windows)

    def views(self, image: Image, points: np.ndarray) -> tuple[np.ndarray, list[Frame]]:
        """Patches ``(n, 2, h, w)`` about ``points`` (n, 3) in LPS, close and from afar, and where they lie.

        The film is sampled once, so finely that one of its pixels is one of a patch.
        """
        size = self.landmarks.plan.size
        pixel = self.landmarks.plan.extent * centroid_size(points) / size[0]
        # One pixel of the view from afar more, so that its outermost ones are means of as many pixels as the others.
        film = film_about(image.frame, points, pixel, AFAR * (max(size) / 2 + 1))
        gray = torch.from_numpy(sample_halves(image, film, CLOSE_LOOK))[None, None]
        places = film.to_index(points)
        centres = torch.from_numpy(places.astype(np.float32))[:, None]
        views = patches(gray, reduced(gray), torch.eye(2).expand(len(places), 2, 2), centres, size)
        middle = (np.asarray(size) - 1) / 2
        return views.numpy(), [film.cropped(place - middle, size) for place in places]

    def normalised(self, views: np.ndarray) -> np.ndarray:
        """Views ``(n, 2, h, w)``, each by its own gray values."""
        percentiles = self.landmarks.plan.percentiles
        return np.stack([[normalise(view, percentiles) for view in pair] for pair in views])

    def describe(
        self, image: Image, candidate: Candidate, heatmaps: Tensor, grids: tuple[Frame, ...]
    ) -> Detection:
        """Landmarks in the frame of the image, with what the heatmaps and the shape say about them."""
        decoded = decode(self.bundle, image, heatmaps, grids)
        return described(self.bundle, image, decoded, sigmoid(candidate.presence))


def film_about(frame: Frame, points: np.ndarray, pixel: float, margin: float) -> Frame:
    """The smallest grid parallel to a film that holds ``points`` (n, 3) in LPS and ``margin`` pixels on every side.

    Args:
        frame: of the film.
        points: finite.
        pixel: side of a pixel, in physical units.
        margin: in pixels of the new grid.
    """
    places = frame.to_index(points)
    low, high = places.min(axis=0), places.max(axis=0)
    size = np.ceil((high - low) * frame.spacing / pixel + 2 * margin).astype(int) + 1
    return crop_about(frame, frame.to_physical((low + high) / 2), pixel * size[0], tuple(size.tolist()))
