"""Putting a volume of any of the 48 axis orders and flips into the orientation nearest to L, P, S."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import vtk

from .placement import LPS_TO_RAS, Placement


def nearest_orientation(directions: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which index axis runs along L, P and S, and whether it must be reversed.

    Args:
        directions: (3, 3) columns are the LPS directions of the index axes.

    Returns:
        order: index axis for each of L, P, S (the assignment with the largest sum of cosines);
        flips: for each of L, P, S, whether that axis runs the other way.
    """
    unit = directions / np.linalg.norm(directions, axis=0)
    order = max(permutations(range(3)), key=lambda axes: sum(abs(unit[row, axis]) for row, axis in enumerate(axes)))
    return order, tuple(bool(unit[row, axis] < 0) for row, axis in enumerate(order))


def world_directions(volume, placement: Placement) -> np.ndarray:
    """(3, 3) LPS directions of the index axes in the world, at the center of the image, parent transforms applied."""
    frame = placement.frame
    center = (np.array(frame.size) - 1.0) / 2.0
    ends = placement.to_local(np.vstack([center, center + np.eye(frame.dims)]))
    parent = volume.GetParentTransformNode()
    if parent is not None:
        to_world = vtk.vtkGeneralTransform()
        parent.GetTransformToWorld(to_world)
        ends = np.array([to_world.TransformPoint(end) for end in ends])
    return ((ends[1:] - ends[0]) * LPS_TO_RAS).T


def reoriented(array: np.ndarray, placement: Placement, directions: np.ndarray) -> tuple[np.ndarray, Placement]:
    """The voxels (d, h, w) and their grid with x nearest to L, y to P and z to S; nothing is interpolated."""
    order, flips = nearest_orientation(directions)
    frame = placement.frame.permuted(order)
    # numpy axes run z, y, x: the reverse of the frame's.
    array = array.transpose([2 - axis for axis in reversed(order)])
    for axis, flip in enumerate(flips):
        if flip:
            frame = frame.flipped(axis)
            array = np.flip(array, axis=2 - axis)
    return np.ascontiguousarray(array), Placement(frame, placement.thickness)
