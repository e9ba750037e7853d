"""Building blocks of the bone model: profiles, sections, poses and the smooth intersection of solids.

Frame of every bone (mm): x medial, y posterior, z superior, which is LPS for a right knee. A solid is an implicit
function, negative inside, whose size is close to the distance to its surface.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

STEP = 0.02  # mm between the entries of a profile's table; nearest entry is then within 0.01 mm


class Profile:
    """A smooth function of one coordinate: a control polygon rounded by a Gaussian.

    Args:
        points: (m, 2) control points (coordinate mm, value), coordinate ascending.
        rounding: standard deviation of the Gaussian in mm.
    """

    def __init__(self, points, rounding: float):
        points = np.asarray(points, dtype=float)
        if np.any(np.diff(points[:, 0]) <= 0):
            raise ValueError("The control points of a profile must ascend; sort them and remove doubles.")
        margin = 4 * rounding + STEP
        self.start = points[0, 0] - margin
        coordinates = np.arange(self.start, points[-1, 0] + margin, STEP)
        values = gaussian_filter1d(np.interp(coordinates, points[:, 0], points[:, 1]), rounding / STEP, mode="nearest")
        self.values = values.astype(np.float32)
        self.slopes = np.gradient(values, STEP).astype(np.float32)

    def index(self, coordinate: np.ndarray) -> np.ndarray:
        """Entry of the table nearest to each coordinate; the ends are continued."""
        return np.clip((coordinate - (self.start - STEP / 2)) / STEP, 0, len(self.values) - 1).astype(np.int32)

    def __call__(self, coordinate) -> np.ndarray:
        return self.values[self.index(np.asarray(coordinate))]

    def with_slope(self, coordinate) -> tuple[np.ndarray, np.ndarray]:
        """Value and first derivative at each coordinate."""
        index = self.index(np.asarray(coordinate))
        return self.values[index], self.slopes[index]


@dataclass(frozen=True)
class Section:
    """The side walls of a bone: at each height z an oval between `lateral` and `medial`, `depth` deep each way.

    `roundness` 2 is an ellipse and 0 a square with round corners, as (X^4 + Y^4 + roundness X^2 Y^2) = 1.
    """

    lateral: Profile
    medial: Profile
    depth: Profile
    centre: Profile
    roundness: float = 1.0

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance (mm) to the walls, first order in the distance."""
        lateral, medial = self.lateral(z), self.medial(z)
        half_width = (medial - lateral) / 2
        half_depth = self.depth(z)
        u = np.square((x - (lateral + medial) / 2) / half_width)
        v = np.square((y - self.centre(z)) / half_depth)
        radius = np.sqrt(np.sqrt(u * u + v * v + self.roundness * u * v)) + 1e-6
        along_x = np.square((2 * u + self.roundness * v) / half_width) * u
        along_y = np.square((2 * v + self.roundness * u) / half_depth) * v
        gradient = np.sqrt(along_x + along_y) / (2 * radius**3) + 1e-6
        return (radius - 1) / gradient


@dataclass(frozen=True)
class Pose:
    """A rigid motion of a bone: rotation (degrees, about x, y, z in that order) about `pivot`, then `shift` (mm)."""

    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    matrix: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        a, b, c = np.radians(self.degrees)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        object.__setattr__(self, "matrix", about_z @ about_y @ about_x)

    def to_world(self, points) -> np.ndarray:
        """Bone coordinates (..., 3) to world coordinates (..., 3), mm."""
        return (np.asarray(points) - self.pivot) @ self.matrix.T + self.pivot + self.shift

    def to_bone(self, x, y, z) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World coordinates, as arrays that broadcast, to bone coordinates."""
        moved = [
            np.asarray(value - pivot - shift, dtype=np.float32)
            for value, pivot, shift in zip((x, y, z), self.pivot, self.shift, strict=True)
        ]
        rotation = self.matrix.astype(np.float32)
        return tuple(
            sum(rotation[i, axis] * moved[i] for i in range(3)) + np.float32(self.pivot[axis]) for axis in range(3)
        )


def intersection(first: np.ndarray, second: np.ndarray, rounding: float) -> np.ndarray:
    """Signed distance of what two solids share, its edge rounded over about `rounding` mm."""
    overlap = np.maximum(rounding - np.abs(first - second), 0)
    return np.maximum(first, second) + overlap * overlap / (4 * rounding)
