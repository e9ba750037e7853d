"""Patches about single landmarks: the training input of the network that places them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...heatmaps import cell_to_index, index_to_cell, local_expectation, spatial_cross_entropy
from ...preprocessing.patches import patches, reduced
from ..data.appearance import normalise_batch, uniform, vary_appearance
from ..data.crops import centroid_size, rotation_scale
from ..data.films import Films


@dataclass(frozen=True)
class PatchGeometry:
    """A patch of ``size`` pixels, ``extent`` centroid sizes wide, and how far training moves it.

    ``shift`` is the standard deviation of the place that the stage before found, a share of the centroid size, and at
    most ``farthest``; ``scale`` is the logarithm of a factor, ``stretch`` that of one axis against the other,
    ``rotation`` in degrees.
    """

    size: tuple[int, int]
    extent: float
    shift: float = 0.06
    farthest: float = 0.2
    scale: float = 0.12
    stretch: float = 0.05
    rotation: float = 8.0

    def misplaced(self, count: int, generator: torch.Generator) -> Tensor:
        """How far off the stage before was, ``(count, 1, 2)`` in centroid sizes."""
        apart = self.shift * torch.randn((count, 1, 2), generator=generator)
        return apart.clamp(-self.farthest, self.farthest)

    def matrices(self, count: int, size: Tensor, generator: torch.Generator) -> Tensor:
        """Patch pixel to film, ``(count, 2, 2)``, scaled, stretched and turned at random."""
        angle = torch.deg2rad(uniform((count,), -self.rotation, self.rotation, generator))
        factor = torch.exp(uniform((count,), -self.scale, self.scale, generator))
        stretch = torch.exp(uniform((count,), -self.stretch, self.stretch, generator))
        turned = rotation_scale(angle, factor * self.extent * size / self.size[0])
        return turned * torch.stack([stretch, 1 / stretch], dim=-1)[:, :, None]


@dataclass
class PatchLikelihood:
    """Spatial cross-entropy in patches about landmarks, ``each`` of them from a film.

    A patch about one landmark often shows others; they count as well. The validation figure is the mean error on films
    kept out, in per mille of the film's height, in patches about places as a stage before might find them.
    """

    films: Films
    kept_out: Films | None
    geometry: PatchGeometry
    batch: int
    stride: int
    each: int = 8

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            drawn = [self.film_patches(generator) for _ in range(self.batch // self.each)]
            views, points = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            inputs = varied(views, generator)
        logits = network(inputs.contiguous(memory_format=torch.channels_last))
        return spatial_cross_entropy(logits.float(), index_to_cell(points, self.stride))

    def film_patches(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Patches ``(each, 2, h, w)`` of one film, and all of its landmarks ``(each, K, 2)`` in each of them."""
        image, points = self.films.batch(torch.randint(len(self.films), (1,), generator=generator))
        known = torch.isfinite(points[0]).all(dim=-1).nonzero()[:, 0]
        rows = known[torch.randperm(len(known), generator=generator)[: self.each]]
        size = centroid_size(points)[0, 0, 0]
        centre = points[0, rows, None] + self.geometry.misplaced(len(rows), generator) * size
        matrix = self.geometry.matrices(len(rows), size, generator)
        views = patches(image, reduced(image), matrix, centre, self.geometry.size)
        middle = (torch.tensor(self.geometry.size) - 1) / 2
        return views, (points - centre) @ torch.linalg.inv(matrix) + middle

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        generator = torch.Generator().manual_seed(0)
        errors = []
        for row in range(len(self.kept_out)):
            image, points = self.kept_out.batch(torch.tensor([row]))
            near = points[0] + self.geometry.misplaced(points.shape[1], generator)[:, 0] * centroid_size(points)[0]
            found = find_in_patches(network, image, near, self.geometry, self.stride)
            errors.append((found - points[0]).norm(dim=-1).nanmean())
        return float(1000 * torch.stack(errors).mean() / self.kept_out.images.shape[-1])


def varied(views: Tensor, generator: torch.Generator) -> Tensor:
    """Views ``(P, 2, h, w)`` of one patch after the same changes of appearance, each normalized by itself."""
    beside = torch.cat([views[:, :1], views[:, 1:]], dim=-1)
    return normalised_views(vary_appearance(beside, generator).unflatten(-1, (2, -1)).movedim(-2, 1)[:, :, 0])


def normalised_views(views: Tensor) -> Tensor:
    """Views ``(P, 2, h, w)``, each normalized by itself."""
    return normalise_batch(views.flatten(0, 1)[:, None]).view(views.shape)


def find_in_patches(
    network: nn.Module, image: Tensor, near: Tensor, geometry: PatchGeometry, stride: int
) -> Tensor:
    """Landmarks ``(K, 2)`` of a film ``(1, 1, S, S)``, each in a patch about ``near`` (K, 2)."""
    step = geometry.extent * centroid_size(near[None])[0, 0, 0] / geometry.size[0]
    matrix = (step * torch.eye(2)).expand(len(near), 2, 2)
    views = patches(image, reduced(image), matrix, near[:, None], geometry.size)
    logits = network(normalised_views(views)).float()
    own = logits[torch.arange(len(near)), torch.arange(len(near))]
    middle = (torch.tensor(geometry.size) - 1) / 2
    return (cell_to_index(local_expectation(own), stride) - middle) * step + near
