"""Training by likelihood on the heatmap: the objective of the models that are shipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...heatmaps import cell_to_index, index_to_cell, local_expectation, log_probabilities, spatial_cross_entropy
from ...preprocessing.oriented import pixel_grid, sample_at
from ..data.appearance import normalise_batch
from ..data.crops import CropGeometry, centroid_size, training_batch
from ..data.films import Films


@dataclass
class LandmarkLikelihood:
    """Spatial cross-entropy on random crops of films; validated by the radial error on crops kept out.

    ``sources`` are pairs of films and their share of each batch. ``shapes`` (M, K, 2) are what the films are deformed
    towards. The figure is the mean over films, in pixels of the film as loaded.
    """

    sources: list[tuple[Films, float]]
    kept_out: Films | None
    shapes: Tensor
    geometry: CropGeometry
    batch: int
    stride: int

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        images, points = self.draw(generator)
        shapes = self.shapes[torch.randint(len(self.shapes), (len(images),), generator=generator)]
        with torch.autocast("cpu", enabled=False):
            crops, targets = training_batch(images, points, shapes, self.geometry, generator)
        logits = network(crops.contiguous(memory_format=torch.channels_last))
        return spatial_cross_entropy(logits.float(), index_to_cell(targets, self.stride))

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Films of one batch, each source by its share."""
        counts = [round(self.batch * share) for _, share in self.sources]
        drawn = [
            films.batch(torch.randint(len(films), (count,), generator=generator))
            for (films, _), count in zip(self.sources, counts, strict=True)
        ]
        return torch.cat([images for images, _ in drawn]), torch.cat([points for _, points in drawn])

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        images, points = self.kept_out.batch(torch.arange(len(self.kept_out)))
        predicted = find_points(network, images, self.typical(), self.geometry, self.stride)
        return float((predicted - points).norm(dim=-1).mean())

    def typical(self) -> Tensor:
        """Mean landmarks ``(K, 2)`` of the first source: where a search begins that knows nothing of the film."""
        return self.sources[0][0].points.mean(0)


def perturbed(points: Tensor, seed: int, shift: float = 0.06, scale: float = 0.05) -> Tensor:
    """Landmarks shifted and scaled as a whole, at random, by shares of the centroid size."""
    generator = torch.Generator().manual_seed(seed)
    centre, size = points.mean(1, keepdim=True), centroid_size(points)
    factor = 1 + scale * torch.randn((len(points), 1, 1), generator=generator)
    return centre + (points - centre) * factor + shift * size * torch.randn((len(points), 1, 2), generator=generator)


def upright_crops(images: Tensor, points: Tensor, geometry: CropGeometry) -> tuple[Tensor, Tensor, Tensor]:
    """Crops about estimated landmarks without any change; also the pixel size (B, 1, 1) and centre (B, 1, 2)."""
    step = geometry.extent * centroid_size(points) / geometry.size[0]
    centre = points.mean(1, keepdim=True)
    width, height = geometry.size
    middle = (torch.tensor(geometry.size) - 1) / 2
    coordinates = ((pixel_grid(geometry.size) - middle) * step + centre).view(-1, height, width, 2)
    return normalise_batch(sample_at(images, coordinates)), step, centre


@torch.no_grad()
def predict_points(
    network: nn.Module, images: Tensor, near: Tensor, geometry: CropGeometry, stride: int
) -> tuple[Tensor, Tensor]:
    """Landmarks ``(B, K, 2)`` of films in their own index coordinates, from crops about ``near``.

    And the mean log-probability at the peaks of their heatmaps, shape ``(B,)``.
    """
    crops, step, centre = upright_crops(images, near, geometry)
    logits = network(crops).float()
    middle = (torch.tensor(geometry.size) - 1) / 2
    points = (cell_to_index(local_expectation(logits), stride) - middle) * step + centre
    return points, log_probabilities(logits).flatten(2).amax(-1).mean(-1)


def find_points(
    network: nn.Module, images: Tensor, typical: Tensor, geometry: CropGeometry, stride: int, looks: int = 3
) -> Tensor:
    """Landmarks ``(B, K, 2)`` from nothing but the usual place ``typical`` (K, 2), each look about the one before.

    A crop laid about the true landmarks would tell their size, which no film does: figures would flatter.
    """
    points = typical.expand(len(images), *typical.shape)
    for _ in range(looks):
        points, _ = predict_points(network, images, points, geometry, stride)
    return points
