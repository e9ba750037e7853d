"""Vertebrae that the column network sees, whatever their level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..networks.vertebra_maps import VertebraMaps

_LEAST = 0.05  # probability below which a peak is no candidate
_MOST = 48  # candidates
_REACH = 1.5  # cells, standard deviation of a corner about the place that the centre's offsets give it
_WINDOW = 5  # cells on either side in which a corner is looked for


@dataclass(frozen=True, eq=False)
class SeenMaps:
    """The maps of all members as one: probabilities and log-probabilities, see `VertebraMaps`."""

    centres: Tensor
    corners: Tensor
    offsets: Tensor
    levels: Tensor

    @classmethod
    def mean(cls, outputs: list[Tensor]) -> SeenMaps:
        """From the output (1, C, h, w) of each member."""
        maps = [VertebraMaps.split(output) for output in outputs]
        corners = torch.stack([torch.log_softmax(m.corners.flatten(2), dim=-1).view(m.corners.shape) for m in maps])
        return cls(
            torch.stack([torch.sigmoid(m.centres) for m in maps]).mean(dim=0)[0],
            (torch.logsumexp(corners, dim=0) - float(np.log(len(maps))))[0],
            torch.stack([m.offsets for m in maps]).mean(dim=0)[0],
            torch.stack([torch.softmax(m.levels, dim=1) for m in maps]).mean(dim=0)[0],
        )


@dataclass(frozen=True, eq=False)
class Vertebrae:
    """Candidates (V of them), in cells.

    Attributes:
        presence: (V,) probability that there is a vertebra.
        corners: (V, 4, 2), x first.
        covariances: (V, 4, 2, 2) of the corners' heatmaps.
        radii: (V, 4) expected distance of the corners.
        levels: (V, L) log-probabilities.
    """

    presence: np.ndarray
    corners: np.ndarray
    covariances: np.ndarray
    radii: np.ndarray
    levels: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """(V, 2)."""
        return self.corners.mean(axis=1)

    @property
    def upper(self) -> np.ndarray:
        """(V, 2) middles of the upper endplates."""
        return self.corners[:, :2].mean(axis=1)

    @property
    def lower(self) -> np.ndarray:
        """(V, 2) middles of the lower endplates."""
        return self.corners[:, 2:].mean(axis=1)

    @property
    def heights(self) -> np.ndarray:
        """(V,) distance between the middles of both endplates."""
        return np.linalg.norm(self.lower - self.upper, axis=1)

    def within(self, low: np.ndarray, high: np.ndarray) -> Vertebrae:
        """Those with their centres between two places (2,)."""
        inside = ((self.centres >= low) & (self.centres <= high)).all(axis=1)
        return Vertebrae(**{name: values[inside] for name, values in vars(self).items()})


def find_vertebrae(maps: SeenMaps) -> Vertebrae:
    """Peaks of the centre map with their corners, each where its own heatmap and the offsets agree."""
    peaks = functional.max_pool2d(maps.centres[None], 3, stride=1, padding=1)[0] == maps.centres
    scores = (maps.centres * (peaks & (maps.centres > _LEAST))).flatten()
    best = torch.topk(scores, min(_MOST, len(scores)))
    cells = best.indices[best.values > 0]
    row, column = cells // maps.centres.shape[1], cells % maps.centres.shape[1]
    place = torch.stack([column, row], dim=-1).float()
    expected = place[:, None] + maps.offsets[:, :, row, column].permute(2, 0, 1)
    probabilities, cells = local_corners(maps.corners, expected)
    corners = (probabilities[..., None] * cells).sum(dim=-2)
    offsets = cells - corners[:, :, None]
    covariances = torch.einsum("vkc,vkci,vkcj->vkij", probabilities, offsets, offsets)
    radii = (probabilities * offsets.norm(dim=-1)).sum(dim=-1)
    return Vertebrae(
        presence=best.values[best.values > 0].double().numpy(),
        corners=corners.double().numpy(),
        covariances=covariances.double().numpy(),
        radii=radii.double().numpy(),
        levels=torch.log(maps.levels[:, row, column].T.clamp(min=1e-4)).double().numpy(),
    )


def local_corners(logits: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (V, 4, c) of corners near where they are expected, and the cells (V, 4, c, 2) of which they are.

    The corner's heatmap times a Gaussian about the expected place (V, 4, 2), in a window about it.
    """
    size = torch.tensor(logits.shape[:0:-1])
    width, height = (size.clamp(max=2 * _WINDOW + 1)).tolist()
    first = (expected - _WINDOW).ceil().clamp(min=0).minimum(size - torch.tensor([width, height]))
    steps = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1).flatten(0, 1)
    cells = first[:, :, None] + steps
    column, row = cells.long().unbind(dim=-1)
    apart = cells - expected[:, :, None]
    near = (apart.abs() <= _WINDOW).all(dim=-1)
    weight = logits[torch.arange(len(logits))[:, None], row, column] - 0.5 * apart.square().sum(dim=-1) / _REACH**2
    # A corner expected outside the window of the network has no cell near it and goes to the nearest one.
    near |= ~near.any(dim=-1, keepdim=True)
    return torch.softmax(weight.masked_fill(~near, -torch.inf), dim=-1), cells
