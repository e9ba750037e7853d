"""Films as the anatomical prior sees them: a window in a standard pose, gray values relative to their surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ..geometry import Frame
from ..images import Image
from ..preprocessing.crop import crop_about
from ..preprocessing.intensity import normalise
from ..preprocessing.resample import sample
from .procrustes import Similarity

OUTSIDE, JOINT_SPACE, FEMUR, FEMUR_PLATE, TIBIA, TIBIA_PLATE = range(6)
LABELS = ("outside", "joint space", "femur", "femoral plate", "tibia", "tibial plate")
TIBIA_POINTS = 9
"""Of the landmarks, T0 .. T8 come first, F0 .. F6 follow."""
BONES = {"femur": (FEMUR, FEMUR_PLATE), "tibia": (TIBIA, TIBIA_PLATE)}


@dataclass(frozen=True)
class GridView:
    """A grid about a joint, of a film or a volume.

    Attributes:
        size: cells, x first.
        extent: width of the window in tibial widths, where the pose is the standard one.
    """

    size: tuple[int, ...]
    extent: float

    @property
    def dims(self) -> int:
        """2 for films, 3 for volumes."""
        return len(self.size)

    def moved_window(self, window: Frame, pose: Similarity) -> Frame:
        """The window whose index ``i`` is index ``pose.apply(i)`` of another."""
        steps = window.steps @ (pose.scale * pose.rotation)
        return Frame(self.size, window.to_physical(pose.translation), steps, window.spacing_source)


@dataclass(frozen=True)
class AnatomyView(GridView):
    """How a film becomes a grid of gray values.

    Attributes:
        start: where the middle of the first window lies in a film of one knee, as a shift from the middle of the film
            to the right and down, in widths of the film, which the window has, too.
        surroundings: standard deviation of the Gaussian that says what surrounds a cell, in widths of the window.
        contrast: deviation of the gray values, as a share of that of the whole window, that is added to the local one.
        limit: largest gray value, in local deviations.
    """

    start: tuple[float, float] = (0.0, 0.0)
    surroundings: float = 0.055
    contrast: float = 0.15
    limit: float = 3.0

    def first_window(self, frame: Frame, mirrored: bool = False) -> Frame:
        """The window of a film that shows one knee and is as wide as the knee needs; mirrored for a left knee."""
        side = -1.0 if mirrored else 1.0
        middle = (np.asarray(frame.size) - 1) / 2 + np.asarray(self.start) * [side * frame.size[0], frame.size[0]]
        return crop_about(frame, frame.to_physical(middle), frame.size[0] * frame.spacing[0], self.size, mirrored)

    def window_about(self, frame: Frame, points: np.ndarray, mirrored: bool = False) -> Frame:
        """The window in the standard pose about landmarks that are known.

        Args:
            frame: of the film.
            points: ``(16, 3)`` in LPS, T0 .. T8 and F0 .. F6.
            mirrored: the film shows a left knee.
        """
        upright = frame.flipped(0) if mirrored else frame
        index = upright.to_index(points)
        chord = index[TIBIA_POINTS - 1] - index[0]
        width = float(np.hypot(*chord))
        across = chord / width
        rotation = np.array([[across[0], -across[1]], [across[1], across[0]]])
        scale = self.extent * width / self.size[0]
        middle = index.mean(axis=0) - scale * rotation @ ((np.asarray(self.size) - 1) / 2)
        return self.moved_window(upright, Similarity(scale, rotation, middle))

    def gray(self, image: Image, window: Frame) -> np.ndarray:
        """Gray values ``(H, W)``, float32, each relative to its surroundings."""
        sigma = self.surroundings * self.size[0]
        return relative_gray(normalise(sample(image, window)), sigma, self.contrast, self.limit)


def relative_gray(array: np.ndarray, sigma: float | Sequence[float], contrast: float, limit: float) -> np.ndarray:
    """``(x - local mean) / local deviation``: free of exposure, of a smooth bias field and of thick soft tissue.

    Args:
        array: any dimensions.
        sigma: of the Gaussian that both are taken with, in cells.
        contrast: added to the local deviation, as a share of the global one, so that flat regions stay flat.
        limit: the result is cut off there.
    """
    array = np.asarray(array, dtype=np.float32)
    difference = array - gaussian_filter(array, sigma, mode="nearest")
    local = np.sqrt(gaussian_filter(difference**2, sigma, mode="nearest"))
    scale = local + contrast * float(array.std()) + 1e-6
    return np.clip(difference / scale, -limit, limit).astype(np.float32)
