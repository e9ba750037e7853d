"""What surrounds the column on a film: ribs, clavicles, shoulder blades, sacrum, hip bones and jaw, all as tubes.

World frame as in `vertebrae`, mm.
"""

from __future__ import annotations

import numpy as np

from .spine_dimensions import THORACIC
from .tubes import Tube, tube
from .vertebrae import Column

# rib: half width of the chest there (mm), degrees of the way round from the back to the front, fall at the front (mm)
_RIBS = {
    1: (58, 150, 22), 2: (84, 150, 42), 3: (101, 148, 58), 4: (114, 146, 70), 5: (123, 143, 80), 6: (129, 140, 88),
    7: (133, 136, 92), 8: (134, 130, 96), 9: (132, 122, 98), 10: (128, 112, 102), 11: (118, 84, 104),
    12: (104, 54, 124),
}  # fmt: skip


def ribs(column: Column, rng: np.random.Generator) -> list[Tube]:
    """Twelve pairs, each from the back of its vertebra over its transverse process round the chest."""
    fall, breadth = rng.uniform(0.75, 1.25), column.dimensions.girth**0.5
    found = []
    for number, level in enumerate(THORACIC, start=1):
        for side in (-1, 1):
            found.append(_rib(column, level, number, side, fall, breadth, rng))
    return found


def _rib(column: Column, level: str, number: int, side: int, fall: float, breadth: float, rng) -> Tube:
    d, body = column.dimensions, column[level].body
    half, turn, drop = _RIBS[number]
    size, depth = d.size, float(body.section.depth(0.0))
    width = float(body.section.medial(body.height / 2))
    head = body.pose.to_world((side * (width - 1), 0.8 * depth, 0.25 * body.height))
    neck = body.pose.to_world((side * (width + 12 * size), depth + 13 * size, 0.28 * body.height))
    # The chest stands over the sacrum more than the spine does.
    middle = 0.6 * body.pose.shift[0]
    radius = half * size * breadth * rng.uniform(0.98, 1.02)
    deep = (0.42 + 0.030 * min(number, 9)) * radius
    front = body.pose.shift[1] + depth + 24 * size - deep
    start = np.arcsin(np.clip(abs(neck[0] - middle) / radius, 0, 0.9)) + 0.18
    angles = np.linspace(min(start, np.radians(turn) - 0.25), np.radians(turn), 12)
    down = drop * size * fall * ((1 - np.cos(angles)) / 2) ** (0.85 if number < 8 else 0.65) * 1.5
    arc = np.column_stack([middle + side * radius * np.sin(angles), front + deep * np.cos(angles), neck[2] + 2 - down])
    points = np.vstack([head, neck, arc])
    tall = np.interp(np.linspace(0, 1, len(points)), [0, 0.12, 0.5, 1], [3.6, 4.2, 6.2, 6.6]) * size
    if number >= 11:
        tall = tall * np.linspace(1, 0.6, len(points))
    return tube(f"rib {number}", points, 3.6 * size, tall, 1.25)


def shoulders(column: Column, rng: np.random.Generator) -> list[Tube]:
    """Clavicles and shoulder blades."""
    size, level = column.dimensions.size, column["T3"].body.pose.shift
    front, back = level[1] - 70 * size, level[1] + 58 * size
    middle, found = 0.4 * level[0], []
    lift = rng.uniform(-8, 22) * size
    for side in (-1, 1):

        def place(x, y, z, side=side):
            return (middle + side * x * size, y, level[2] + z * size)

        clavicle = [place(13, front, -6), place(50, front - 6, 2 + lift / 3), place(95, front + 30, 10 + lift),
                    place(140, front + 55, 18 + lift)]  # fmt: skip
        wide, tall = np.array([8, 5.5, 5.5, 7]) * size, np.array([8, 5.5, 5, 5]) * size
        found.append(tube("clavicle", clavicle, wide, tall, 1.3))
        edge = rng.uniform(82, 104)
        blade = [place(edge + 38, back - 8, 12), place(edge + 32, back, -40), place(edge + 12, back + 6, -105)]
        found.append(tube("scapula", blade, np.array([40, 34, 8]) * size, 1.6 * size, 0.7, up=(0, 1, 0)))
        spine = [place(edge - 2, back + 8, -8), place(edge + 60, back + 2, 22)]
        found.append(tube("scapula", spine, 4 * size, 5 * size, 1.0))
    return found


def pelvis(column: Column) -> list[Tube]:
    """Sacrum with its wings and the upper parts of both hip bones."""
    d, pose, size = column.dimensions, column.sacrum, column.dimensions.size
    top = d.lower_widths[-1] / 2
    line = [(0, 2, -0.5), (0, 8, -24), (0, 16, -52), (0, 14, -84)]
    line = [tuple(size * value for value in point) for point in line]
    found = [
        tube("sacrum", line, np.array([top, 0.80 * top, 0.62 * top, 0.35 * top]), np.array([15, 12, 9, 6]) * size, 1.2,
             up=(0, 1, 0), pose=pose),
    ]  # fmt: skip
    for side in (-1, 1):

        def place(x, y, z, side=side):
            return (side * x * size, y * size, z * size)

        wing = [place(14, 8, -10), place(44, 20, -16), place(56, 24, -20)]
        found.append(tube("sacrum", wing, np.array([10, 12, 10]) * size, np.array([11, 17, 22]) * size, 1.1, pose=pose))
        crest = [(46, 50, -8), (66, 52, 14), (96, 26, 30), (122, -14, 22), (134, -48, -22)]
        plate = [(48, 46, -66), (66, 46, -40), (90, 28, -24), (106, 14, -24), (120, 0, -26)]
        found.append(tube("ilium", [place(*point) for point in crest], 5.5 * size, 6.5 * size, 1.4))
        found.append(tube("ilium", [place(*point) for point in plate], 2.8 * size,
                          np.array([38, 44, 52, 50, 38]) * size, 1.1))  # fmt: skip
    return found


def jaw(column: Column) -> list[Tube]:
    """The lower jaw, seen where a film reaches that far up."""
    size, (x, y, z) = column.dimensions.size, column["C3"].body.pose.shift
    arch = [(48, 8, 44), (46, -6, 12), (36, -42, 0), (14, -72, -8)]
    arch = [(sign * a, b, c) for sign, points in ((1, arch), (-1, arch[::-1])) for a, b, c in points]
    points = [(x + a * size, y + b * size, z + c * size) for a, b, c in arch]
    return [tube("mandible", points, 4.5 * size, 11 * size, 1.6)]
