"""What a segmentation of the knee says: label maps on any grid, joint lines, how far landmarks lie from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as components
from scipy.ndimage import map_coordinates

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from .anatomy_view import BONES, OUTSIDE
from .procrustes import Similarity

JOINT_SIDE = {"femur": 1, "tibia": -1}
"""Whether the joint line is the lower (1) or the upper (-1) edge of a bone."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Label probabilities ``(L, [D,] H, W)`` in a window, and how well anatomy and gray values went together.

    Attributes:
        window: its frame.
        probabilities: of each label and cell.
        divergence: half the squared length of z: how unusual the shape and pose are.
        fit: mean over the bands of ``log p(x | z) - log p(x | one Gaussian)``, nats a cell: how much of the gray values
            the anatomy explains; low where the film shows something else.
    """

    window: Frame
    probabilities: np.ndarray
    divergence: float = 0.0
    fit: float = 0.0

    def on(self, frame: Frame) -> np.ndarray:
        """The most probable label of each pixel or voxel of an image, uint8; outside the window no bones are known."""
        at = places(frame, self.window)
        outside = np.arange(len(self.probabilities)) == OUTSIDE
        read = [
            map_coordinates(values, at, order=1, mode="constant", cval=float(outside[number]))
            for number, values in enumerate(self.probabilities)
        ]
        return np.argmax(read, axis=0).astype(np.uint8)

    def bone(self, name: str) -> np.ndarray:
        """Probability ``(H, W)`` of a bone with its plate."""
        return self.probabilities[list(BONES[name])].sum(axis=0)

    def line(self, name: str) -> np.ndarray:
        """Joint line of a bone as points ``(n, 3)`` in LPS; empty where the bone is not found."""
        edge = edge_line(self.bone(name), JOINT_SIDE[name])
        return self.window.to_physical(edge) if len(edge) else np.zeros((0, 3))

    def distances(self, name: str, points: np.ndarray) -> np.ndarray:
        """Distance ``(n,)`` of landmarks ``(n, 3)`` in LPS from a bone's joint line; infinite without one."""
        return line_distances(np.asarray(points, dtype=float), self.line(name))

    def off_contour(self, points: Mapping[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
        """For each bone, which of its landmarks ``(n, 3)`` are farther from its joint line than ``limit``.

        Raises:
            LandmarkDetectionError: the bone is not one that is segmented.
        """
        unknown = set(points) - set(BONES)
        if unknown:
            raise LandmarkDetectionError(f"There is no joint line of '{min(unknown)}'; choose from {', '.join(BONES)}.")
        return {name: self.distances(name, values) > limit for name, values in points.items()}

    def pose(self) -> Similarity | None:
        """Where the joint lies in the window: from a unit frame (one standard deviation of the lines' columns, level,
        middle of the lines at zero) to cells. None where a line is missing.
        """
        lines = [edge_line(self.bone(name), side) for name, side in JOINT_SIDE.items()]
        return None if min(map(len, lines)) < 8 else joint_pose(np.vstack(lines))


def places(frame: Frame, window: Frame) -> np.ndarray:
    """Where in a window the pixels or voxels of a frame lie: ``(dims, [d,] h, w)``, axes in array order, last is x."""
    affine = frame.index_map(window)
    matrix, offset = affine[::-1, -2::-1], affine[::-1, -1]
    cells = np.indices(frame.size[::-1], dtype=float)
    return np.tensordot(matrix, cells, axes=1) + offset.reshape(-1, *(1,) * frame.dims)


def edge_line(probability: np.ndarray, side: int, level: float = 0.5) -> np.ndarray:
    """The lower (``side`` 1) or upper (-1) edge of the largest region above a level, one point ``(x, y)`` a column.

    Between two rows the crossing is interpolated, so that the edge is not bound to the cells.
    """
    found, count = components(probability > level)
    if count == 0:
        return np.zeros((0, 2))
    largest = 1 + int(np.argmax(np.bincount(found.ravel())[1:]))
    region, values = (found == largest)[::side], probability[::side]
    height = len(region)
    columns = np.flatnonzero(region.any(axis=0))
    rows = height - 1 - np.argmax(region[::-1, columns], axis=0)
    inner, outer = values[rows, columns], values[np.minimum(rows + 1, height - 1), columns]
    step = np.clip((inner - level) / np.maximum(inner - outer, 1e-6), 0.0, 1.0)
    rows = rows + np.where(rows < height - 1, step, 0.0)
    return np.column_stack([columns, rows if side > 0 else height - 1 - rows]).astype(float)


def line_distances(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance ``(n,)`` of points ``(n, d)`` from a polyline ``(m, d)``; infinite where it has no point."""
    if len(line) == 0:
        return np.full(len(points), np.inf)
    start, along = line[:-1], np.diff(line, axis=0)
    if len(along) == 0:
        return np.linalg.norm(points - line, axis=1)
    apart = points[:, None] - start
    share = (apart * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = np.clip(share, 0.0, 1.0)[..., None] * along
    return np.linalg.norm(apart - nearest, axis=-1).min(axis=1)


def joint_pose(points: np.ndarray) -> Similarity:
    """Middle, slope and width of the points ``(n, 2)`` of both joint lines as a similarity."""
    middle = points.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov((points - middle).T))
    across = axes[:, 1] * np.sign(axes[0, 1])
    rotation = np.array([[across[0], -across[1]], [across[1], across[0]]])
    return Similarity(float(np.sqrt(variances[1])), rotation, middle)


def carried(source: Similarity, target: Similarity) -> Similarity:
    """The similarity that takes one pose to another: ``target`` after the inverse of ``source``."""
    scale = target.scale / source.scale
    rotation = target.rotation @ source.rotation.T
    return Similarity(scale, rotation, target.translation - scale * rotation @ source.translation)
