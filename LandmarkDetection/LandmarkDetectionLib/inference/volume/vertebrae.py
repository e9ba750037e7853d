"""Vertebrae that the networks see in a volume, whatever their level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...geometry import Frame
from ...heatmaps import local_expectation
from ...preprocessing.volume_window import body_frame
from .points import PointsLook

CENTRE, UPPER, LOWER = 0, 2, 5
"""Place of the center and of the middles of both endplates among the points of a vertebra."""

CUT_OFF = 16.0
"""Millimeters past the end of a volume at which a vertebra that still shows an endplate may have its center."""

_LEAST = 0.05  # probability below which a peak is no candidate
_MOST = 48  # candidates
_SAME = 0.5  # heights of a vertebra between two candidates that are one


@dataclass(frozen=True, eq=False)
class Peaks:
    """Where vertebrae may have their centers: LPS (V, 3), probability (V,), log-probabilities of levels (V, L)."""

    places: np.ndarray
    presence: np.ndarray
    levels: np.ndarray

    def of(self, rows: np.ndarray) -> Peaks:
        """Some of them."""
        return Peaks(self.places[rows], self.presence[rows], self.levels[rows])


def find_peaks(logits: Tensor, grid: Frame, frame: Frame) -> Peaks:
    """Peaks of the first channel of maps ``(1 + L, d, h, w)`` in the image of a frame or `CUT_OFF`, highest first."""
    presence = torch.sigmoid(logits[0])
    highest = functional.max_pool3d(presence[None, None], 3, stride=1, padding=1)[0, 0] == presence
    scores = torch.where(highest & (presence > _LEAST), presence, 0.0).flatten()
    best = torch.topk(scores, min(_MOST, len(scores)))
    cells = best.indices[best.values > 0]
    z, y, x = torch.unravel_index(cells, presence.shape)
    places = grid.to_physical(torch.stack([x, y, z], dim=-1).double().numpy() + around(presence, x, y, z))
    levels = torch.log_softmax(logits[1:, z, y, x].T.double(), dim=-1).numpy()
    peaks = Peaks(places, presence[z, y, x].double().numpy(), levels)
    return peaks.of(past_end(places, frame).max(axis=-1) < CUT_OFF)


def past_end(places: np.ndarray, frame: Frame) -> np.ndarray:
    """How far LPS positions (..., 3) lie outside a volume along each of its axes, in mm; 0 inside."""
    index = frame.to_index(places)
    return np.maximum(np.maximum(-0.5 - index, index - (np.asarray(frame.size) - 0.5)), 0.0) * frame.spacing


def around(presence: Tensor, x: Tensor, y: Tensor, z: Tensor) -> np.ndarray:
    """How far the mean of the 27 cells about each peak lies from it, (V, 3) in cells."""
    padded = functional.pad(presence[None, None], (1,) * 6)[0, 0]
    near = torch.arange(-1, 2)
    steps = torch.stack(torch.meshgrid(near, near, near, indexing="ij"), dim=-1).reshape(-1, 3)
    weight = padded[z[:, None] + 1 + steps[:, 0], y[:, None] + 1 + steps[:, 1], x[:, None] + 1 + steps[:, 2]].double()
    return ((weight @ steps.flip(-1).double()) / weight.sum(dim=1, keepdim=True)).numpy()


@dataclass(frozen=True, eq=False)
class VolumeVertebrae:
    """Candidates (V of them) in mm along the body's axes: to the left, to posterior and downwards.

    Attributes:
        presence: (V,) probability that there is a vertebra.
        levels: (V, L) log-probabilities.
        corners: (V, P, 3) points.
    """

    presence: np.ndarray
    levels: np.ndarray
    corners: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """(V, 3)."""
        return self.corners[:, CENTRE]

    @property
    def upper(self) -> np.ndarray:
        """(V, 3) middles of the upper endplates."""
        return self.corners[:, UPPER]

    @property
    def lower(self) -> np.ndarray:
        """(V, 3) middles of the lower endplates."""
        return self.corners[:, LOWER]

    @property
    def heights(self) -> np.ndarray:
        """(V,) distance between the middles of both endplates."""
        return np.linalg.norm(self.lower - self.upper, axis=1)


def downwards(frame: Frame) -> Callable[[np.ndarray], np.ndarray]:
    """From LPS (..., 3) to mm to the left, to posterior and downwards in the volume of a frame."""
    body = body_frame(frame)
    turn = np.linalg.inv(body.direction()).T * [1, 1, -1]
    return lambda places: (np.asarray(places) - body.origin) @ turn


def points_in(look: PointsLook) -> np.ndarray:
    """LPS positions (V, P, 3) of the points of each candidate, as the second look sees them."""
    cells = local_expectation(look.heatmaps, 3).double().numpy()
    places = [grid.to_physical(own) for grid, own in zip(look.grids, cells, strict=True)]
    return np.reshape(places, (-1, *cells.shape[1:]))


def vertebrae_in(look: PointsLook, peaks: Peaks, frame: Frame) -> VolumeVertebrae:
    """The candidates as the second look sees them."""
    return VolumeVertebrae(peaks.presence, peaks.levels, downwards(frame)(points_in(look)))


def distinct(vertebrae: VolumeVertebrae) -> np.ndarray:
    """(V,) whether no surer candidate has its center at nearly the same place."""
    apart = np.linalg.norm(vertebrae.centres[:, None] - vertebrae.centres[None], axis=-1)
    surer = vertebrae.presence[None] > vertebrae.presence[:, None]
    return ~((apart < _SAME * vertebrae.heights[:, None]) & surer).any(axis=1)
