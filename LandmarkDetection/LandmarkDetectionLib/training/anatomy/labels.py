"""Label maps of the knee drawn from annotated shapes.

The points trace only the joint line, so each bone is closed in **one** way, used to learn and to score alike. The
chord from T0 to T8 gives the frame of a knee: *across* along it, *up* at right angles, towards the femur; ``w`` is its
length.

* femur: between the line through F0 .. F6 and the same line moved up by ``band * w``, from F0 to F6 along *across*;
* tibia: between the line through T0 .. T8 and the same line moved down by ``band * w``, from T0 to T8;
* joint space: between the two lines, over the columns of either; beyond its ends a line goes on level;
* outside: all else - soft tissue, air, and what of the bones lies beyond the bands.

The strip of each bone next to its line, ``plate * w`` thick, is a label of its own: the subchondral plate is the
brightest part of a film. Where two lines cross, each bone ends half-way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...priors.anatomy_view import FEMUR, FEMUR_PLATE, JOINT_SPACE, OUTSIDE, TIBIA, TIBIA_PLATE, TIBIA_POINTS


@dataclass(frozen=True)
class Closure:
    """Height of the bands and of the plates, in tibial widths."""

    band: float = 0.2
    plate: float = 0.02


@dataclass(frozen=True)
class Poses:
    """Standard deviations of random poses: degrees, logarithm of the scale, and tibial widths along x, y (and z)."""

    rotation: float = 3.0
    scale: float = 0.08
    shift: tuple[float, ...] = (0.03, 0.05)


def knee_frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit vectors across and down, ``(2,)`` each, and the tibial width of points ``(16, 2)``."""
    chord = points[TIBIA_POINTS - 1] - points[0]
    width = float(np.hypot(*chord))
    across = chord / width
    return across, np.array([-across[1], across[0]]), width


def draw_labels(points: np.ndarray, size: tuple[int, int], closure: Closure) -> np.ndarray:
    """The label map ``(H, W)``, uint8, of one knee.

    Args:
        points: ``(16, 2)`` in cells, x first, lateral to medial along x, y down.
        size: cells of the map, x first.
        closure: how the bones are closed.
    """
    across, down, width = knee_frame(points)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    u, v = x * across[0] + y * across[1], x * down[0] + y * down[1]
    own = np.column_stack([points @ across, points @ down])
    tibia, femur = own[:TIBIA_POINTS], own[TIBIA_POINTS:]
    # Points of one line come in order, but for a few whose neighbors stand above each other.
    tibia_line = np.interp(u, np.maximum.accumulate(tibia[:, 0]), tibia[:, 1])
    femur_line = np.interp(u, np.maximum.accumulate(femur[:, 0]), femur[:, 1])
    middle = (tibia_line + femur_line) / 2
    upper, lower = np.minimum(femur_line, middle), np.maximum(tibia_line, middle)
    band, plate = closure.band * width, closure.plate * width
    in_femur = (u >= femur[:, 0].min()) & (u <= femur[:, 0].max())
    in_tibia = (u >= tibia[:, 0].min()) & (u <= tibia[:, 0].max())
    labels = np.full(x.shape, OUTSIDE, dtype=np.uint8)
    labels[(in_femur | in_tibia) & (v > upper) & (v < lower)] = JOINT_SPACE
    labels[in_femur & (v <= upper) & (v >= femur_line - band)] = FEMUR
    labels[in_femur & (v <= upper) & (v >= upper - plate)] = FEMUR_PLATE
    labels[in_tibia & (v >= lower) & (v <= tibia_line + band)] = TIBIA
    labels[in_tibia & (v >= lower) & (v <= lower + plate)] = TIBIA_PLATE
    return labels


def posed(
    shapes: np.ndarray, size: tuple[int, int], extent: float, poses: Poses, generator: torch.Generator
) -> np.ndarray:
    """Shapes ``(B, 16, 2)`` put into a map of ``size`` cells, at random about its middle.

    On average the mean of the points is the middle, the tibia is ``1 / extent`` of the map wide and its chord is as
    level as it was in the shape.
    """
    noise = torch.randn((len(shapes), 4), generator=generator).numpy().astype(float)
    centered = shapes - shapes.mean(axis=1, keepdims=True)
    widths = np.linalg.norm(centered[:, TIBIA_POINTS - 1] - centered[:, 0], axis=1)
    standard = size[0] / extent
    scale = standard / widths * np.exp(poses.scale * noise[:, 0])
    angle = np.radians(poses.rotation * noise[:, 1])
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], axis=1)
    shift = noise[:, 2:] * np.asarray(poses.shift) * standard
    return centered @ matrix + ((np.asarray(size) - 1) / 2 + shift)[:, None]


@dataclass(frozen=True, eq=False)
class KneeLabels:
    """Endless label maps from shapes ``(m, 16, 2)``; the source of all randomness is the generator of each call."""

    shapes: np.ndarray
    size: tuple[int, int]
    extent: float
    closure: Closure
    poses: Poses

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Label maps ``(count, H, W)``, int64."""
        rows = torch.randint(len(self.shapes), (count,), generator=generator).numpy()
        points = posed(self.shapes[rows], self.size, self.extent, self.poses, generator)
        maps = np.stack([draw_labels(shape, self.size, self.closure) for shape in points])
        return torch.from_numpy(maps).long()
