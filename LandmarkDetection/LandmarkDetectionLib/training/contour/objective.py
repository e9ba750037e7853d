"""The objective of Contour-Hugging Heatmaps: cross-entropy between a heatmap and the one cell that holds the point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...heatmaps import grid_size
from ...inference.published.contour_view import ContourPlan
from .augmentation import ContourAugmentation
from .samples import ContourFilms

Precision = Literal["float32", "float64"]
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

NOWHERE = -1
"""Target of a point that is unknown or lies outside the grid."""


def target_cells(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Row of the flattened heatmap that holds each point, shape ``(...)``; `NOWHERE` for NaN and outside.

    Args:
        points: ``(..., 2)`` in cells, x first: cell i reaches from ``i - 0.5`` to ``i + 0.5``, its center is i. The
            original takes the floor, which puts every target half a cell from where the argmax is compared with it.
        size: of the heatmap, x first.
    """
    nearest = torch.floor(torch.nan_to_num(points, nan=-1.0) + 0.5).long()
    inside = ((nearest >= 0) & (nearest < torch.tensor(size, device=points.device))).all(dim=-1)
    return torch.where(inside, nearest[..., 1] * size[0] + nearest[..., 0], NOWHERE)


def one_hot_cross_entropy(logits: Tensor, points: Tensor, precision: Precision = "float64") -> Tensor:
    """Mean of ``-log p[target]`` over the points that are inside; p is a softmax over all cells of a heatmap.

    Args:
        logits: ``(B, K, H, W)``.
        points: ``(B, K, 2)`` in cells.
        precision: of the computation; the original takes ``float64``.

    Without any point inside, the loss is 0.
    """
    targets = target_cells(points, grid_size(logits, 2)).flatten()
    flat = logits.flatten(2).flatten(0, 1).to(PRECISIONS[precision])
    losses = functional.cross_entropy(flat, targets, ignore_index=NOWHERE, reduction="sum")
    return losses / (targets != NOWHERE).sum().clamp(min=1)


@dataclass
class OneHotLikelihood:
    """Batches drawn without replacement, a new order in each epoch; nothing is validated, the last epoch stays."""

    films: ContourFilms
    plan: ContourPlan
    augmentation: ContourAugmentation
    batch: int
    precision: Precision = "float64"
    device: torch.device = torch.device("cpu")
    order: list[int] = field(default_factory=list, init=False)
    epoch: torch.Generator | None = field(default=None, init=False)

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        images, points = self.films.batch(self.next_rows(generator))
        images, points = self.augmentation(images, points, generator)
        logits = network(self.plan.standardized(images).to(self.device))
        return one_hot_cross_entropy(logits, points.to(self.device), self.precision)

    def next_rows(self, generator: torch.Generator) -> list[int]:
        """Rows of the next batch; what is left of a pass and too few for a batch is dropped."""
        # Each epoch brings a generator of its own. A pass ends with it, so that a resumed run draws the same.
        if generator is not self.epoch or len(self.order) < self.batch:
            self.epoch = generator
            self.order = torch.randperm(len(self.films), generator=generator).tolist()
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return rows

    def validate(self, network: nn.Module) -> float | None:
        return None
