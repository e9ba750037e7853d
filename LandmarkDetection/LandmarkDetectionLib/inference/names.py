"""Vertebrae that the user has named, wherever they lie in the column, and what is then expected of the others.

Names are a list along the column: where one of them is put elsewhere in it, those between move up by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .chain import ChainWeights, Told, Vertebrae, gains


def reach(weights: ChainWeights) -> float:
    """Half the distance between levels, in heights of a vertebra: nearer to a corner, a point is on that vertebra."""
    return (1 + weights.gap) / 2


def claimed(vertebrae: Vertebrae, points: Sequence[Told], weights: ChainWeights) -> dict[int, int]:
    """The candidate of each level that has points on one.

    A vertebra has one name and a name one vertebra: where points say otherwise, those that lie nearer decide.

    Args:
        points: of the user; what they say they gain is not heeded.
    """
    most = 0.5 * (reach(weights) / weights.near) ** 2
    points = [replace(point, most=most) for point in points]
    scores = np.zeros((vertebrae.levels.shape[1], len(vertebrae.presence)))
    np.add.at(scores, [point.level for point in points], gains(vertebrae, points, weights))
    found = {}
    while scores.max(initial=0.0) > 0:
        level, at = np.unravel_index(scores.argmax(), scores.shape)
        found[int(level)] = int(at)
        scores[level], scores[:, at] = 0.0, 0.0
    return found


def left(
    vertebrae: Vertebrae, quads: np.ndarray, given: Mapping[int, int], weights: ChainWeights
) -> dict[int, int]:
    """For each level that was not given a vertebra, the level at whose old place it is now to be expected.

    Args:
        quads: (L, k, d) where all levels were expected, NaN where unknown.
        given: of `claimed`.
    """
    levels, gone = range(len(quads)), set()
    with_some = np.isfinite(quads).all(axis=2).any(axis=1)
    for level, at in given.items():
        apart = np.full(len(quads), np.inf)
        apart[with_some] = np.nanmean(np.linalg.norm(quads[with_some] - vertebrae.corners[at], axis=2), axis=1)
        apart[level] = np.inf
        holder = int(apart.argmin())
        gone.add(holder if apart[holder] < reach(weights) * vertebrae.heights[at] else level)
    return dict(zip((k for k in levels if k not in given), (k for k in levels if k not in gone), strict=False))
