"""Windows about single vertebrae: the training input of the network that places the corners."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...heatmaps import cell_to_index, index_to_cell, local_expectation, spatial_cross_entropy
from ...networks.vertebra_maps import CORNERS
from ...preprocessing.oriented import oriented_crops, vertebra_pose
from ..data.appearance import normalise_batch, uniform, vary_appearance
from ..data.crops import rotation_scale
from ..data.films import Films


@dataclass(frozen=True)
class VertebraGeometry:
    """A window of ``size`` pixels, ``extent`` widths of the vertebra wide, and how far training moves it.

    ``shift`` is a share of the vertebra's height, ``scale`` the logarithm of a factor, ``rotation`` in degrees.
    """

    size: tuple[int, int]
    extent: float
    shift: float = 0.35
    scale: float = 0.15
    rotation: float = 8.0


def jittered(quads: Tensor, geometry: VertebraGeometry, generator: torch.Generator) -> Tensor:
    """Quads ``(V, 4, 2)`` as a first look might give them: shifted, scaled and turned as a whole."""
    count = len(quads)
    centre = quads.mean(dim=1, keepdim=True)
    height = (quads[:, 2:].mean(dim=1) - quads[:, :2].mean(dim=1)).norm(dim=-1)[:, None, None]
    angle = torch.deg2rad(uniform((count,), -geometry.rotation, geometry.rotation, generator))
    factor = torch.exp(uniform((count,), -geometry.scale, geometry.scale, generator))
    shift = geometry.shift * height * uniform((count, 1, 2), -1.0, 1.0, generator)
    return (quads - centre) @ rotation_scale(angle, factor) + centre + shift


def mirrored(crops: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Windows ``(V, 1, h, w)`` with left and right exchanged, and their corners with the names that they then have."""
    flipped = corners * torch.tensor([-1.0, 1.0]) + torch.tensor([crops.shape[-1] - 1.0, 0.0])
    return crops.flip(-1), flipped[:, [1, 0, 3, 2]]


@dataclass
class VertebraLikelihood:
    """Spatial cross-entropy of four corners in windows about single vertebrae, ``each`` of them from a film.

    The validation figure is the mean error on films kept out, in per mille of the film's height, from windows that are
    off by as much as in training.
    """

    films: Films
    phantoms: Films
    kept_out: Films | None
    geometry: VertebraGeometry
    batch: int
    stride: int
    each: int = 8
    phantom_share: float = 0.1

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            drawn = [self.windows(*self.film(generator), generator) for _ in range(self.batch // self.each)]
            crops, corners = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            inputs = normalise_batch(vary_appearance(crops, generator))
        logits = network(inputs.contiguous(memory_format=torch.channels_last))
        return spatial_cross_entropy(logits.float(), index_to_cell(corners, self.stride))

    def film(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A film ``(1, 1, S, S)`` and some of its vertebrae ``(each, 4, 2)``."""
        films = self.phantoms if torch.rand(1, generator=generator) < self.phantom_share else self.films
        image, points = films.batch(torch.randint(len(films), (1,), generator=generator))
        quads = points[0].unflatten(0, (-1, CORNERS))
        return image, quads[torch.randperm(len(quads), generator=generator)[: self.each]]

    def windows(self, image: Tensor, quads: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows about vertebrae and the corners in them, half of them mirrored."""
        crops, corners, _, _ = look(image, jittered(quads, self.geometry, generator), quads, self.geometry)
        if torch.rand(1, generator=generator) < 0.5:
            return mirrored(crops, corners)
        return crops, corners

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        generator = torch.Generator().manual_seed(0)
        errors = []
        for row in range(len(self.kept_out)):
            image, points = self.kept_out.batch(torch.tensor([row]))
            quads = points[0].unflatten(0, (-1, CORNERS))
            near = jittered(quads, self.geometry, generator)
            crops, _, matrix, centre = look(image, near, quads, self.geometry)
            cells = local_expectation(network(normalise_batch(crops)).float())
            middle = (torch.tensor(self.geometry.size) - 1) / 2
            found = (cell_to_index(cells, self.stride) - middle) @ matrix + centre
            errors.append((found - quads).norm(dim=-1).mean())
        return float(1000 * torch.stack(errors).mean() / self.kept_out.images.shape[-1])


def look(
    image: Tensor, near: Tensor, quads: Tensor, geometry: VertebraGeometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows about ``near``, the true corners ``quads`` in them, and the windows' matrices and centres."""
    matrix, centre = vertebra_pose(near, geometry.extent, geometry.size[0])
    middle = (torch.tensor(geometry.size) - 1) / 2
    corners = (quads - centre) @ torch.linalg.inv(matrix) + middle
    return oriented_crops(image, matrix, centre, geometry.size), corners, matrix, centre
