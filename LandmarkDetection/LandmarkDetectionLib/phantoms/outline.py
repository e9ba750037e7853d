"""The sixteen landmarks, read off the projected edges of the model's own tibia and femur.

Order is lateral to medial, T0..T8 then F0..F6. Positions are mm (x, z) in the world frame of a right knee.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from .bones import KneeModel, Solid

REFINEMENT = 4  # points of the edge per column of the grid


class Edge:
    """The joint side of a projected bone as a curve z(x), found where the silhouette distance is zero.

    Args:
        silhouette: (rows, columns) smallest signed distance (mm) on each ray.
        x: (columns,) ascending; z: (rows,) descending, mm.
        upper: True for the upper edge of the bone (tibia), False for the lower (femur).
        levels: (lowest, highest) z in mm between which the edge is looked for.
    """

    def __init__(self, silhouette, x, z, upper: bool, levels: tuple[float, float]):
        keep = np.flatnonzero((z >= levels[0] - 2) & (z <= levels[1] + 2))
        # Cubic refinement: where the edge turns into the wall it is steep, and linear steps would cut the corner.
        rows = np.arange(0, len(keep) - 1, 1 / REFINEMENT)
        columns = np.arange(0, len(x) - 1, 1 / REFINEMENT)
        near = np.clip(np.asarray(silhouette, dtype=float)[keep], -6, 6)
        values = map_coordinates(near, np.meshgrid(rows, columns, indexing="ij"), order=3, mode="nearest")
        heights = np.interp(rows, np.arange(len(keep)), np.asarray(z, dtype=float)[keep])
        x = np.interp(columns, np.arange(len(x)), x)
        if not upper:
            values, heights = values[::-1], heights[::-1]
        inside = values < 0
        first = np.argmax(inside, axis=0)
        found = (first > 0) & inside.any(axis=0)
        columns = np.flatnonzero(found)
        after, before = values[first[columns], columns], values[first[columns] - 1, columns]
        share = before / (before - after)
        self.x = x[columns]
        self.z = heights[first[columns] - 1] * (1 - share) + heights[first[columns]] * share

    def at(self, x: float) -> np.ndarray:
        """The point of the edge in column x."""
        return np.array([x, np.interp(x, self.x, self.z)])

    def extreme(self, direction, x_range: tuple[float, float]) -> np.ndarray:
        """The point farthest along `direction` (x, z) with x in `x_range`, refined between columns by a parabola."""
        keep = np.flatnonzero((self.x >= x_range[0]) & (self.x <= x_range[1]))
        reach = self.x[keep] * direction[0] + self.z[keep] * direction[1]
        best = int(np.argmax(reach))
        if 0 < best < len(keep) - 1:
            low, middle, high = reach[best - 1 : best + 2]
            bend = low - 2 * middle + high
            offset = 0.5 * (low - high) / bend if bend < 0 else 0.0
        else:
            offset = 0.0
        return self.at(self.x[keep[best]] + np.clip(offset, -0.5, 0.5) * (self.x[1] - self.x[0]))

    def halfway(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The point at half the length of the edge between two of its points."""
        x = np.linspace(first[0], second[0], 200)
        z = np.interp(x, self.x, self.z)
        length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
        return self.at(float(np.interp(length[-1] / 2, length, x)))

    def at_level(self, point: np.ndarray, inner: np.ndarray, share: float, up: np.ndarray) -> np.ndarray:
        """Between two points of the edge, where it first reaches `share` of the rise along `up` from the first."""
        x = np.linspace(point[0], inner[0], 400)
        rise = np.column_stack([x, np.interp(x, self.x, self.z)]) @ up
        start, end = point @ up, inner @ up
        return self.at(float(x[np.argmax(rise >= start + share * (end - start))]))


def landmarks(model: KneeModel, silhouettes: dict[str, np.ndarray], x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Landmarks of a right knee as (16, 2) world positions (x, z) in mm.

    Args:
        model: the knee.
        silhouettes: for "tibia" and "femur" the smallest signed distance on each ray, (len(z), len(x)).
        x, z: columns ascending and rows descending, mm.
    """
    tibia = Edge(silhouettes["tibia"], x, z, upper=True, levels=(-14, 24))
    femur = Edge(silhouettes["femur"], x, z, upper=False, levels=(-8, 40))
    return np.vstack([_tibia_points(model, tibia), _femur_points(model, femur)])


def _axes(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
    """The bone's own medial and superior directions as the film shows them, (x, z)."""
    across, up = solid.pose.matrix[[0, 2], 0], solid.pose.matrix[[0, 2], 2]
    return across / np.linalg.norm(across), up / np.linalg.norm(up)


def _column(solid: Solid, x: float, z: float = 0.0) -> float:
    """Film column (mm) of the bone point (x, 0, z)."""
    return float(solid.pose.to_world((x, 0.0, z))[0])


def _tibia_points(model: KneeModel, edge: Edge) -> np.ndarray:
    d, bone = model.dimensions, model.tibia
    across, up = _axes(bone)
    half, reach = d.plateau_width / 2, d.spine_gap / 2
    lateral = edge.extreme(up - across, (-2 * half, _column(bone, -0.7 * half)))
    medial = edge.extreme(up + across, (_column(bone, 0.7 * half), 2 * half))
    lateral_inner = edge.at(_column(bone, -d.lateral_foot))
    medial_inner = edge.at(_column(bone, d.medial_foot))
    lateral_tip = edge.extreme(up, (_column(bone, -reach - 3, 8), _column(bone, -reach + 3, 8)))
    medial_tip = edge.extreme(up, (_column(bone, reach - 3, 8), _column(bone, reach + 3, 8)))
    floor = edge.extreme(-up, (lateral_tip[0] + 1, medial_tip[0] - 1))
    return np.array([
        lateral, edge.halfway(lateral, lateral_inner), lateral_inner, lateral_tip, floor,
        medial_tip, medial_inner, edge.halfway(medial_inner, medial), medial,
    ])  # fmt: skip


def _femur_points(model: KneeModel, edge: Edge) -> np.ndarray:
    d, bone = model.dimensions, model.femur
    across, up = _axes(bone)
    half, gap = d.condyle_width / 2, d.notch_width / 2
    lateral = edge.extreme(-across - up, (-2 * half, _column(bone, -0.7 * half)))
    medial = edge.extreme(across - up, (_column(bone, 0.7 * half), 2 * half))
    apex = edge.extreme(up, (_column(bone, -0.8 * gap), _column(bone, 0.8 * gap)))
    lateral_lowest = edge.extreme(-up, (_column(bone, -0.85 * half), _column(bone, -gap)))
    medial_lowest = edge.extreme(-up, (_column(bone, gap), _column(bone, 0.85 * half)))
    lateral_inner = edge.at_level(lateral_lowest, apex, 0.35, up)
    medial_inner = edge.at_level(medial_lowest, apex, 0.35, up)
    return np.array([
        lateral, edge.halfway(lateral, lateral_inner), lateral_inner, apex,
        medial_inner, edge.halfway(medial_inner, medial), medial,
    ])  # fmt: skip
