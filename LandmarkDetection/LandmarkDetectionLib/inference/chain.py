"""Which vertebra is which: all candidates and all levels together, as a chain.

A hidden Markov model along the column. Its states are pairs of level and candidate; what is observed is whether there
is a vertebra, which level it looks like, and, where the user has set points, how near its corners are to them. One
vertebra follows the other where its upper endplate faces the lower one of the vertebra above. The most probable chain
(Viterbi) names the vertebrae, the forward-backward sums say how sure that is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np

_IMPOSSIBLE = -1e9
_SAME = 0.5  # heights between the centers of two candidates below which they are one vertebra


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
    """Candidate of each level (-1 where none), the probabilities (L, V) of all pairs, and the chain's own logarithm.

    ``given`` are the levels that were given their candidate from outside and have no place in the order.
    """

    members: np.ndarray
    marginals: np.ndarray
    score: float = 0.0
    given: tuple[int, ...] = ()

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


def link(
    vertebrae: Vertebrae,
    told: Sequence[Told],
    top: float,
    bottom: float,
    weights: ChainWeights,
    given: Mapping[int, int] | None = None,
) -> Chain:
    """The chain of levels.

    Args:
        vertebrae: candidates.
        told: what is known from elsewhere.
        top, bottom: first and last row of the image, in the coordinates of the candidates.
        given: candidate of each level that is known to be it, whatever the order. The other levels follow each other
            as if there were no such level, and none of them gets such a candidate.
    """
    given = given or {}
    count, levels = len(vertebrae.presence), vertebrae.levels.shape[1]
    kept, named = np.setdiff1d(np.arange(levels), list(given)), list(given.values())
    taken = same_as(vertebrae, named)
    members, marginals, score = np.full(levels, -1), np.zeros((levels, count)), 0.0
    if len(kept) and count > len(taken):
        unary = unaries(vertebrae, told, weights)[kept]
        unary[:, taken] = _IMPOSSIBLE
        steps = transitions(vertebrae, weights)
        limits = ends(vertebrae, len(kept), top, bottom, weights, taken)
        follow, skip, first, last = walked_past(taken, *steps, *limits)
        over = weights.skip * passed(vertebrae, named)
        members[kept], marginals[kept], score = ordered(unary, follow - over, skip - over, first, last)
    for level, candidate in given.items():
        members[level], marginals[level, candidate] = candidate, 1.0
    return Chain(members, marginals, score, tuple(sorted(given)))


def ordered(
    unary: np.ndarray, follow: np.ndarray, skip: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Members (L,) and score of the best chain, and marginals (L, V) over all chains.

    Args:
        unary: (L, V) of `unaries`; follow, skip: (V, V) of `transitions`; first, last: (L, V) of `ends`.
    """
    levels, count = unary.shape
    forward = np.full((levels, count), _IMPOSSIBLE)
    score, origin = forward.copy(), np.full((levels, count), -1)
    for level in range(levels):
        begin = first[level] + unary[level]
        sums, options, sources = [begin], [begin], [np.full(count, -1)]
        for step, cost in ((1, follow), (2, skip)):
            if level >= step:
                sums.append(log_sum(forward[level - step][:, None] + cost, axis=0) + unary[level])
                through = score[level - step][:, None] + cost
                options.append(through.max(axis=0) + unary[level])
                sources.append(through.argmax(axis=0) + count * step)
        forward[level] = log_sum(sums, axis=0)
        best = np.argmax(options, axis=0)
        score[level] = np.max(options, axis=0)
        origin[level] = np.array(sources)[best, np.arange(count)]
    backward = last.copy()
    for level in range(levels - 2, -1, -1):
        parts = [last[level]]
        for step, cost in ((1, follow), (2, skip)):
            if level + step < levels:
                after = backward[level + step] + unary[level + step]
                parts.append(log_sum(cost + after[None], axis=1))
        backward[level] = log_sum(parts, axis=0)
    marginals = np.exp(forward + backward - log_sum(forward + last))
    return traced(score + last, origin, count), marginals, float((score + last).max())


def log_sum(values: Sequence | np.ndarray, axis: int | None = None) -> np.ndarray:
    """Logarithm of the sum of exponentials of finite numbers; SciPy's takes ten times as long on arrays this small."""
    values = np.asarray(values)
    top = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis=axis)) + np.squeeze(top, axis=axis)


def same_as(vertebrae: Vertebrae, rows: Sequence[int]) -> np.ndarray:
    """The rows of some candidates and of all that are seen where one of them is: the same vertebra."""
    apart = np.linalg.norm(vertebrae.centres[:, None] - vertebrae.centres[rows], axis=-1)
    return np.flatnonzero((apart < _SAME * vertebrae.heights[rows]).any(axis=1))


def walked_past(
    taken: Collection[int], follow: np.ndarray, skip: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Log-weights of `transitions` and `ends` where a chain may also lead over candidates that are not its own."""
    for at in taken:
        to, onward = follow[:, [at]], follow[at]
        first, last = np.maximum(first, first[:, [at]] + onward), np.maximum(last, last[:, [at]] + to.T)
        skip = np.maximum(skip, np.maximum(to + skip[at], skip[:, [at]] + onward))
        follow = np.maximum(follow, to + onward)
    return follow, skip, first, last


def passed(vertebrae: Vertebrae, rows: Sequence[int]) -> np.ndarray:
    """(V, V) how many of some candidates lie below the one and above the other."""
    height = vertebrae.centres[:, -1]
    above, below = height[:, None] < height[rows], height[:, None] > height[rows]
    return (above[:, None] & below[None]).sum(axis=-1)


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
    members = chain.members[[point.level for point in told]]
    found = np.flatnonzero(members >= 0)
    return float(gains(vertebrae, told, weights)[found, members[found]].sum())


def gains(vertebrae: Vertebrae, told: Sequence[Told], weights: ChainWeights) -> np.ndarray:
    """(n, V) what each candidate gains at the levels of n points that are told.

    A gain, not a cost: a level must not be left out to escape a point that fits nowhere.
    """
    if not told:
        return np.zeros((0, len(vertebrae.presence)))
    places = vertebrae.corners[:, [point.corner for point in told]]
    apart = np.linalg.norm(places - np.array([point.place for point in told]), axis=-1).T
    most = np.array([point.most for point in told])[:, None]
    return np.maximum(most - 0.5 * (apart / (weights.near * np.maximum(vertebrae.heights, 1e-3))) ** 2, 0.0)


def unaries(vertebrae: Vertebrae, told: Sequence[Told], weights: ChainWeights) -> np.ndarray:
    """(L, V) of each level at each candidate."""
    presence = np.log(np.maximum(vertebrae.presence, 1e-4) / weights.presence)
    unary = presence[None] + weights.level * vertebrae.levels.T
    np.add.at(unary, [point.level for point in told], gains(vertebrae, told, weights))
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
    vertebrae: Vertebrae, levels: int, top: float, bottom: float, weights: ChainWeights, taken: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """(L, V) log-weights of a chain that begins, and of one that ends, with a level at a candidate.

    Levels that are missing cost something as far as the film has room for them, and so does a whole column that lies
    unusually in the film, or that leaves out what looks like a vertebra and is not `taken` by another name.
    """
    step = np.maximum((1 + weights.gap) * vertebrae.heights, 1e-3)
    above = np.maximum(0.0, (vertebrae.upper[:, -1] - top) / step)
    below = np.maximum(0.0, (bottom - vertebrae.lower[:, -1]) / step)
    level = np.arange(levels)[:, None]
    over = np.maximum(np.log(np.maximum(vertebrae.presence, 1e-4) / weights.passed), 0.0)
    over[list(taken)] = 0.0
    height = vertebrae.centres[:, -1]
    higher = height[None] < height[:, None] - 0.5 * step[:, None]
    lower = height[None] > height[:, None] + 0.5 * step[:, None]
    first = -weights.missing * np.minimum(level, np.floor(above)) - higher @ over
    last = -weights.missing * np.minimum(levels - 1 - level, np.floor(below)) - lower @ over
    for cost, room, usual in ((first[0], above, weights.above), (last[-1], below, weights.below)):
        cost -= np.minimum(0.5 * ((room - usual) / weights.cut_deviation) ** 2, weights.cut)
    return first, last


def completed(
    members: np.ndarray, corners: np.ndarray, given: Collection[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (L, 4, 2) of every level, and which levels (L,) were seen.

    A level between two others lies halfway; beyond the ends the column goes on in a straight line. All NaN where fewer
    than two levels were seen. Levels that were `given` their members are passed over.
    """
    seen = members >= 0
    quads = np.full((len(members), *corners.shape[1:]), np.nan)
    quads[seen] = corners[members[seen]]
    kept = np.setdiff1d(np.arange(len(members)), list(given))
    quads[kept] = continued(quads[kept], seen[kept])
    return quads, seen


def continued(quads: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Corners (L, 4, 2) with those of the levels that were not seen."""
    quads, rows = quads.copy(), np.flatnonzero(seen)
    if len(rows) < 2:
        return quads
    for row in np.flatnonzero(~seen[: rows[-1] + 1]):
        if row > rows[0]:
            quads[row] = (quads[row - 1] + quads[rows[rows > row][0]]) / 2
    for row in range(rows[0] - 1, -1, -1):
        quads[row] = 2 * quads[row + 1] - quads[row + 2]
    for row in range(rows[-1] + 1, len(quads)):
        quads[row] = 2 * quads[row - 1] - quads[row - 2]
    return quads


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
