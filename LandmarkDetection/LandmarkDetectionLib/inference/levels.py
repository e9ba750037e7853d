"""Levels of a column: when a corner is dropped where its neighbor's was, the whole chain is one level off."""

from __future__ import annotations

import numpy as np

from ..landmarks import LandmarkSchema

IN_DOUBT = 15.0
"""By how much the logarithm of probability may speak against a shift of levels that a drop calls for.

Chosen of 3, 8 and 15 by the errors after one to five corrections on every fourth training film of spines, out of fold.
"""

_NEAR = 0.5
"""Share of the distance to the next level within which a drop counts as a drop on it."""


def level_rows(schema: LandmarkSchema) -> np.ndarray:
    """(levels, points) rows of every level, from top to bottom; empty where the schema has none."""
    place = {id: row for row, id in enumerate(schema.ids)}
    return np.array([[place[id] for id in level] for level in schema.levels], dtype=int)


def extended(levels: np.ndarray) -> np.ndarray:
    """Positions (levels + 2, points, d): one level more at either end, continued along a straight line."""
    above, below = 2 * levels[0] - levels[1], 2 * levels[-1] - levels[-2]
    return np.concatenate([above[None], levels, below[None]])


def level_step(positions: np.ndarray, rows: np.ndarray, row: int, place: np.ndarray) -> tuple[int, float]:
    """Which level a landmark was dropped on, and how far from its own place.

    Args:
        positions: (n, d) isotropic, before the drop; NaN where absent.
        rows: of `level_rows`.
        row: of the landmark that was dropped at `place` (d,).
    Returns:
        -1, 0 or +1: levels up or down, 0 where it stays on its own or lies on none; and the distance from its own place
        in units of the distance between levels there (NaN where the landmark or its neighbors are absent).
    """
    level, corner = np.argwhere(rows == row)[0]
    line = extended(positions[rows])[:, corner]
    own, others = line[level + 1], line[[level, level + 2]]
    spacing = np.linalg.norm(others - own, axis=1)
    apart = np.linalg.norm(others - place, axis=1)
    # The greater of both: where two levels were found on one vertebra, the next one is not far from either.
    distance = float(np.linalg.norm(place - own) / np.nanmax(spacing)) if np.isfinite(spacing).any() else np.nan
    near = apart < _NEAR * spacing
    if not near.any():
        return 0, distance
    return (-1, 1)[int(np.nanargmin(np.where(near, apart, np.nan)))], distance


def shifted(positions: np.ndarray, rows: np.ndarray, step: int) -> np.ndarray:
    """Every level where the one `step` (-1 or +1) below was; the level that enters is continued along the column."""
    longer = extended(positions[rows])
    moved = positions.copy()
    moved[rows] = longer[1 + step : 1 + step + len(rows)]
    return moved


def renamed_row(rows: np.ndarray, row: int, step: int) -> int | None:
    """The row whose name a point of `row` takes when all labels move `step` levels down; None beyond the last level."""
    where = np.argwhere(rows == row)
    if not len(where):
        return row
    level, corner = where[0]
    return int(rows[level - step, corner]) if 0 <= level - step < len(rows) else None
