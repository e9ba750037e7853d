"""Putting a volume of any of the 48 axis orders and flips into the orientation nearest to L, P, S."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from .placement import Axes, Placement


def nearest_axes(directions: np.ndarray) -> Axes:
    """Which stored axis runs along L, P and S, negative where it must be reversed.

    Args:
        directions: (3, 3) columns are the LPS directions of the stored axes, of any length.

    Returns:
        For each of L, P, S the stored axis, counted from 1 (the assignment with the largest sum of cosines).
    """
    unit = directions / np.linalg.norm(directions, axis=0)
    order = max(permutations(range(3)), key=lambda axes: sum(abs(unit[row, axis]) for row, axis in enumerate(axes)))
    return tuple(-(axis + 1) if unit[row, axis] < 0 else axis + 1 for row, axis in enumerate(order))


def turned(array: np.ndarray, axes: Axes) -> np.ndarray:
    """The voxels (d, h, w) with x, y, z along these stored axes; nothing is interpolated."""
    # numpy axes run z, y, x: the reverse of the frame's.
    array = array.transpose([3 - abs(axis) for axis in reversed(axes)])
    backwards = [2 - number for number, axis in enumerate(axes) if axis < 0]
    return np.ascontiguousarray(np.flip(array, axis=backwards))


def turned_placement(placement: Placement, axes: Axes) -> Placement:
    """The grid of `turned` voxels, from that of the voxels as stored."""
    frame = placement.frame.permuted([abs(axis) - 1 for axis in axes])
    for number, axis in enumerate(axes):
        if axis < 0:
            frame = frame.flipped(number)
    return Placement(frame, placement.thickness, tuple(axes))
