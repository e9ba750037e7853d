"""The bones of the knee as solids: femur, tibia, fibula, patella and the soft tissue around them.

World frame (mm): x medial, y posterior, z superior; z = 0 is the level of the tibial plateau and x = 0 its middle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .dimensions import Dimensions, Stance
from .shapes import Pose, Profile, Section, intersection


@dataclass(frozen=True)
class Solid:
    """One part of the leg. `bounds` are the world limits (mm) as ((x0, x1), (y0, y1), (z0, z1))."""

    name: str
    pose: Pose
    section: Section
    bounds: tuple[tuple[float, float], ...]
    cortex: Profile  # thickness of the compact shell (mm) over z of the bone
    scar: Profile | None = field(default=None, kw_only=True)  # height (mm) of the growth plate's scar over x
    scar_density: float = field(default=0.0, kw_only=True)  # share of the marrow that is compact there

    def distance(self, x, y, z) -> np.ndarray:
        """Signed distance (mm), negative inside, at world points given as arrays that broadcast."""
        return self.local_distance(*self.pose.to_bone(x, y, z))

    def local_distance(self, x, y, z) -> np.ndarray:
        return self.section.distance(x, y, z)


@dataclass(frozen=True)
class Tibia(Solid):
    plateau: Profile
    spines: Profile

    def local_distance(self, x, y, z) -> np.ndarray:
        base, base_slope = self.plateau.with_slope(x)
        spine, spine_slope = self.spines.with_slope(x)
        fade = np.exp(-np.square(y / 11.0))  # the spines stand in the middle of the plateau's depth
        surface = base + spine * fade - np.square(y / 17.0)
        top = (z - surface) / np.sqrt(1 + np.square(base_slope + spine_slope * fade))
        return intersection(top, self.section.distance(x, y, z), 3.0)


@dataclass(frozen=True)
class Femur(Solid):
    """The condyles are turned about a transverse axis, so flexion hardly changes their outline."""

    articular: Profile
    axis: tuple[float, float]  # y, z of the transverse axis (mm)

    def local_distance(self, x, y, z) -> np.ndarray:
        bottom, slope = self.articular.with_slope(x)
        below = np.minimum(z - self.axis[1], 0)
        above = np.maximum(z - self.axis[1], 0)
        # Above the axis the notch closes: the bone fills in front of and behind it.
        reach = np.hypot(y - self.axis[0], below) - (self.axis[1] - bottom) - 1.3 * above
        return intersection(reach / np.sqrt(1 + slope * slope), self.section.distance(x, y, z), 5.0)


@dataclass(frozen=True)
class Ellipsoid(Solid):
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def local_distance(self, x, y, z) -> np.ndarray:
        scaled = [(value - c) / r for value, c, r in zip((x, y, z), self.centre, self.radii, strict=True)]
        radius = np.sqrt(sum(np.square(s) for s in scaled)) + 1e-6
        gradient = np.sqrt(sum(np.square(s / r) for s, r in zip(scaled, self.radii, strict=True))) / radius + 1e-6
        return (radius - 1) / gradient


@dataclass(frozen=True)
class KneeModel:
    """The parts of one right knee, placed in the world frame, with what the landmarks are named after."""

    dimensions: Dimensions
    stance: Stance
    femur: Femur
    tibia: Tibia
    fibula: Solid
    patella: Ellipsoid
    leg: Solid

    @property
    def bones(self) -> tuple[Solid, ...]:
        return (self.femur, self.tibia, self.fibula, self.patella)


def build(dimensions: Dimensions, stance: Stance) -> KneeModel:
    """The knee of these dimensions in this stance."""
    d = dimensions
    tibia_pose = Pose((stance.slope, stance.tibia_tilt, stance.rotation))
    # The femur turns about the middle of the joint, so its compartments open and close but never overlap.
    swing = Pose((0.0, stance.tibia_tilt + stance.opening, stance.rotation), shift=(stance.slide, 0.0, d.joint_space))
    return KneeModel(
        d,
        stance,
        _femur(d, swing, stance.flexion),
        _tibia(d, tibia_pose),
        _fibula(d, tibia_pose),
        _patella(d, stance),
        _leg(d),
    )


def _walls(table, half: float, depth, centre, roundness: float) -> Section:
    """Section from rows (z, lateral fraction, medial fraction) of the half width."""
    table = np.asarray(table, dtype=float)
    return Section(
        lateral=Profile(np.column_stack([table[:, 0], -half * table[:, 1]]), 2.0),
        medial=Profile(np.column_stack([table[:, 0], half * table[:, 2]]), 2.0),
        depth=Profile(depth, 4.0),
        centre=Profile(centre, 5.0),
        roundness=roundness,
    )


def _tibia(d: Dimensions, pose: Pose) -> Tibia:
    half, lip = d.plateau_width / 2, d.osteophyte / (d.plateau_width / 2)
    table = [
        (-220, 0.32, 0.33), (-140, 0.34, 0.35), (-95, 0.37, 0.38), (-68, 0.43, 0.44), (-52, 0.54, 0.51),
        (-40, 0.69, 0.62), (-31, 0.84, 0.76), (-22, 0.94, 0.89), (-14, 0.97, 0.955), (-8, 0.975, 0.97),
        (-3, 1.0 + lip / 2, 1.0 + lip), (10, 1.0 + lip / 2, 1.0 + lip),
    ]  # fmt: skip
    depth = [
        (-140, 13),
        (-90, 15),
        (-60, 18),
        (-30, 0.29 * d.plateau_width),
        (-8, 0.335 * d.plateau_width),
        (10, 0.33 * d.plateau_width),
    ]
    section = _walls(table, half, depth, [(-140, -4), (-60, -3), (-20, 0), (10, 0)], roundness=0.7)
    plateau = [
        (-half - 4, 0.2), (-half, 0.1), (-0.62 * half, d.lateral_dish), (-d.lateral_foot, 0.6),
        (d.medial_foot, 0.3), (0.62 * half, d.medial_dish), (half, 0.3), (half + 4, 0.6),
    ]  # fmt: skip
    left, right, low, high = -d.spine_gap / 2, d.spine_gap / 2, d.lateral_spine, d.medial_spine
    spines = [
        (-d.lateral_foot - 2, 0), (-d.lateral_foot + 1.5, 0.14 * low), (left - 2.6, 0.72 * low), (left, 1.12 * low),
        (left + 2.4, 0.86 * low), (0.4, d.valley * low), (right - 2.2, 0.86 * high), (right, 1.13 * high),
        (right + 2.2, 0.68 * high), (d.medial_foot - 1.5, 0.12 * high), (d.medial_foot + 1.5, 0),
    ]  # fmt: skip
    cortex = Profile([(-140, 5.0), (-80, 3.6), (-45, 1.8), (-18, 1.1), (-6, 1.6), (2, 1.9), (20, 1.5)], 3.0)
    bounds = ((-half - 12, half + 12), (-34, 34), (-330, 18))
    scar = Profile([(-half, -17), (-0.5 * half, -21), (-0.1 * half, -18), (0.3 * half, -22), (half, -16)], 3.0)
    profiles = Profile(plateau, 1.6), Profile(spines, 0.9)
    return Tibia("tibia", pose, section, bounds, cortex, *profiles, scar=scar, scar_density=d.scar_density)


def _femur(d: Dimensions, swing: Pose, flexion: float) -> Femur:
    half, height, gap = d.condyle_width / 2, d.notch_height, d.notch_width / 2
    table = [
        (-8, 0.97, 0.97), (4, 0.99, 0.985), (10, 0.985, 1.0), (15, 0.97, 1.02), (22, 1.03, 1.04), (30, 1.06, 1.06),
        (38, 0.99, 1.05), (46, 0.85, 0.93), (56, 0.72, 0.73), (70, 0.61, 0.59), (88, 0.55, 0.46), (110, 0.53, 0.33),
        (150, 0.58, 0.20), (260, 0.88, -0.10),
    ]  # fmt: skip
    depth = [(0, 32), (30, 31), (45, 26), (60, 21), (80, 17), (140, 14)]
    section = _walls(table, half, depth, [(0, 2), (30, 0), (60, -9), (140, -14)], roundness=0.5)
    articular = [
        (-half - 6, 12), (-half - 0.5, 4.2), (-half + 4, 1.6), (-half + 10, 0.5), (-0.58 * half, d.lateral_lift),
        (-gap - 6, 1.6), (-gap - 2.2, 0.27 * height), (-gap + 1, 0.60 * height), (-0.42 * gap, 0.98 * height),
        (0.5, 1.06 * height), (0.45 * gap, 0.95 * height), (gap - 0.5, 0.55 * height), (gap + 2.4, 0.25 * height),
        (gap + 6, 1.2), (0.60 * half, 0.0), (half - 9, 0.3), (half - 4, 1.3), (half - 0.5, 3.6), (half + 6, 11),
    ]  # fmt: skip
    axis = (2.0, 0.34 * d.condyle_width)
    # Flexion first, about the condyles' own axis, then the swing of the joint: both are one rigid motion.
    bent = Pose((-flexion, swing.degrees[1], swing.degrees[2]))
    pivot = np.array([0.0, *axis])
    shift = swing.to_world(pivot) - bent.matrix @ pivot
    cortex = Profile([(0, 1.3), (30, 1.1), (50, 1.7), (75, 3.3), (110, 5.0), (200, 5.5)], 4.0)
    bounds = ((-half - 14, half + 14), (-90, 48), (-6, 330))
    scar = Profile([(-half, 30), (-0.5 * half, 36), (0, 31), (0.5 * half, 38), (half, 34)], 3.0)
    pose, profile = Pose(bent.degrees, shift=tuple(shift)), Profile(articular, 1.5)
    return Femur("femur", pose, section, bounds, cortex, profile, axis, scar=scar, scar_density=d.scar_density)


def _fibula(d: Dimensions, pose: Pose) -> Solid:
    top, head = -d.fibula_drop, d.fibula_head
    radius = [
        (top - 220, 7), (top - 130, 6.5), (top - 55, 5.6), (top - 32, 6.2), (top - 20, 0.85 * head),
        (top - 12, head), (top - 5, 0.86 * head), (top - 1.5, 0.5 * head), (top + 0.6, 0.6), (top + 12, 0.3),
    ]  # fmt: skip
    line = [(top - 220, -28), (top - 110, -30), (top - 40, -0.47 * d.plateau_width), (top, -0.455 * d.plateau_width)]
    heights = np.arange(top - 220, top + 12, 0.5)
    widths = np.interp(heights, *np.transpose(radius))
    centres = np.interp(heights, *np.transpose(line))
    section = Section(
        lateral=Profile(np.column_stack([heights, centres - widths]), 0.8),
        medial=Profile(np.column_stack([heights, centres + widths]), 0.8),
        depth=Profile(np.column_stack([heights, 1.05 * widths]), 0.8),
        centre=Profile([(top - 140, 8), (top - 40, 15), (top, 18)], 4.0),
        roundness=1.8,
    )
    cortex = Profile([(top - 120, 2.8), (top - 50, 2.0), (top - 20, 1.2), (top, 1.2)], 3.0)
    return Solid("fibula", pose, section, ((-70, 10), (-10, 48), (-330, top + 4)), cortex)


def _patella(d: Dimensions, stance: Stance) -> Ellipsoid:
    centre = (stance.patella_x, -0.5 * d.condyle_width, stance.patella_z)
    radii = (d.patella_width / 2, 9.0, 0.52 * d.patella_width)
    bounds = tuple((c - r - 2, c + r + 2) for c, r in zip(centre, radii, strict=True))
    flat = Profile([(-200, 1.0), (200, 1.0)], 1.0)
    oval = Section(flat, flat, flat, flat)
    return Ellipsoid("patella", Pose(), oval, bounds, Profile([(0, 1.2), (200, 1.2)], 1.0), centre, radii)


def _leg(d: Dimensions) -> Solid:
    half = 0.5 * d.leg_width
    table = [
        (-240, 0.62, 0.58),
        (-150, 0.86, 0.84),
        (-80, 0.98, 0.97),
        (-25, 0.97, 0.97),
        (15, 1.0, 1.02),
        (60, 1.06, 1.12),
        (160, 1.28, 1.35),
        (260, 1.4, 1.5),
    ]
    depth = [(-240, 0.62 * half), (-100, 0.98 * half), (0, 0.98 * half), (80, 1.15 * half), (240, 1.4 * half)]
    section = Section(
        lateral=Profile([(z, -half * lateral) for z, lateral, _ in table], 12.0),
        medial=Profile([(z, half * medial) for z, _, medial in table], 12.0),
        depth=Profile(depth, 12.0),
        centre=Profile([(-200, 14), (-60, 10), (0, 4), (100, 4)], 12.0),
        roundness=1.9,
    )
    reach = 1.6 * half
    return Solid(
        "leg", Pose(), section, ((-reach, reach), (-reach, reach), (-400, 400)), Profile([(0, 8.0), (200, 8.0)], 1.0)
    )
