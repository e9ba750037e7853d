"""Plain anatomical dimensions of a spine and how it stands, drawn from a seeded generator.

The table holds round text-book figures for adults (mm), thinned out to a few levels and interpolated between them; the
spreads are wide, from slender adolescents to large adults. They are chosen by hand and are no fit to any data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CERVICAL = tuple(f"C{i}" for i in range(3, 8))
THORACIC = tuple(f"T{i}" for i in range(1, 13))
LUMBAR = tuple(f"L{i}" for i in range(1, 6))
LEVELS = CERVICAL + THORACIC + LUMBAR  # from the head down; the sacrum follows
LANDMARK_LEVELS = THORACIC + LUMBAR
CORNERS = ("TL", "TR", "BL", "BR")
LANDMARKS = tuple(f"{level}_{corner}" for level in LANDMARK_LEVELS for corner in CORNERS)

# level: width and depth of the upper endplate, height of the body, height of the disc below (all mm)
_SIZES = {
    "C3": (17.0, 15.5, 13.5, 5.0),
    "C7": (24.0, 17.0, 14.5, 5.5),
    "T1": (26.5, 17.5, 16.0, 4.5),
    "T4": (26.0, 22.5, 18.0, 4.0),
    "T8": (30.0, 28.0, 20.0, 5.0),
    "T12": (39.0, 31.0, 24.0, 6.5),
    "L1": (41.0, 32.0, 25.5, 8.0),
    "L3": (44.5, 34.0, 27.5, 10.5),
    "L5": (49.0, 35.0, 27.5, 10.0),
}
# level: forward lean (degrees) of a body about the transverse axis, thoracic and lumbar parts scaled on their own
_LEANS = {"C3": 6, "C7": 20, "T1": 24, "T4": 13, "T7": 0, "T10": -11, "T12": -15, "L1": -14, "L3": 0, "L5": 20}
# level: half width of a pedicle, half height, distance of its axis from the middle as a share of half the body's width
_PEDICLES = {
    "C3": (2.6, 3.4, 0.80), "T1": (4.0, 5.0, 0.66), "T4": (2.4, 5.2, 0.62), "T8": (2.9, 6.0, 0.60),
    "T12": (3.8, 8.0, 0.62), "L1": (3.8, 7.4, 0.56), "L3": (4.8, 7.2, 0.58), "L5": (8.0, 7.0, 0.66),
}  # fmt: skip


def along_levels(table: dict[str, tuple | float]) -> np.ndarray:
    """A table of a few levels as (22, k) or (22,) values of all levels, linear in between."""
    known = [LEVELS.index(level) for level in table]
    columns = np.atleast_2d(np.asarray(list(table.values()), dtype=float).T)
    values = np.column_stack([np.interp(np.arange(len(LEVELS)), known, column) for column in columns])
    return values if values.shape[1] > 1 else values[:, 0]


@dataclass(frozen=True)
class SpineDimensions:
    """Sizes of one person, one value a level of `LEVELS` where an array; mm and degrees."""

    size: float  # of the whole body, 1 is an average adult
    girth: float  # of the trunk relative to that size
    upper_widths: np.ndarray
    lower_widths: np.ndarray
    depths: np.ndarray
    heights: np.ndarray
    discs: np.ndarray  # below each level
    leans: np.ndarray
    sacral_lean: float
    pedicles: np.ndarray  # (22, 3) half width, half height, distance from the middle; mm
    waist: float  # narrowest width of a body as a share of its endplates
    dish: float  # depth of the hollow of an endplate
    process: float  # length of the processes relative to the average
    density: float  # of all bone, 1 is the average


def draw_spine_dimensions(rng: np.random.Generator) -> SpineDimensions:
    """Sizes and standing posture of one person; lengths scale with a body size common to all of them."""
    size = float(np.clip(rng.normal(0.97, 0.09), 0.78, 1.16))
    widths, depths, heights, discs = along_levels(_SIZES).T
    slender, tall, disc = (float(np.clip(rng.normal(1, spread), 0.8, 1.2)) for spread in (0.06, 0.05, 0.12))
    upper = widths * size * slender
    below = np.append(upper[1:], 1.03 * upper[-1])
    kyphosis, lordosis = rng.uniform(0.45, 1.3), rng.uniform(0.55, 1.3)
    is_lumbar = np.arange(len(LEVELS)) > LEVELS.index("T12")
    half_width, half_height, offset = along_levels(_PEDICLES).T
    return SpineDimensions(
        size=size,
        girth=float(np.clip(rng.normal(0.98, 0.10), 0.8, 1.25)),
        upper_widths=upper,
        lower_widths=0.25 * upper + 0.75 * below,
        depths=depths * size * slender,
        heights=heights * size * tall,
        discs=discs * size * disc,
        leans=along_levels(_LEANS) * np.where(is_lumbar, lordosis, kyphosis),
        sacral_lean=float(36 * lordosis),
        pedicles=np.column_stack([half_width * size, half_height * size, offset * upper / 2]),
        waist=float(rng.uniform(0.84, 0.93)),
        dish=float(rng.uniform(0.8, 2.2)) * size,
        process=float(rng.uniform(0.8, 1.2)) * size,
        density=float(rng.uniform(0.8, 1.3)),
    )
