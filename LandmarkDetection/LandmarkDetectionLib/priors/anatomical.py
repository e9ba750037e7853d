"""Segmentation by an anatomical prior that learnt from label maps and images, never from pairs (Dalca et al. 2018).

The image encoder says which anatomies ``z`` an image may show, the decoder draws them, and the gray values of the image
itself decide at each cell: ``argmax_l f(z)[j, l] N(x_j; mu_l, sigma_l^2)``.

Two things are added to the paper. A first look finds where the joint is, a second one sees it in the standard pose.
And an encoder is only a guess at the best ``z``: a few steps along the gradient of its own loss, in ``z`` alone,
take away what it left (Kim et al., Semi-amortized variational autoencoders, ICML 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from ..images import Image
from ..networks.layout import LAYOUT
from ..networks.vae import AnatomyDecoder, AnatomyEncoder
from .anatomy_segmentation import Segmentation, carried
from .anatomy_statistics import FORMS, Appearance, fitted_statistics, log_densities, marginal, posteriors
from .anatomy_view import OUTSIDE, AnatomyView
from .anatomy_volume_view import VolumeView
from .procrustes import Similarity


@dataclass(frozen=True)
class AnatomySettings:
    """How a film or a volume is segmented.

    Attributes:
        view: from image to gray values.
        appearance: of the labels.
        form, rounds, weight: of the unsupervised loss; ``weight`` is what one cell counts.
        passes: looks at the film, each but the first from the standard pose; one for a volume.
        steps, rate: of the descent in z; no steps leave the encoder's mean.

    Raises:
        LandmarkDetectionError: more than one look at a volume, whose pose is that of its landmarks.
    """

    view: AnatomyView | VolumeView
    appearance: Appearance
    form: str = "marginal"
    rounds: int = 3
    weight: float = 0.2
    passes: int = 2
    steps: int = 30
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.view.dims == 3 and self.passes != 1:
            raise LandmarkDetectionError("Recipe field 'passes': a volume is seen once, in the pose of its landmarks.")


@dataclass(eq=False)
class AnatomicalPrior:
    """A trained encoder and decoder with their settings, on the CPU."""

    encoder: AnatomyEncoder
    decoder: AnatomyDecoder
    settings: AnatomySettings
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        for network in (self.encoder, self.decoder):
            network.to(self.device, memory_format=LAYOUT[self.settings.view.dims]).eval().requires_grad_(False)

    def log_labels(self, z: Tensor) -> Tensor:
        """``log f(z)``, shape ``(B, L, N)``."""
        return functional.log_softmax(self.decoder(z), dim=1).flatten(2)

    def latent(self, gray: Tensor) -> Tensor:
        """The most probable z, ``(B, latent)``, of gray values ``(B, 1, [D,] H, W)``: encoder, then descent."""
        s = self.settings
        with torch.no_grad():
            z = self.encoder(gray)[0]
        flat = gray.flatten(1)
        with torch.enable_grad():
            z = z.clone().requires_grad_(True)
            optimizer = torch.optim.Adam([z], lr=s.rate)
            for step in range(s.steps):
                optimizer.param_groups[0]["lr"] = s.rate * (1 - step / s.steps)
                log_labels = self.log_labels(z)
                statistics = fitted_statistics(flat, log_labels.detach(), s.appearance, s.rounds)
                fit = FORMS[s.form](log_labels, log_densities(flat, *statistics)).sum()
                loss = 0.5 * z.square().sum() - s.weight * fit
                (z.grad,) = torch.autograd.grad(loss, [z])
                optimizer.step()
        return z.detach()

    @torch.no_grad()
    def explained(self, gray: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bare decoder ``f(z)`` and posteriors, each ``(B, L, [D,] H, W)``, and the fit ``(B,)`` of `Segmentation`."""
        flat, log_labels, s = gray.flatten(1), self.log_labels(z), self.settings
        densities = log_densities(flat, *fitted_statistics(flat, log_labels, s.appearance, s.rounds))
        shape = (*log_labels.shape[:2], *gray.shape[2:])
        mean, deviation = flat.mean(1, keepdim=True), flat.std(1, keepdim=True, correction=0).clamp(min=1e-6)
        gain = marginal(log_labels, densities) - log_densities(flat, mean, deviation)[:, 0]
        band = 1 - log_labels[:, OUTSIDE].exp()
        fit = (gain * band).sum(1) / band.sum(1).clamp(min=1e-6)
        return log_labels.exp().view(shape), posteriors(log_labels, densities).view(shape), fit

    def look(self, image: Image, window: Frame, bare: bool = False) -> Segmentation:
        """The segmentation of one window of a film or a volume."""
        gray = torch.from_numpy(self.settings.view.gray(image, window))[None, None].to(self.device)
        z = self.latent(gray)
        drawn, posterior, fit = self.explained(gray, z)
        probabilities = (drawn if bare else posterior)[0].cpu().numpy()
        return Segmentation(window, probabilities, float(0.5 * z.square().sum()), float(fit[0]))

    @cached_property
    def standard(self) -> Similarity | None:
        """Pose of the joint in the mean anatomy: where a window in the standard pose shows it."""
        with torch.no_grad():
            z = torch.zeros(1, self.decoder.dense.in_features, device=self.device)
            probabilities = functional.softmax(self.decoder(z), dim=1)[0].cpu().numpy()
        size = self.settings.view.size
        return Segmentation(Frame(size, np.zeros(3), np.eye(3)[:, :2]), probabilities).pose()

    def window(self, image: Image, mirrored: bool = False, window: Frame | None = None) -> Frame:
        """The window in the standard pose, after all looks but the last.

        Args:
            image: a film of one knee.
            mirrored: the film shows a left knee.
            window: to begin with, where something is known of the place; in the orientation of a right knee. A volume
                needs one.
        """
        view = self.settings.view
        window = view.first_window(image.frame, mirrored) if window is None else window
        for _ in range(self.settings.passes - 1):
            found = self.look(image, window, bare=True).pose()
            if found is None or self.standard is None:
                break
            move = carried(self.standard, found)
            # A first look that went astray must not lead the second one out of the film.
            if not 0.6 < move.scale < 1.6 or np.abs(move.rotation[1, 0]) > 0.4:
                break
            window = view.moved_window(window, move)
        return window

    def segment(
        self, image: Image, mirrored: bool = False, window: Frame | None = None, bare: bool = False
    ) -> Segmentation:
        """The bones about the joint of a film of one knee.

        Args:
            image, mirrored, window: see `window`.
            bare: the decoder's own map instead of the posterior.
        """
        return self.look(image, self.window(image, mirrored, window), bare)
