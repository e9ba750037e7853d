"""Which vertebra is which: all candidates and all levels together, as a chain.

A hidden Markov model along the column. Its states are pairs of level and candidate; what is observed is whether there
is a vertebra, which level it looks like, and, where the user has set points, how near its corners are to them. One
vertebra follows the other where its upper endplate faces the lower one of the vertebra above. The most probable chain
(Viterbi) names the vertebrae, the forward-backward sums say how sure that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

_IMPOSSIBLE = -1e9


class Vertebrae(Protocol):
    """Candidates (V of them) in a film or a volume; the last coordinate runs down the column.

    `presence` (V,) probability, `levels` (V, L) log-probabilities, `corners` (V, k, d), `centres`, `upper` and `lower`
    (V, d) middles of the body and its endplates, and `heights` (V,) between these.
    """

    presence: np.ndarray
    levels: np.ndarray
    corners: np.ndarray

    @property
    def centres(self) -> np.ndarray: ...

    @property
    def upper(self) -> np.ndarray: ...

    @property
    def lower(self) -> np.ndarray: ...

    @property
    def heights(self) -> np.ndarray: ...


@dataclass(frozen=True)
class ChainWeights:
    """What a chain is judged by, in logarithms of probability.

    Attributes:
        presence: probability of a centre at which a candidate neither gains nor costs anything.
        level: share of the level channel's log-probability that counts, since neighbors err together.
        gap, gap_deviation: distance between facing endplates and its standard deviation, in heights of a vertebra.
        size_deviation: standard deviation of the logarithm of a height against that of the vertebra above.
        skip: cost of a level between two vertebrae at which none is seen.
        missing: cost of a level beyond the ends at which none is seen although the film goes on.
        passed: probability of a centre from which a candidate beyond the ends, passed over, costs something.
        above, below: film beyond the first and the last level, in levels, as films of the spine are usually cut; their
            standard deviation is `cut_deviation`, and `cut` the most that another cut costs.
        near: standard deviation of a corner about a point of the user, in heights.
        contradiction: the most that a point of the user can gain.
    """

    presence: float = 0.015
    level: float = 0.25
    gap: float = 0.25
    gap_deviation: float = 0.45
    size_deviation: float = inf
    skip: float = 4.0
    missing: float = 2.45
    passed: float = 0.12
    above: float = 0.62
    below: float = 1.12
    cut_deviation: float = 0.5
    cut: float = 3.0
    near: float = 0.35
    contradiction: float = 25.0


@dataclass(frozen=True, eq=False)
class Chain:
    """Candidate of each level (-1 where none), the probabilities (L, V) of all pairs, and the chain's own logarithm."""

    members: np.ndarray
    marginals: np.ndarray
    score: float = 0.0

    @property
    def probability(self) -> float:
        """How sure the levels are: the mean probability of the chosen pairs."""
        rows = np.flatnonzero(self.members >= 0)
        return float(self.marginals[rows, self.members[rows]].mean()) if len(rows) else 0.0


@dataclass(frozen=True)
class Told:
    """A corner that the user set: level, number of the corner, place (d,), and the most that meeting it gains."""

    level: int
    corner: int
    place: np.ndarray
    most: float


def link(vertebrae: Vertebrae, told: Sequence[Told], top: float, bottom: float, weights: ChainWeights) -> Chain:
    """The chain of levels.

    Args:
        vertebrae: candidates.
        told: what is known from elsewhere.
        top, bottom: first and last row of the image, in the coordinates of the candidates.
    """
    count, levels = len(vertebrae.presence), vertebrae.levels.shape[1]
    if not count:
        return Chain(np.full(levels, -1), np.zeros((levels, 0)))
    unary = unaries(vertebrae, told, weights)
    follow, skip = transitions(vertebrae, weights)
    first, last = ends(vertebrae, levels, top, bottom, weights)
    forward = np.full((levels, count), _IMPOSSIBLE)
    score, origin = forward.copy(), np.full((levels, count), -1)
    for level in range(levels):
        begin = first[level] + unary[level]
        sums, options, sources = [begin], [begin], [np.full(count, -1)]
        for step, cost in ((1, follow), (2, skip)):
            if level >= step:
                sums.append(logsumexp(forward[level - step][:, None] + cost, axis=0) + unary[level])
                through = score[level - step][:, None] + cost
                options.append(through.max(axis=0) + unary[level])
                sources.append(through.argmax(axis=0) + count * step)
        forward[level] = logsumexp(sums, axis=0)
        best = np.argmax(options, axis=0)
        score[level] = np.max(options, axis=0)
        origin[level] = np.array(sources)[best, np.arange(count)]
    backward = last.copy()
    for level in range(levels - 2, -1, -1):
        parts = [last[level]]
        for step, cost in ((1, follow), (2, skip)):
            if level + step < levels:
                after = backward[level + step] + unary[level + step]
                parts.append(logsumexp(cost + after[None], axis=1))
        backward[level] = logsumexp(parts, axis=0)
    marginals = np.exp(forward + backward - logsumexp(forward + last))
    return Chain(traced(score + last, origin, count), marginals, float((score + last).max()))


def traced(final: np.ndarray, origin: np.ndarray, count: int) -> np.ndarray:
    """Candidate of each level along the best path."""
    members = np.full(len(final), -1)
    level, at = np.unravel_index(np.argmax(final), final.shape)
    while True:
        members[level] = at
        source = origin[level, at]
        if source < 0:
            return members
        level, at = level - source // count, source % count


def gained(chain: Chain, vertebrae: Vertebrae, told: Sequence[Told], weights: ChainWeights) -> float:
    """The part of a chain's score that it owes to what was told."""
    return sum(
        float(gain(vertebrae, point, weights)[chain.members[point.level]])
        for point in told
        if chain.members[point.level] >= 0
    )


def gain(vertebrae: Vertebrae, point: Told, weights: ChainWeights) -> np.ndarray:
    """(V,) what each candidate gains at the level of a point that is told.

    A gain, not a cost: a level must not be left out to escape a point that fits nowhere.
    """
    apart = np.linalg.norm(vertebrae.corners[:, point.corner] - point.place, axis=1)
    return np.maximum(point.most - 0.5 * (apart / (weights.near * np.maximum(vertebrae.heights, 1e-3))) ** 2, 0.0)


def unaries(vertebrae: Vertebrae, told: Sequence[Told], weights: ChainWeights) -> np.ndarray:
    """(L, V) of each level at each candidate."""
    presence = np.log(np.maximum(vertebrae.presence, 1e-4) / weights.presence)
    unary = presence[None] + weights.level * vertebrae.levels.T
    for point in told:
        unary[point.level] += gain(vertebrae, point, weights)
    return unary


def transitions(vertebrae: Vertebrae, weights: ChainWeights) -> tuple[np.ndarray, np.ndarray]:
    """(V, V) log-weights of the second candidate following the first, directly and with one level between."""
    upper, lower = vertebrae.upper, vertebrae.lower
    axis = lower - upper
    axis = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-3)
    between = upper[None] - lower[:, None]
    direction = axis[:, None] + axis[None]
    direction = direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-3)
    heights = np.maximum(vertebrae.heights, 1e-3)
    height = (heights[:, None] + heights[None]) / 2
    uneven = 0.5 * (np.log(heights[:, None] / heights[None]) / weights.size_deviation) ** 2
    costs = []
    for wanted, deviation, extra in (
        (weights.gap, weights.gap_deviation, 0.0),
        (1 + 2 * weights.gap, 2 * weights.gap_deviation, weights.skip),
    ):
        apart = np.linalg.norm(between - wanted * height[..., None] * direction, axis=-1) / height
        cost = np.maximum(-0.5 * (apart / deviation) ** 2 - uneven, -40.0) - extra
        upwards = (between * direction).sum(axis=-1) < -height
        cost[upwards | np.eye(len(cost), dtype=bool)] = _IMPOSSIBLE
        costs.append(cost)
    return costs[0], costs[1]


def ends(
    vertebrae: Vertebrae, levels: int, top: float, bottom: float, weights: ChainWeights
) -> tuple[np.ndarray, np.ndarray]:
    """(L, V) log-weights of a chain that begins, and of one that ends, with a level at a candidate.

    Levels that are missing cost something as far as the film has room for them, and so does a whole column that lies
    unusually in the film, or that leaves out what looks like a vertebra.
    """
    step = np.maximum((1 + weights.gap) * vertebrae.heights, 1e-3)
    above = np.maximum(0.0, (vertebrae.upper[:, -1] - top) / step)
    below = np.maximum(0.0, (bottom - vertebrae.lower[:, -1]) / step)
    level = np.arange(levels)[:, None]
    over = np.maximum(np.log(np.maximum(vertebrae.presence, 1e-4) / weights.passed), 0.0)
    height = vertebrae.centres[:, -1]
    higher = height[None] < height[:, None] - 0.5 * step[:, None]
    lower = height[None] > height[:, None] + 0.5 * step[:, None]
    first = -weights.missing * np.minimum(level, np.floor(above)) - higher @ over
    last = -weights.missing * np.minimum(levels - 1 - level, np.floor(below)) - lower @ over
    for cost, room, usual in ((first[0], above, weights.above), (last[-1], below, weights.below)):
        cost -= np.minimum(0.5 * ((room - usual) / weights.cut_deviation) ** 2, weights.cut)
    return first, last


def completed(members: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (L, 4, 2) of every level, and which levels (L,) were seen.

    A level between two others lies halfway; beyond the ends the column goes on in a straight line. All NaN where fewer
    than two levels were seen.
    """
    seen = members >= 0
    quads = np.full((len(members), *corners.shape[1:]), np.nan)
    quads[seen] = corners[members[seen]]
    rows = np.flatnonzero(seen)
    if len(rows) < 2:
        return quads, seen
    for row in np.flatnonzero(~seen[: rows[-1] + 1]):
        if row > rows[0]:
            quads[row] = (quads[row - 1] + quads[rows[rows > row][0]]) / 2
    for row in range(rows[0] - 1, -1, -1):
        quads[row] = 2 * quads[row + 1] - quads[row + 2]
    for row in range(rows[-1] + 1, len(members)):
        quads[row] = 2 * quads[row - 1] - quads[row - 2]
    return quads, seen


def level_doubt(chain: Chain, vertebrae: Vertebrae) -> np.ndarray:
    """(L,) expected distance in cells from each chosen vertebra to the one that the level really is; 0 where none."""
    if not len(vertebrae.presence):
        return np.zeros(len(chain.members))
    chosen = vertebrae.centres[chain.members]
    apart = np.linalg.norm(vertebrae.centres[None] - chosen[:, None], axis=-1)
    share = chain.marginals / np.maximum(chain.marginals.sum(axis=1, keepdims=True), 1e-9)
    return np.where(chain.members >= 0, (share * apart).sum(axis=1), 0.0)


def shift_probability(chain: Chain) -> float:
    """Probability that all levels are one too high or one too low."""
    rows = np.flatnonzero(chain.members >= 0)
    total = 0.0
    for step in (-1, 1):
        pairs = [(row, chain.members[row + step]) for row in rows if row + step in rows]
        total += float(np.mean([chain.marginals[pair] for pair in pairs])) if pairs else 0.0
    return total
