"""Where index coordinates of an image lie in the local RAS coordinates of its volume node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import vtk

from ..errors import ImageError
from ..geometry import Frame

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

Axes = tuple[int, ...]
"""Stored axis of a volume (1, 2, 3 for i, j, k) along which each of x, y, z runs, negative where it runs backwards."""


@dataclass(frozen=True)
class Placement:
    """The grid of an image as the scene shows it.

    The spacing of the scene may differ from the true one (a picture is shown with 1 mm pixels), so positions pass
    between library and scene as index coordinates, never as millimeters.

    Attributes:
        frame: the grid in the node's local space, LPS, with the spacing that the node has in the scene.
        thickness: length of one step across a film (or the smallest step of a volume), scene millimeters.
        axes: how a volume was turned from the order in which its voxels are stored; () for a film, which never is.
    """

    frame: Frame
    thickness: float = 1.0
    axes: Axes = ()

    def to_local(self, index) -> np.ndarray:
        """Index coordinates (..., d) to local RAS (..., 3)."""
        return self.frame.to_physical(index) * LPS_TO_RAS

    def to_index(self, local) -> np.ndarray:
        """Local RAS (..., 3) to index coordinates (..., d); for a film, of the point dropped onto its plane."""
        return self.frame.to_index(np.asarray(local, dtype=np.float64) * LPS_TO_RAS)

    def on_plane(self, local) -> np.ndarray:
        """The local RAS position (..., 3) dropped onto the plane of a film; unchanged in a volume."""
        return self.to_local(self.to_index(local))

    def covariances_to_local(self, covariances) -> np.ndarray:
        """(n, d, d) index units squared to (n, 3, 3) local RAS, scene millimeters squared."""
        steps = self.frame.steps * LPS_TO_RAS[:, None]
        return steps @ np.asarray(covariances, dtype=np.float64) @ steps.T

    def ijk_to_ras(self, grid: Frame | None = None) -> vtk.vtkMatrix4x4:
        """The IJK-to-RAS matrix of a volume on this grid; a film gets a third axis of `thickness` across its plane.

        Args:
            grid: another grid whose index coordinates are LPS of `frame`'s space; `frame` itself by default.
        """
        frame = grid or self.frame
        steps = frame.steps * LPS_TO_RAS[:, None]
        if frame.dims == 2:
            normal = np.cross(steps[:, 0], steps[:, 1])
            steps = np.column_stack([steps, normal * self.thickness / np.linalg.norm(normal)])
        matrix = vtk.vtkMatrix4x4()
        for row in range(3):
            for column in range(3):
                matrix.SetElement(row, column, steps[row, column])
            matrix.SetElement(row, 3, frame.origin[row] * LPS_TO_RAS[row])
        return matrix


def volume_dimensions(volume) -> tuple[int, int, int]:
    """The number of voxels along i, j and k.

    Raises:
        ImageError: the node holds no voxels.
    """
    data = volume.GetImageData() if volume is not None else None
    if data is None or data.GetPointData().GetScalars() is None or min(data.GetDimensions()) < 1:
        name = volume.GetName() if volume is not None else None
        raise ImageError(f"The volume '{name}' holds no image; load it again." if name else "Choose an image first.")
    return tuple(data.GetDimensions())


def image_axes(dimensions: tuple[int, int, int], name: str = "volume") -> tuple[int, ...]:
    """The axes along which the image extends: two for a film (one axis has a single sample), else three.

    Raises:
        ImageError: it extends along one axis only.
    """
    axes = tuple(axis for axis in range(3) if dimensions[axis] > 1)
    if len(axes) < 2:
        raise ImageError(f"The volume '{name}' has {dimensions} voxels, which is not an image; choose another one.")
    return axes


def ijk_to_lps(volume) -> np.ndarray:
    """(3, 4) affine from voxel indices to LPS in the node's local space."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(3)])
    return ras * LPS_TO_RAS[:, None]


def stored_placement(volume) -> Placement:
    """The grid of a volume node as its voxels are stored: d = 2 for one slice, else 3.

    Raises:
        ImageError: no voxels, or a geometry that cannot be inverted.
    """
    dimensions = volume_dimensions(volume)
    axes = image_axes(dimensions, volume.GetName())
    affine = ijk_to_lps(volume)
    steps = affine[:, list(axes)]
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    across = lengths[[axis for axis in range(3) if axis not in axes]] if len(axes) == 2 else lengths
    frame = Frame(tuple(dimensions[axis] for axis in axes), affine[:, 3], steps)
    return Placement(frame, float(across.min()) or 1.0)
