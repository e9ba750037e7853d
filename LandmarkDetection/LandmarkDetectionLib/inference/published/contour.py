"""Contour-Hugging Heatmaps in use (McCouat and Voiculescu, CVPR 2022): the best cell, and how far it may be off.

The landmark is the cell of the greatest logit, its center; no temperature moves it. The expected radial error is the
mean distance to it over the calibrated heatmap. A landmark above the threshold of that error is to be reviewed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...heatmaps import cell_coordinates, expected_radial_error, grid_size, log_probabilities, mode
from ...images import Image, check_image, require_film
from ...landmarks import LandmarkSchema, LandmarkSet
from ...priors import ShapePrior
from ..detection import Detection, Heatmaps
from ..device import choose_device
from .contour_view import ContourPlan, gray_view, network_input

WITHIN_CELL = 1 / 12
"""Variance, in cells squared along an axis, of a point that lies anywhere in its cell."""


@dataclass(frozen=True, eq=False)
class TrainedContour:
    """What a training run left.

    Attributes:
        name, version, terms, sha256: of the model; the hash is that of its weights.
        schema: the K landmarks.
        network: from ``(B, 1, H, W)`` to logits ``(B, K, H, W)``, in evaluation mode.
        plan: how a film is brought to it.
        temperatures: (K,) positive; logits are divided by them.
        threshold: expected radial error in cells above which a landmark is to be reviewed, None without one.
        prior: shapes of the training films, for corrections.
    """

    name: str
    version: str
    terms: str
    sha256: str
    schema: LandmarkSchema
    network: nn.Module
    plan: ContourPlan
    temperatures: np.ndarray
    threshold: float | None
    prior: ShapePrior


class ContourDetector:
    """A trained network, ready to run on one device: ``auto``, ``cpu`` or ``cuda``."""

    def __init__(self, trained: TrainedContour, device: str = "auto") -> None:
        self.trained = trained
        self._device, self.device_reason = choose_device(device)
        self._network = trained.network.to(self._device).eval()

    def detect(self, image: Image) -> Detection:
        """Find the landmarks of one film.

        Raises:
            ImageError: the image is a volume, or nothing can be found on it.
        """
        require_film(image)
        check_image(image)
        trained = self.trained
        gray, view = gray_view(image, trained.plan)
        logits = self.logits(gray)
        scaled = logits / torch.tensor(trained.temperatures, dtype=logits.dtype)[:, None, None]
        cells = mode(logits)
        # From steps of a cell to steps of the film; both have the same axes.
        step = view.index_map(image.frame)[:, :-1]
        in_pixels = np.sqrt(np.mean(np.diag(step) ** 2))
        expected = in_pixels * expected_radial_error(scaled, cells).numpy().astype(np.float64)
        threshold = None if trained.threshold is None else in_pixels * trained.threshold
        landmarks = LandmarkSet(
            trained.schema,
            image.frame,
            positions=image.frame.to_index(view.to_physical(cells.numpy())),
            covariances=step @ cell_covariance(scaled, cells).numpy().astype(np.float64) @ step.T,
            expected_errors=expected,
            statuses=tuple("review" if self.needs_review(e, threshold) else "predicted" for e in expected),
            sources=(f"{trained.name} {trained.version}",) * len(expected),
        )
        return Detection(
            bundle_name=trained.name,
            bundle_version=trained.version,
            bundle_sha256=trained.sha256,
            image_name=image.name,
            landmarks=landmarks,
            side=None,
            side_probability=None,
            presence=1.0,
            prior=trained.prior,
            heatmaps=Heatmaps(scaled.numpy(), view),
            plausibility=trained.prior.plausibility(landmarks.positions * image.frame.spacing),
            review_threshold=threshold,
        )

    @torch.inference_mode()
    def logits(self, gray: np.ndarray) -> Tensor:
        """Raw logits ``(K, H, W)`` for gray values 0..1 ``(H, W)``, on the processor."""
        return self._network(network_input(gray, self.trained.plan).to(self._device))[0].float().cpu()

    @staticmethod
    def needs_review(expected: float, threshold: float | None) -> bool:
        """Whether an expected error is above the threshold."""
        return threshold is not None and expected > threshold


def cell_covariance(logits: Tensor, cells: Tensor) -> Tensor:
    """Second moment ``(K, 2, 2)`` of heatmaps of one-hot targets about ``cells`` (K, 2), in cells squared.

    Heatmaps say which cell holds a point, not where in the cell it lies: that adds `WITHIN_CELL`.
    """
    offsets = cell_coordinates(grid_size(logits, 2), logits) - cells[:, None]
    weighted = log_probabilities(logits).flatten(-2).exp()[..., None] * offsets
    return weighted.transpose(1, 2) @ offsets + WITHIN_CELL * torch.eye(2, dtype=logits.dtype)
