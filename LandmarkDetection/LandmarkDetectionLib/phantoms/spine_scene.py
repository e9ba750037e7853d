"""`spine_scene`: the column that the spine films show, with discs, canal, trunk and organs, and the points on it.

Each vertebra has its centre and the six points of vertebral morphometry (Genant et al. 1993): front, middle and back of
both endplates in the body's own mid-sagittal plane.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import trunk
from .curves import draw_curves
from .scene import Part, Scene, Shape, draw_placement
from .shapes import Profile
from .soft_shapes import Inset, Torso, ellipsoid
from .spine import bones_of
from .spine_dimensions import LEVELS, draw_spine_dimensions
from .surface_points import onto_surface
from .tubes import Tube, tube
from .vertebrae import Column, VertebralBody, build_column

POINTS = ("C", "SA", "SM", "SP", "IA", "IM", "IP")
LANDMARKS = tuple(f"{level}_{point}" for level in LEVELS for point in POINTS)
LABELS = {
    "background": 0,
    **{level: number for number, level in enumerate(LEVELS, start=3)},  # as VerSe counts: C3 is 3, T1 8, L5 24
    "sacrum": 26, "rib": 30, "ilium": 31, "clavicle": 32, "scapula": 33, "mandible": 34,
    **{f"disc below {level}": 100 + number for number, level in enumerate(LEVELS, start=3)},
}  # fmt: skip
SUNK = 3.0  # mm by which discs reach below the rims, so that they fill the hollow of the endplates
AORTA = LEVELS[LEVELS.index("T6") : LEVELS.index("L4") + 1]


def column_of_film(seed: int, field_number: int = 0) -> Column:
    """The column on the film `make_spine(seed)`; `field_number` counts the fields of `spine.Field`."""
    rng = np.random.default_rng([seed, 7, field_number])
    dimensions, curves = draw_spine_dimensions(rng), draw_curves(rng)
    return build_column(dimensions, curves)


def spine_scene(seed: int, metal: bool | None = None, column: Column | None = None) -> Scene:
    """The person of a seed, lying in the scanner.

    Args:
        seed: the same seed gives the column of the film `make_spine(seed)`.
        metal: screws and rods along some vertebrae; one person in eight has them where None.
        column: another column.
    """
    column = column or column_of_film(seed)
    rng = np.random.default_rng([seed, 8])
    matrix, shift = draw_placement(rng)
    parts = [*_trunk(column, rng), *_canal(column), *_discs(column), *_bones(column, rng), *_sacral_remnants(column)]
    has_metal = (rng.random() < 0.125) if metal is None else metal
    hardware = tuple(_screws_and_rods(column, rng)) if has_metal else ()
    points = {
        f"{each.level}_{name}": point
        for each in column.vertebrae
        for name, point in zip(POINTS, body_points(each.body), strict=True)
    }
    return Scene(seed, tuple(parts), hardware, matrix, shift, points, LABELS, column.dimensions.density)


def body_points(body: VertebralBody) -> np.ndarray:
    """Centre and six points of a body, (7, 3) world mm, in the order of `POINTS`."""
    centre, half = np.array(body.pose.shift, dtype=float), body.height / 2
    upper, lower = float(body.section.depth(half)), float(body.section.depth(-half))
    rims = [(0.0, -upper, half), (0.0, upper, half), (0.0, -lower, -half), (0.0, lower, -half)]
    above, back_above, below, back_below = onto_surface(body, body.pose.to_world(rims), centre)
    top, bottom = body.pose.to_world([(0.0, 0.0, half - body.dish), (0.0, 0.0, body.dish - half)])
    return np.array([centre, above, top, back_above, below, bottom, back_below])


def column_shapes(seeds: Iterable[int]) -> np.ndarray:
    """Landmarks (m, n, 3) of whole columns in the model's world (mm), whatever a scan would show of them."""
    columns = (column_of_film(seed) for seed in seeds)
    return np.stack([np.concatenate([body_points(each.body) for each in column.vertebrae]) for column in columns])


def _bones(column: Column, rng: np.random.Generator) -> list[Part]:
    vertebrae, others = bones_of(column, rng)
    parts = [Part(each, "marrow", "cortex", LABELS[each.name.split()[0]]) for each in others]
    for each in vertebrae:
        parts += [Part(piece, "marrow", "cortex", LABELS[each.level]) for piece in each.arch]
    return parts + [Part(each.body, "marrow", "cortex", LABELS[each.level]) for each in vertebrae]


def _sacral_remnants(column: Column) -> list[Part]:
    """What is left of the discs between the first sacral vertebrae: they look like two more of the column."""
    size, wide = column.dimensions.size, 0.5 * column.dimensions.lower_widths[-1]
    parts = []
    for back, depth, share, thick in ((8.0, -27.0, 0.62, 9.5), (13.0, -50.0, 0.45, 7.0)):
        place = column.sacrum.to_world((0, back * size, depth * size))
        parts.append(Part(ellipsoid("sacral disc", place, (share * wide, thick * size, 2.2 * size)), "disc"))
    return parts


def _discs(column: Column) -> list[Part]:
    """Discs from rim to rim with their nuclei; the bodies, painted later, cut them to the hollow of the endplates."""
    below = [each.body for each in column.vertebrae[1:]]
    parts = []
    for index, upper in enumerate(column.vertebrae):
        body = upper.body
        top = body.pose.to_world((0, 0, -body.height / 2 + SUNK))
        if index < len(below):
            bottom = below[index].pose.to_world((0, 0, below[index].height / 2 - SUNK))
        else:
            bottom = column.sacrum.to_world((0, 1, -SUNK))
        wide = 0.94 * float(body.section.medial(-body.height / 2))
        deep = 0.94 * float(body.section.depth(-body.height / 2))
        name, label = f"disc below {upper.level}", LABELS[f"disc below {upper.level}"]
        parts.append(Part(tube(name, [top, bottom], wide, deep, 0.0, up=(0, 1, 0)), "disc", None, label))
        gap = float(np.linalg.norm(bottom - top)) - 2 * SUNK
        nucleus = ellipsoid(name, (top + bottom) / 2, (0.58 * wide, 0.58 * deep, 0.5 * gap + 0.8))
        parts.append(Part(nucleus, "nucleus", None, label))
    return parts


def _canal(column: Column) -> list[Part]:
    """Fluid of the spinal canal and the cord in it, which ends at L1."""
    size = column.dimensions.size
    line = [
        each.body.pose.to_world((0, float(each.body.section.depth(0.0)) + 8 * size, 0)) for each in column.vertebrae
    ]
    canal = tube("canal", line, 8.5 * size, 6.5 * size, 0.0, up=(0, 1, 0))
    cord = tube("cord", line[: LEVELS.index("L1") + 1], 5.2 * size, 3.8 * size, 0.0, up=(0, 1, 0))
    return [Part(canal, "csf"), Part(cord, "cord")]


def torso_of(column: Column) -> Torso:
    """The outline of the trunk that the films of this column are computed with."""
    size = column.dimensions.size
    top = column["C3"].body.pose.shift[2] + 90 * size
    z = np.arange(-260 * size, top, 4.0)
    wide, deep, middle, back = trunk.outline(column, z)
    profiles = [Profile(np.column_stack([z, values]), 3.0) for values in (wide, deep, middle, back)]
    return Torso(*profiles, heights=(float(z[0]), float(z[-1])))


def _trunk(column: Column, rng: np.random.Generator) -> list[Part]:
    """Skin's fat, muscle, the two cavities with what they hold, and the aorta."""
    torso, size = torso_of(column), column.dimensions.size
    dome = column["T10"].body.pose.shift[2] + rng.uniform(-14, 14) * size
    parts = [Part(torso, "fat"), Part(Inset(torso, float(rng.uniform(5, 24)) * size), "muscle")]
    parts += [*_belly(column, torso, dome, rng), *_chest(column, torso, dome)]
    line = []
    for level in AORTA:
        body = column[level].body
        line.append(body.pose.to_world((6 * size, -float(body.section.depth(0.0)) - 11 * size, 0)))
    return [*parts, Part(tube("aorta", line, 9.5 * size, 9.5 * size, 0.0, up=(0, 1, 0)), "blood")]


def _chest(column: Column, torso: Torso, dome: float) -> list[Part]:
    """Two lungs beside the middle of the chest."""
    apex, parts = column["T1"].body.pose.shift[2], []
    middle = (apex + dome) / 2
    wide, deep = float(torso.half_width(middle)), float(torso.half_depth(middle))
    for side, lift in ((-1, 5.0), (1, -5.0)):
        centre = (
            float(torso.middle(middle)) + side * 0.50 * wide, float(torso.depth_middle(middle)) + 0.02 * deep,
            middle + lift,
        )  # fmt: skip
        parts.append(Part(ellipsoid("lung", centre, (0.32 * wide, 0.68 * deep, 0.56 * (apex - dome))), "lung"))
    return parts


def _belly(column: Column, torso: Torso, dome: float, rng: np.random.Generator) -> list[Part]:
    """Fat of the belly, liver, kidneys, psoas muscles and bowel with some gas."""
    size = column.dimensions.size
    level = 0.45 * dome
    wide, deep = float(torso.half_width(level)), float(torso.half_depth(level))
    middle, back = float(torso.middle(level)), float(torso.depth_middle(level))
    place = (middle, back - 0.18 * deep, level)
    parts = [Part(ellipsoid("belly", place, (0.72 * wide, 0.58 * deep, 0.62 * dome)), "fat")]
    liver = (middle - 0.34 * wide, back - 0.12 * deep, dome - 40 * size)
    parts.append(Part(ellipsoid("liver", liver, (0.42 * wide, 0.56 * deep, 62 * size)), "organ"))
    for side in (-1, 1):
        near = column["L1"].body.pose.shift
        kidney = (near[0] + side * 62 * size, near[1] + 22 * size, near[2] - side * 6)
        parts.append(Part(ellipsoid("kidney", kidney, (26 * size, 22 * size, 52 * size)), "organ"))
        line = [column[name].body.pose.to_world((side * 34 * size, 6 * size, 0)) for name in ("L1", "L3", "L5")]
        thick = np.array([10.0, 17.0, 20.0]) * size
        parts.append(Part(tube("psoas", line, thick, thick, 0.0, up=(0, 1, 0)), "muscle"))
    for _ in range(int(rng.integers(6, 13))):
        centre = (
            middle + rng.uniform(-0.5, 0.5) * wide, back - rng.uniform(0.2, 0.55) * deep,
            rng.uniform(0.0, 0.75) * dome,
        )  # fmt: skip
        radii = rng.uniform(10, 22, 3) * size
        parts.append(Part(ellipsoid("bowel", centre, radii), "organ"))
        if rng.random() < 0.5:
            parts.append(Part(ellipsoid("gas", centre, radii * rng.uniform(0.4, 0.8)), "gas"))
    return parts


def _screws_and_rods(column: Column, rng: np.random.Generator) -> list[Shape]:
    """A screw through each pedicle of some neighbours, and a rod on each side that joins their heads."""
    d, count = column.dimensions, int(rng.integers(2, 6))
    first = int(rng.integers(LEVELS.index("T4"), len(LEVELS) - count + 1))
    chosen = column.vertebrae[first : first + count]
    found: list[Tube] = []
    for side in (-1, 1):
        heads = []
        for index, each in enumerate(chosen, start=first):
            offset, back, rise = d.pedicles[index, 2], d.depths[index] / 2, 0.16 * d.heights[index]
            ends = [(side * (offset + 2), back + 22 * d.size, rise), (side * 0.45 * offset, -0.45 * back, 0.5 * rise)]
            found.append(tube("screw", ends, 2.6, 2.6, 0.0, pose=each.body.pose))
            heads.append(each.body.pose.to_world(ends[0]))
        found.append(tube("rod", heads, 2.75, 2.75, 0.0, up=(0, 1, 0)))
    return found
