"""Losses of interactive keypoint estimation (Kim et al., MICCAI 2022): heatmaps, and the morphology that changes least.

The morphology terms compare distances and angles between landmarks. Here they hold under any augmentation, because the
points of the target are moved with the image; the heatmap passes one sigmoid (a second one, as in a later
re-implementation, leaves a loss of at least ln 2); and coordinates are shares of the film's height in the film's own
proportions, where the original divides each axis by its own extent, so that a rotation changes neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from ...inference.published.ikem_decoding import PATCH_RADIUS, SHARPNESS, patch_soft_argmax
from ...networks.hints import hint_maps

TINY = 1e-12
"""Keeps the gradient of a length of zero finite; the square of less than a thousandth of a pixel."""


def heatmap_loss(outputs: Sequence[Tensor], cells: Tensor, deviation: float) -> Tensor:
    """Binary cross-entropy of every output against Gaussians of height 1, mean over cells, summed over outputs.

    Args:
        outputs: logits ``(B, K, [D,] H, W)`` of the final and perhaps an auxiliary head.
        cells: ``(B, K, dims)``; landmarks that are NaN do not count, those outside leave what reaches in.
        deviation: of the Gaussians in cells.
    """
    size = tuple(reversed(outputs[0].shape[2:]))
    target = hint_maps(cells, size, deviation)
    known = torch.isfinite(cells).all(dim=-1)
    total = torch.zeros((), device=cells.device)
    for logits in outputs:
        each = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        total = total + (each.flatten(2).mean(dim=-1) * known).sum() / known.sum().clamp(min=1)
    return total


def lengths(points: Tensor, pairs: Tensor) -> Tensor:
    """Distances ``(..., P)`` of pairs ``(P, 2)`` of points ``(..., K, dims)``."""
    apart = points[..., pairs[:, 0], :] - points[..., pairs[:, 1], :]
    return (apart.square().sum(dim=-1) + TINY).sqrt()


def directions(points: Tensor, triplets: Tensor) -> Tensor:
    """Cosine and sine ``(..., T, 2)`` of the angle at the middle one of each triplet ``(T, 3)``, from first to last."""
    vertex = points[..., triplets[:, 1], :]
    first, last = points[..., triplets[:, 0], :] - vertex, points[..., triplets[:, 2], :] - vertex
    cosine = (first * last).sum(dim=-1)
    sine = first[..., 0] * last[..., 1] - first[..., 1] * last[..., 0]
    both = torch.stack([cosine, sine], dim=-1)
    return both / (both.square().sum(dim=-1, keepdim=True) + TINY**2).sqrt()


def shares_of_height(points: Tensor, scales: Tensor, height: int) -> Tensor:
    """Points ``(B, K, 2)`` of images of ``height`` as shares of the film's height, in the film's own proportions.

    Args:
        scales: ``(B, 2)`` pixels of the film per pixel, or in proportion to them.
    """
    return points * (scales / (scales[:, 1:] * height))[:, None]


def known_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean where known, 0 where nothing is."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class Morphology:
    """Pairs and triplets of landmarks whose distances and angles differ least between people, of a plane.

    Attributes:
        pairs: ``(P, 2)`` landmarks.
        triplets: ``(T, 3)`` landmarks, the vertex in the middle.
    """

    pairs: Tensor
    triplets: Tensor

    @classmethod
    def steadiest(cls, points: Tensor, count: int) -> Morphology:
        """Those that vary least in shapes ``(N, K, 2)`` without gaps, ``count`` of each.

        Distances by their standard deviation as a share of their mean, so that short ones are not preferred; angles by
        the length of their mean direction. The vertex is the middle one of three increasing indices.
        """
        landmarks = range(points.shape[1])
        pairs = torch.tensor(list(combinations(landmarks, 2)))
        found = lengths(points, pairs)
        spread = found.std(dim=0) / found.mean(dim=0)
        triplets = torch.tensor(list(combinations(landmarks, 3)))
        # One by one: fifty thousand triplets of all shapes at once would fill the memory.
        total = torch.zeros(len(triplets), 2)
        for shape in points:
            total += directions(shape, triplets)
        alike = total.norm(dim=-1)
        return cls(
            pairs[spread.argsort(stable=True)[:count]],
            triplets[alike.argsort(descending=True, stable=True)[:count]],
        )

    def distance_loss(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Mean absolute difference of the distances, points ``(B, K, 2)`` in any unit; NaN in the truth is left out."""
        pairs = self.pairs.to(truth.device)
        known = torch.isfinite(truth).all(dim=-1)[:, pairs].all(dim=-1)
        wanted = lengths(truth.nan_to_num(0.0), pairs)
        return known_mean((lengths(predicted, pairs) - wanted).abs(), known)

    def angle_loss(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Mean of one minus the cosine of the difference of the angles; NaN in the truth is left out."""
        triplets = self.triplets.to(truth.device)
        known = torch.isfinite(truth).all(dim=-1)[:, triplets].all(dim=-1)
        wanted = directions(truth.nan_to_num(0.0), triplets)
        return known_mean(1 - (directions(predicted, triplets) * wanted).sum(dim=-1), known)


@dataclass(frozen=True)
class IkemLoss:
    """Everything that an interactive network learns by.

    Attributes:
        deviation: of the target's Gaussians, in cells.
        morphology: None leaves its terms out.
        distance, angle: weights of these terms.
        auxiliary: whether the network has a second output that learns as well.
        radius, sharpness: see `patch_soft_argmax`, which finds the points that the terms compare.
    """

    deviation: float
    morphology: Morphology | None = None
    distance: float = 0.01
    angle: float = 0.01
    auxiliary: bool = False
    radius: int = PATCH_RADIUS
    sharpness: float = SHARPNESS

    def __call__(self, outputs: Sequence[Tensor], cells: Tensor, scales: Tensor) -> Tensor:
        """Loss of logits ``(B, K, H, W)`` for landmarks ``(B, K, 2)`` in cells, ``scales`` ``(B, 2)`` of the film."""
        total = heatmap_loss(outputs, cells, self.deviation)
        if self.morphology is None:
            return total
        found = patch_soft_argmax(outputs[0].float(), 2, self.radius, self.sharpness)
        found, wanted = (shares_of_height(points, scales, outputs[0].shape[2]) for points in (found, cells))
        distance = self.distance * self.morphology.distance_loss(found, wanted)
        return total + distance + self.angle * self.morphology.angle_loss(found, wanted)
