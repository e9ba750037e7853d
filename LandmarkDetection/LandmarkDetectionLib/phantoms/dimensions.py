"""Plain anatomical dimensions of a knee and how it stands, drawn from a seeded generator.

Means and spreads are round figures for adults (mm, degrees), chosen by hand and adjusted by eye until the films looked
like real ones; they are not measurements and not a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dimensions:
    """Sizes of one person's knee, mm."""

    plateau_width: float
    condyle_width: float
    lateral_dish: float
    medial_dish: float
    lateral_foot: float
    medial_foot: float
    lateral_spine: float
    medial_spine: float
    spine_gap: float
    valley: float  # height of the floor between the spines as a share of the lateral spine
    notch_width: float
    notch_height: float
    lateral_lift: float
    joint_space: float
    osteophyte: float
    fibula_drop: float
    fibula_head: float
    patella_width: float
    leg_width: float
    scar_density: float  # of the growth plate, as a share of compact bone


@dataclass(frozen=True)
class Stance:
    """Pose of one knee on the film; degrees and mm."""

    flexion: float
    slope: float
    tibia_tilt: float
    opening: float
    rotation: float
    slide: float
    patella_x: float
    patella_z: float


def _normal(rng: np.random.Generator, mean: float, spread: float, limit: float = 2.0) -> float:
    """A normal draw kept within `limit` spreads of its mean."""
    return float(mean + spread * np.clip(rng.standard_normal(), -limit, limit))


def draw_dimensions(rng: np.random.Generator) -> Dimensions:
    """Sizes of one person; lengths scale with a body size common to all of them."""
    size = _normal(rng, 1.0, 0.06)
    return Dimensions(
        plateau_width=75.0 * size,
        condyle_width=79.0 * size * _normal(rng, 1.0, 0.015),
        lateral_dish=_normal(rng, -0.6, 0.6),
        medial_dish=_normal(rng, -1.5, 0.6),
        lateral_foot=size * _normal(rng, 16.5, 1.2),
        medial_foot=size * _normal(rng, 13.5, 1.0),
        lateral_spine=size * _normal(rng, 8.2, 1.1),
        medial_spine=size * _normal(rng, 9.6, 1.2),
        spine_gap=size * _normal(rng, 12.0, 1.2),
        valley=_normal(rng, 0.84, 0.07),
        notch_width=size * _normal(rng, 20.0, 2.2),
        notch_height=size * _normal(rng, 14.5, 2.0),
        lateral_lift=_normal(rng, 0.5, 0.4),
        joint_space=_normal(rng, 3.4, 1.0),
        osteophyte=float(max(0.0, _normal(rng, 0.0, 1.6))),
        fibula_drop=size * _normal(rng, 14.0, 2.0),
        fibula_head=size * _normal(rng, 11.5, 1.0),
        patella_width=size * _normal(rng, 43.0, 2.5),
        leg_width=_normal(rng, 118.0, 11.0) * size,
        scar_density=float(rng.uniform(0.0, 0.09)),
    )


def draw_stance(rng: np.random.Generator, dimensions: Dimensions) -> Stance:
    """A standing knee: slightly bent, beam along the plateau within a few degrees, one compartment maybe narrowed."""
    room = np.degrees((dimensions.joint_space - 0.6) / (0.45 * dimensions.plateau_width))  # bones stay apart
    return Stance(
        flexion=float(rng.uniform(2, 24)),
        slope=_normal(rng, 0.0, 1.8),
        tibia_tilt=_normal(rng, 0.0, 2.0),
        opening=float(np.clip(_normal(rng, 0.5, 1.8), -room, room)),
        rotation=_normal(rng, 0.0, 3.0),
        slide=_normal(rng, 0.0, 1.2),
        patella_x=_normal(rng, -2.0, 4.0),
        patella_z=_normal(rng, 38.0, 6.0),
    )
