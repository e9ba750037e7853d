"""The bone model on a grid: labels and attenuation of a volume, or path lengths along the beam.

Both walk the same slices across the depth of a bone, so a film and a volume of one model show the same anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .bones import KneeModel, Solid

# Linear attenuation (1/mm) near 60 keV; for bone what it adds to the soft tissue that surrounds it.
SOFT_TISSUE = 0.0205
COMPACT_BONE = 0.034
TRABECULAR_BONE = 0.0088
LABELS = {"background": 0, "leg": 1, "femur": 2, "tibia": 3, "fibula": 4, "patella": 5}


@dataclass(frozen=True)
class Projection:
    """What one solid puts in the way of a beam along y.

    `compact` and `trabecular` are path lengths (mm) and `silhouette` the smallest signed distance (mm) on each ray,
    zero on the projected edge; all have the shape (rows, columns) of the window,
    which starts at `row`, `column` of the grid.
    """

    compact: np.ndarray
    trabecular: np.ndarray
    silhouette: np.ndarray
    row: int
    column: int

    def window(self) -> tuple[slice, slice]:
        """Where the window lies in the grid."""
        rows, columns = self.compact.shape
        return slice(self.row, self.row + rows), slice(self.column, self.column + columns)


def fractions(distance: np.ndarray, thickness, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of compact and trabecular bone in voxels `distance` mm from the surface, shell `thickness` mm."""
    filled = np.clip(0.5 - distance / voxel, 0, 1)
    shell = np.clip(0.5 + (distance + thickness) / voxel, 0, 1) * filled
    return shell, filled - shell


def scar_share(solid: Solid, x, z) -> np.ndarray | float:
    """Share of the marrow that is compact where the growth plate once was, on rays through (x, z)."""
    if solid.scar is None:
        return 0.0
    across, _, height = solid.pose.to_bone(x, 0.0, z)
    return solid.scar_density * np.exp(-np.square((height - solid.scar(across)) / 1.1))


def project(
    solid: Solid, x: np.ndarray, z: np.ndarray, rng: np.random.Generator, depth_step: float | None = None
) -> Projection | None:
    """Project `solid` along y onto the grid of columns `x` (ascending, mm) and rows `z` (descending, mm).

    Returns None where the solid lies outside the grid. `rng` draws the grain of the trabecular bone.
    """
    (x0, x1), (y0, y1), (z0, z1) = solid.bounds
    columns, rows = np.flatnonzero((x > x0) & (x < x1)), np.flatnonzero((z > z0) & (z < z1))
    if not len(columns) or not len(rows):
        return None
    x, z = x[columns].astype(np.float32)[None, :], z[rows].astype(np.float32)[:, None]
    voxel = max(float(x[0, 1] - x[0, 0]), 0.8)
    depth_step = depth_step or 1.6 * voxel
    depths = np.arange(y0, y1, depth_step, dtype=np.float32)
    grain = trabecular_grain(rng, (5, z.size, x.size), float(x[0, 1] - x[0, 0]))
    compact, trabecular = np.zeros((2, z.size, x.size), dtype=np.float32)
    silhouette = np.full((z.size, x.size), 10.0, dtype=np.float32)
    thickness = solid.cortex(z)
    for number, y in enumerate(depths):
        band = _rows_near(solid, x, y, z)
        distance = solid.distance(x, y, z[band])
        silhouette[band] = np.minimum(silhouette[band], distance)
        shell, marrow = fractions(distance, thickness[band], voxel)
        compact[band] += shell
        trabecular[band] += marrow * grain[number * len(grain) // len(depths)][band]
    share = scar_share(solid, x, z)
    compact, trabecular = compact + share * trabecular, (1 - share) * trabecular
    return Projection(compact * depth_step, trabecular * depth_step, silhouette, int(rows[0]), int(columns[0]))


def _rows_near(solid: Solid, x: np.ndarray, y: float, z: np.ndarray, stride: int = 8) -> slice:
    """The rows in which the slice at depth `y` may meet the solid, from every eighth point."""
    spacing = float(x[0, 1] - x[0, 0])
    near = np.flatnonzero((solid.distance(x[:, ::stride], y, z[::stride]) < 2 * stride * spacing + 2).any(axis=1))
    return slice(max(near[0] - 1, 0) * stride, (near[-1] + 2) * stride) if len(near) else slice(0, 0)


def trabecular_grain(rng: np.random.Generator, shape: tuple[int, int, int], spacing: float) -> np.ndarray:
    """Density of trabecular bone about 1: streaks along z, for (slabs, rows, columns) of `spacing` mm."""
    fine = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.8 / spacing, 0.22 / spacing))
    coarse = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 5.0 / spacing, 4.0 / spacing))
    return 1 + 0.26 * fine / fine.std() + 0.16 * coarse / max(coarse.std(), 1e-6)


def rasterise(
    model: KneeModel, x: np.ndarray, y: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The knee as a volume.

    Args:
        model: the knee.
        x, y, z: ascending, regular coordinates of the voxel centres (mm, world frame of the model).
        rng: draws the grain of the trabecular bone.

    Returns:
        labels (len(z), len(y), len(x)) uint8 as in `LABELS`, and linear attenuation (1/mm) float32 of that shape.
    """
    voxel = float(x[1] - x[0])
    shape = (len(z), len(y), len(x))
    labels, attenuation = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    across, height = x.astype(np.float32)[None, :], z.astype(np.float32)[:, None]
    for solid in (model.leg, *model.bones):
        grain, share = trabecular_grain(rng, (5, len(z), len(x)), voxel), scar_share(solid, across, height)
        for number, depth in enumerate(y):
            distance = solid.distance(across, np.float32(depth), height)
            if solid is model.leg:
                attenuation[:, number] += SOFT_TISSUE * np.clip(0.5 - distance / voxel, 0, 1)
            else:
                shell, marrow = fractions(distance, solid.cortex(height), voxel)
                shell, marrow = shell + share * marrow, (1 - share) * marrow
                marrow = marrow * grain[number * len(grain) // len(y)]
                attenuation[:, number] += COMPACT_BONE * shell + TRABECULAR_BONE * marrow
            labels[:, number][distance < 0] = LABELS[solid.name]
    return labels, attenuation


def soft_tissue_grain(rng: np.random.Generator, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """How soft tissue varies about 1, as fat planes and muscles do, for (rows, columns) of `spacing` mm."""
    wide = gaussian_filter(rng.standard_normal(shape), (14 / spacing, 5 / spacing))
    fine = gaussian_filter(rng.standard_normal(shape), (5 / spacing, 1.6 / spacing))
    return 1 + 0.020 * wide / max(wide.std(), 1e-9) + 0.008 * fine / max(fine.std(), 1e-9)
