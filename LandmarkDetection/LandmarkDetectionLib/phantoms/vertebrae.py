"""The vertebral column as solids: bodies with hollow endplates and drawn-in walls, arches and processes as tubes.

World frame (mm): x to the image's right (the patient's left), y posterior, z superior, which is LPS; z = 0 and x = 0 is
the middle of the sacral endplate. The frame of a vertebra has the same axes and its origin in the middle of the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .bones import Solid
from .curves import Bend, Curve, bend
from .shapes import Pose, Profile, Section, intersection
from .spine_dimensions import LEVELS, LUMBAR, SpineDimensions
from .tubes import Tube, tube

ROUNDNESS = 1.2  # of the outline of an endplate, see `shapes.Section`
RIM = 2.5  # mm of wall beside an endplate that keep its width


@dataclass(frozen=True)
class VertebralBody(Solid):
    """A body `height` mm tall; its upper and lower endplate lean by `slopes` (degrees, right side down) in it."""

    height: float = field(kw_only=True)
    slopes: tuple[float, float] = field(kw_only=True)
    dish: float = field(kw_only=True)

    def local_distance(self, x, y, z) -> np.ndarray:
        half = self.height / 2
        share = np.square(x / self.section.medial(half)) + np.square(y / self.section.depth(half))
        dish = self.dish * np.maximum(1 - share, 0)
        top, bottom = np.radians(self.slopes)
        above = (z - half + x * np.tan(top) + dish) * np.cos(top)
        below = (-half - x * np.tan(bottom) + dish - z) * np.cos(bottom)
        return intersection(intersection(above, below, 0.8), self.section.distance(x, y, z), 1.0)

    def endplate(self, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        """Middle (3,) of an endplate's rim and its upward normal (3,), world, mm."""
        slope = np.radians(self.slopes[0 if upper else 1])
        middle = np.array([0.0, 0.0, self.height / 2 if upper else -self.height / 2])
        return self.pose.to_world(middle), self.pose.matrix @ [np.sin(slope), 0.0, np.cos(slope)]

    def rim(self, upper: bool, count: int = 1440) -> np.ndarray:
        """Points (count, 3) of the edge between an endplate and the wall, world, mm."""
        z = self.height / 2 if upper else -self.height / 2
        angle = np.arange(count) * (2 * np.pi / count)
        u, v = np.square(np.cos(angle)), np.square(np.sin(angle))
        radius = (u * u + v * v + ROUNDNESS * u * v) ** -0.25
        x = self.section.medial(z) * radius * np.cos(angle)
        y = self.section.depth(z) * radius * np.sin(angle)
        slope = np.radians(self.slopes[0 if upper else 1])
        return self.pose.to_world(np.column_stack([x, y, z - x * np.tan(slope)]))

    def corners(self, upper: bool) -> np.ndarray:
        """Left and right corner of an endplate on the film, (2, 2) as (x, z) mm.

        They are the ends of the endplate's middle line as a beam along y shows it: the line in which the plane of the
        rim meets the plane of the film through the rim's middle, out to where the shadow of the rim ends.
        """
        middle, normal = self.endplate(upper)
        line = np.array([normal[2], -normal[0]]) / np.hypot(normal[0], normal[2])
        reach = (self.rim(upper)[:, [0, 2]] - middle[[0, 2]]) @ line
        return middle[[0, 2]] + np.array([reach.min(), reach.max()])[:, None] * line


@dataclass(frozen=True)
class Vertebra:
    """One level: its body and the tubes of its arch, in the world."""

    level: str
    body: VertebralBody
    arch: tuple[Tube, ...]

    def turned(self, rotation: np.ndarray) -> Vertebra:
        """The vertebra after a rotation (3, 3) about the origin of the world."""
        pose = rigid(rotation @ self.body.pose.matrix, rotation @ np.asarray(self.body.pose.shift))
        body = replace(self.body, pose=pose, bounds=_bounds(self.body, pose))
        return Vertebra(self.level, body, tuple(each.turned(rotation) for each in self.arch))


@dataclass(frozen=True)
class Column:
    """C3 to L5 of one person with the curves that were asked for; `sacrum` is the pose of the sacral endplate."""

    dimensions: SpineDimensions
    curves: tuple[Curve, ...]
    vertebrae: tuple[Vertebra, ...]
    sacrum: Pose

    def __getitem__(self, level: str) -> Vertebra:
        return self.vertebrae[LEVELS.index(level)]

    def cobb_angle(self, upper: str, lower: str) -> float:
        """Degrees on the film between the upper endplate of one level and the lower endplate of another."""
        left_right = [self[upper].body.corners(True), self[lower].body.corners(False)]
        tilts = [np.arctan2(*(pair[1] - pair[0])[::-1]) for pair in left_right]
        return float(abs(np.degrees(tilts[0] - tilts[1])))


def rigid(matrix: np.ndarray, shift) -> Pose:
    """The pose with this rotation matrix (3, 3) about the origin and this shift (mm)."""
    about_y = -np.arcsin(np.clip(matrix[2, 0], -1, 1))
    about_x, about_z = np.arctan2(matrix[2, 1], matrix[2, 2]), np.arctan2(matrix[1, 0], matrix[0, 0])
    return Pose(tuple(np.degrees([about_x, about_y, about_z])), shift=tuple(float(value) for value in shift))


def orientation(tilt: float, lean: float, rotation: float) -> np.ndarray:
    """Rotation (3, 3): about the own long axis, then forward by `lean`, then in the film by `tilt` (degrees).

    In this order the tilt of an endplate on the film is `tilt` whatever the other two are.
    """
    tilted, leaning, turned = Pose((0, tilt, 0)), Pose((lean, 0, 0)), Pose((0, 0, rotation))
    return tilted.matrix @ leaning.matrix @ turned.matrix


def build_column(dimensions: SpineDimensions, curves: Sequence[Curve] = ()) -> Column:
    """The column of these dimensions with these curves, stacked from the sacrum upwards."""
    d = dimensions
    shape = bend(curves, d.heights + d.discs)
    position = np.zeros(3)
    below = (shape.sacral_tilt, d.sacral_lean)
    sacrum = rigid(orientation(*below, 0.0), position)
    stacked = []
    for index in reversed(range(len(LEVELS))):
        tilt, lean, wedge = shape.tilts[index], d.leans[index], shape.wedges[index]
        between = orientation((tilt + wedge / 2 + below[0]) / 2, (lean + below[1]) / 2, 0.0)
        position = position + d.discs[index] * between[:, 2]
        matrix = orientation(tilt, lean, shape.rotations[index])
        centre = position + d.heights[index] / 2 * matrix[:, 2]
        position = position + d.heights[index] * matrix[:, 2]
        stacked.append(_vertebra(d, index, rigid(matrix, centre), shape))
        below = (tilt - wedge / 2, lean)
    return Column(d, tuple(curves), tuple(reversed(stacked)), sacrum)


def _vertebra(d: SpineDimensions, index: int, pose: Pose, shape: Bend) -> Vertebra:
    level, height, wedge = LEVELS[index], d.heights[index], shape.wedges[index]
    half, top, bottom = height / 2, d.upper_widths[index] / 2, d.lower_widths[index] / 2
    rows = np.array([-half - 4, -half + RIM, -0.1 * half, 0.1 * half, half - RIM, half + 4])
    narrow = d.waist * (top + bottom) / 2
    widths = np.array([bottom, bottom, narrow, narrow, top, top])
    depths = d.depths[index] / 2 * np.array([1, 1, 0.92, 0.92, 1, 1])
    section = Section(
        lateral=Profile(np.column_stack([rows, -widths]), 0.8),
        medial=Profile(np.column_stack([rows, widths]), 0.8),
        depth=Profile(np.column_stack([rows, depths]), 0.8),
        centre=Profile([(-half, 0.0), (half, 0.0)], 0.8),
        roundness=ROUNDNESS,
    )
    shell = Profile([(-1.0, 1.0), (1.0, 1.0)], 1.0)
    # The wedge is told in the film's plane, the slopes in the plane of the turned body; they differ by its rotation.
    slopes = (-wedge / 2, wedge / 2)
    body = VertebralBody(
        level, pose, section, ((0, 0),) * 3, shell, height=float(height), slopes=slopes, dish=min(d.dish, height / 6)
    )
    body = replace(body, bounds=_bounds(body, pose))
    return Vertebra(level, body, _arch(d, index, pose))


def _bounds(body: VertebralBody, pose: Pose) -> tuple[tuple[float, float], ...]:
    """World limits (mm) of the box around a body, with the room that its leaning endplates need."""
    half = body.height / 2
    wide = float(max(body.section.medial(half), body.section.medial(-half)))
    lift = wide * np.tan(np.radians(np.max(np.abs(body.slopes))))
    extent = np.array([wide, float(body.section.depth(half)), half + lift]) + 2.0
    reach = np.abs(pose.matrix) @ extent
    return tuple((float(c - r), float(c + r)) for c, r in zip(pose.shift, reach, strict=True))


def _arch(d: SpineDimensions, index: int, pose: Pose) -> tuple[Tube, ...]:
    """Pedicles, laminae, articular, transverse and spinous processes of one level, in the frame of its body."""
    level, height, size = LEVELS[index], d.heights[index], d.size
    name, back, lumbar = f"{level} arch", d.depths[index] / 2, level in LUMBAR
    half_width, half_height, offset = d.pedicles[index]
    rise, behind = 0.16 * height, back + 15 * size
    parts = []
    for side in (-1, 1):
        start, end = (0.94 * side * offset, back - 1.5, rise), (side * offset, back + 10 * size, rise)
        parts.append(tube(name, [start, end], half_width, half_height, 1.3, pose=pose))
        joint = 0.40 * d.upper_widths[index]
        facet = [(side * joint, back + 11 * size, 0.60 * height), (side * joint, back + 13 * size, 0.0),
                 (0.82 * side * joint, back + 16 * size, -0.72 * height)]  # fmt: skip
        sizes = (3.0 * size, 2.6 * size, 3.4 * size) if lumbar else (2.4 * size, 2.4 * size, 2.4 * size)
        parts.append(tube(name, facet, sizes, 2.6 * size, 1.4, up=(0, 1, 0), pose=pose))
        lamina = [
            (0.9 * side * offset, back + 12 * size, 0.02 * height),
            (side * 1.5, behind + 6 * size, -0.30 * height),
        ]
        parts.append(tube(name, lamina, 2.4 * size, 0.36 * height, 1.0, pose=pose))
        parts.append(_transverse(d, index, side, pose))
    parts.append(_spinous(d, index, behind + 5 * size, pose))
    return tuple(parts)


def _transverse(d: SpineDimensions, index: int, side: int, pose: Pose) -> Tube:
    """Thoracic ones point outwards and back, lumbar ones outwards and are thin."""
    level, height, back, size = LEVELS[index], d.heights[index], d.depths[index] / 2, d.size
    start = np.array([side * d.pedicles[index][2], back + 9 * size, 0.12 * height])
    if level in LUMBAR:
        long = d.process * {"L1": 22, "L2": 26, "L3": 30, "L4": 26, "L5": 24}[level]
        middle, end = start + (0.5 * side * long, 3, 1), start + (side * long, 6, 0.10 * height)
        return tube(f"{level} arch", [start, middle, end], 2.4 * size, np.array([5.0, 4.0, 2.6]) * size, pose=pose)
    # The eleventh and twelfth are mere stumps.
    reach = d.process * (9.0 if level in ("T11", "T12") else 12.0 if level[0] == "C" else 21.0)
    end = start + (side * reach, 0.55 * reach, 0.12 * height)
    return tube(f"{level} arch", [start, end], 3.2 * size, np.array([4.2, 4.6]) * size, 0.9, pose=pose)


def _spinous(d: SpineDimensions, index: int, behind: float, pose: Pose) -> Tube:
    """The spinous process: long and steep in the middle of the chest, a tall plate in the loins."""
    level, height, size = LEVELS[index], d.heights[index], d.size
    start = np.array([0.0, behind, -0.28 * height])
    if level in LUMBAR:
        end = start + np.array([0, 28, -6]) * d.process
        halves = np.array([7.5, 9.5]) * size
    else:
        steep = {"C": 12.0, "T": 22.0}[level[0]] * (1.4 if level in ("T5", "T6", "T7", "T8") else 1.0)
        end = start + np.array([0, 26, -steep]) * d.process
        halves = np.array([5.0, 4.0]) * size
    return tube(f"{level} arch", [start, end], np.array([2.0, 3.2]) * size, halves, 1.0, pose=pose)
