"""Scoliosis: curves of given Cobb angles as the tilt and the axial rotation of every vertebra.

The Cobb angle of a curve is the angle, on the film, between the upper endplate of its upper end vertebra and the lower
endplate of its lower end vertebra (Cobb 1948). Tilts are degrees in the film's plane, positive where the image's right
side is lower; they are extreme, and the vertebra is not wedged, at the end vertebrae.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from .spine_dimensions import LANDMARK_LEVELS, LEVELS

WEDGE_SHARE = 0.4  # of the bend between neighbours that lies in the bodies; the discs take the rest
ROTATION = 1.5  # degrees about the long axis for each degree of tilt between neighbours
MOST_DEGREES = 90.0


@dataclass(frozen=True)
class Curve:
    """One curve: end vertebrae, Cobb angle (degrees) and the side of the image to which it bulges."""

    upper: str
    lower: str
    degrees: float
    convex: Literal["left", "right"]

    @property
    def sign(self) -> int:
        return 1 if self.convex == "right" else -1


@dataclass(frozen=True)
class Bend:
    """Tilt, wedge (upper against lower endplate) and axial rotation of each level of `LEVELS`; degrees."""

    tilts: np.ndarray
    wedges: np.ndarray
    rotations: np.ndarray
    sacral_tilt: float


def check_curves(curves: Sequence[Curve]) -> None:
    """Raise ValueError unless the curves run from the head down, bend in turns and stay under `MOST_DEGREES`."""
    end = 0
    for number, curve in enumerate(curves):
        for level in (curve.upper, curve.lower):
            if level not in LANDMARK_LEVELS:
                raise ValueError(f"A curve cannot end at {level!r}; use a level from T1 to L5.")
        upper, lower = LANDMARK_LEVELS.index(curve.upper), LANDMARK_LEVELS.index(curve.lower)
        if upper < end or lower < upper + 2:
            raise ValueError(f"Curve {curve.upper}-{curve.lower} must span 3 levels and start where the last one ends.")
        if not 0 < curve.degrees <= MOST_DEGREES or curve.convex not in ("left", "right"):
            raise ValueError(f"A Cobb angle must be above 0 and at most {MOST_DEGREES:.0f}, convex to left or right.")
        if number and curve.convex == curves[number - 1].convex:
            raise ValueError("Neighboring curves must bulge to opposite sides of the image.")
        end = lower


def bend(curves: Sequence[Curve], heights: np.ndarray) -> Bend:
    """The tilts that realise the curves, leaned so that the uppermost level stands above the sacrum.

    Args:
        curves: from the head down, see `check_curves`.
        heights: (22,) way from each level to the next (mm), for the balance.

    Raises:
        ValueError: where the curves contradict each other.
    """
    check_curves(curves)
    if not curves:
        zero = np.zeros(len(LEVELS))
        return Bend(zero, zero, zero, 0.0)
    first = curves[0]
    profiles = [_profile(curves, -first.sign * share * first.degrees) for share in np.linspace(0.3, 0.7, 41)]
    index = np.arange(len(LEVELS))
    shifts = [abs(np.sum(heights * np.sin(np.radians(profile(index))))) for profile in profiles]
    best = profiles[int(np.argmin(shifts))]
    slopes = best.derivative()(index)
    return Bend(best(index), WEDGE_SHARE * slopes, ROTATION * slopes, float(best(len(LEVELS))))


def _profile(curves: Sequence[Curve], start: float) -> PchipInterpolator:
    """Tilt over the level where the upper end vertebra of the first curve is tilted by `start` degrees.

    The interpolation of Fritsch and Carlson (1980) is monotone between its knots and level at their extremes.
    """
    knots = {LEVELS.index(curves[0].upper): start}
    tilt = start
    for curve in curves:
        knots[LEVELS.index(curve.upper)] = tilt
        tilt = tilt + curve.sign * curve.degrees
        knots[LEVELS.index(curve.lower)] = tilt
    knots[-1], knots[len(LEVELS)] = 0.1 * start, 0.12 * tilt
    return PchipInterpolator(sorted(knots), [knots[key] for key in sorted(knots)])


def draw_curves(rng: np.random.Generator) -> tuple[Curve, ...]:
    """A spine as scoliosis clinics see it: straight, one curve, or two or three that take turns."""
    kind = rng.choice(["straight", "thoracic", "thoracolumbar", "lumbar", "double", "triple"],
                      p=[0.12, 0.22, 0.18, 0.10, 0.28, 0.10])  # fmt: skip
    if kind == "straight":
        return ()
    ends = {
        "thoracic": [(int(rng.integers(3, 6)), int(rng.integers(10, 13)))],
        "thoracolumbar": [(int(rng.integers(7, 10)), int(rng.integers(13, 15)))],
        "lumbar": [(int(rng.integers(10, 12)), int(rng.integers(14, 16)))],
        "double": [(int(rng.integers(3, 6)), 10), (10, int(rng.integers(14, 16)))],
        "triple": [(0, 4), (4, int(rng.integers(9, 11)))],
    }[str(kind)]
    if kind == "triple":
        ends.append((ends[-1][1], int(rng.integers(14, 16))))
    if kind == "double":
        middle = int(rng.integers(9, 12))
        ends = [(ends[0][0], middle), (middle, ends[1][1])]
    largest = float(np.clip(np.exp(rng.normal(np.log(28), 0.5)), 8, 75))
    # A thoracic curve mostly bulges to the patient's right, the image's left.
    right = (rng.random() < 0.2) if kind in ("thoracic", "double") else (rng.random() < 0.5)
    curves = []
    for number, (upper, lower) in enumerate(ends):
        degrees = largest * (1.0 if number == len(ends) // 2 else rng.uniform(0.5, 0.95))
        convex = "right" if right == (number % 2 == 0) else "left"
        degrees = min(degrees, 11.0 * (lower - upper))
        curves.append(Curve(LANDMARK_LEVELS[upper], LANDMARK_LEVELS[lower], round(degrees, 1), convex))
    return tuple(curves)
