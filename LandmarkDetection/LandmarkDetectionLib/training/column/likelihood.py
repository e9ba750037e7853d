"""The objective of the column network: vertebrae, their corners and their levels, given hints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...heatmaps import index_to_cell
from ...inference.column import HINT_DEVIATION
from ...networks.hints import hint_maps
from ...networks.vertebra_maps import VertebraMaps
from ...preprocessing.oriented import pixel_grid, sample_at
from ..data.appearance import normalise_batch, vary_appearance
from ..data.films import Films
from .crops import ColumnGeometry, training_columns
from .vertebra_loss import vertebra_loss

HINT_SHARE = 0.5
"""Share of training films with hints; of these half have one, a quarter two, and so on."""

MOST_HINTS = 8


def random_hints(points: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the present landmarks ``(B, K, 2)`` as a user would tell them, all others NaN."""
    batch, count = points.shape[:2]
    number = (-torch.log2(torch.rand(batch, generator=generator))).floor().clamp(max=MOST_HINTS - 1) + 1
    number = number * (torch.rand(batch, generator=generator) < HINT_SHARE)
    order = torch.rand((batch, count), generator=generator)
    order = torch.where(torch.isfinite(points[..., 0]), order, torch.inf)
    chosen = order.argsort(dim=1).argsort(dim=1) < number[:, None]
    return torch.where(chosen[..., None], points, torch.nan)


@dataclass
class ColumnLikelihood:
    """The losses of `vertebra_loss` on random windows of films, half of them with hints.

    A share ``phantom_share`` of each batch are phantoms. A share ``other_share`` shows other anatomy, ``others``
    (N, 1, S, S) bytes, on which every landmark is absent. The validation figure is the same loss on the films kept out,
    whole and without hints.
    """

    films: Films
    phantoms: Films
    kept_out: Films | None
    others: Tensor
    mirror: Tensor
    geometry: ColumnGeometry
    batch: int
    stride: int
    other_share: float = 0.08
    phantom_share: float = 0.12

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            inputs, cells = self.draw(generator)
            size = tuple(n // self.stride for n in self.geometry.size)
            hints = hint_maps(random_hints(cells, generator), size, HINT_DEVIATION)
        output = network(inputs.contiguous(memory_format=torch.channels_last), hints)
        return vertebra_loss(VertebraMaps.split(output.float()), cells)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Input and landmarks in cells of one batch."""
        count = int((torch.rand(self.batch, generator=generator) < self.phantom_share).sum())
        drawn = [
            films.batch(torch.randint(len(films), (number,), generator=generator))
            for films, number in ((self.films, self.batch - count), (self.phantoms, count))
        ]
        images, points = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        shapes = self.films.points[torch.randint(len(self.films), (self.batch,), generator=generator)]
        inputs, targets = training_columns(images, points, shapes, self.mirror, self.geometry, generator)
        other = torch.rand(self.batch, generator=generator) < self.other_share
        rows = torch.randint(len(self.others), (int(other.sum()),), generator=generator)
        if len(rows):
            inputs[other] = self.other_windows(rows, generator)
            targets[other] = torch.nan
        return inputs, index_to_cell(targets, self.stride)

    def other_windows(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Films of other anatomy as a detector would show them, filling the window."""
        images = self.others[rows].float() / 255
        zoom = torch.exp(torch.rand((len(rows), 1, 1, 1), generator=generator) * 0.8 - 0.5)
        width, height = self.geometry.size
        side = images.shape[-1]
        middle = (torch.tensor(self.geometry.size) - 1) / 2
        grid = ((pixel_grid(self.geometry.size) - middle).view(1, height, width, 2) * zoom) * (side / height)
        return normalise_batch(vary_appearance(sample_at(images, grid + (side - 1) / 2), generator))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        images, points = self.kept_out.batch(torch.arange(len(self.kept_out)))
        losses = []
        for some, truth in zip(images.split(16), points.split(16), strict=True):
            inputs, step, centre, middle = whole_windows(some, self.geometry)
            cells = index_to_cell((truth - centre) / step + middle, self.stride)
            losses.append(vertebra_loss(VertebraMaps.split(network(inputs).float()), cells) * len(some))
        return float(torch.stack(losses).sum() / len(images))


def whole_windows(images: Tensor, geometry: ColumnGeometry) -> tuple[Tensor, float, float, Tensor]:
    """Whole square films fitted into the window by their height; pixel size, centre of film and of window."""
    side = images.shape[-1]
    width, height = geometry.size
    step, centre, middle = side / height, (side - 1) / 2, (torch.tensor(geometry.size) - 1) / 2
    grid = ((pixel_grid(geometry.size) - middle) * step + centre).view(1, height, width, 2)
    inputs = normalise_batch(sample_at(images, grid.expand(len(images), -1, -1, -1)))
    return inputs, step, centre, middle
