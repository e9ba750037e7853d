"""What became of the vertebrae of one image: on their level, on another, missed, or made up.

Lengths are those of `Frame.to_physical`: millimetres, or pixels where the spacing is unknown; voxels need not be cubes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..inference.level_notes import DOUBT
from ..inference.levels import level_rows
from ..landmarks import LandmarkSchema
from .outcome import Outcome

NOWHERE = -1
"""The place of a level that was not found, or that lies on no level of the truth."""


@dataclass(frozen=True, eq=False)
class LevelsInImage:
    """The L levels of a schema in one image.

    A level is in view where the truth holds any of its landmarks; what has no truth counts as out of view.

    Attributes:
        in_view: (L,) whether the truth holds any landmark of the level.
        whole: (L,) whether it holds all of them that the data set knows.
        out_of_view: (L,) whether the data set knows the level, and has none of its landmarks in this image.
        found: (L,) whether any landmark of the level was found.
        places: (L,) the level of the truth on which each level that was found lies, or `NOWHERE`.
        noted: whether a note of the detection says that the levels may be wrong.
        reviewed: (L,) whether all landmarks found of a level are to be reviewed.
    """

    in_view: np.ndarray
    whole: np.ndarray
    out_of_view: np.ndarray
    found: np.ndarray
    places: np.ndarray
    noted: bool
    reviewed: np.ndarray

    @cached_property
    def right(self) -> np.ndarray:
        """(L,) whether a level lies where it belongs."""
        return self.found & (self.places == np.arange(len(self.places)))

    @cached_property
    def missed(self) -> np.ndarray:
        """(L,) whether a level is in view and nothing of it was found."""
        return self.in_view & ~self.found

    @cached_property
    def invented(self) -> np.ndarray:
        """(L,) whether a level is out of view and something of it was found all the same."""
        return self.out_of_view & self.found

    @cached_property
    def misplaced(self) -> np.ndarray:
        """(L,) whether a level is in view, but was found on another vertebra, or on none."""
        return self.in_view & self.found & ~self.right

    @cached_property
    def wrong(self) -> np.ndarray:
        """(L,) whether a level is misplaced, or not in view and gives its name to a vertebra that has another."""
        return self.misplaced | (self.found & ~self.in_view & (self.places != NOWHERE))

    @cached_property
    def shift(self) -> int:
        """By how many levels the whole column is off: found as L3 and in truth L4 is +1; 0 where it is not so."""
        steps = (self.places - np.arange(len(self.places)))[self.wrong]
        on_levels = (self.places[self.wrong] != NOWHERE).all()
        return int(steps[0]) if len(steps) and on_levels and not self.right.any() and np.ptp(steps) == 0 else 0

    @property
    def flagged(self) -> bool:
        """Whether the user is told of wrong levels: by a note, or all their landmarks are to be reviewed."""
        return self.noted or bool(self.wrong.any() and self.reviewed[self.wrong].all())


def levels_in(outcome: Outcome, schema: LandmarkSchema, labelled: np.ndarray) -> LevelsInImage:
    """Compare the levels that were found in an image with its truth.

    A level lies on that level of the truth which is nearest to it (`distances`), if it is less than half a step away
    (`half_steps`).

    Args:
        outcome: with a detection.
        schema: with levels.
        labelled: (n,) whether the data set knows a landmark at all.
    """
    rows, landmarks = level_rows(schema), outcome.detection.landmarks
    truth = landmarks.frame.to_physical(outcome.truth)[rows]
    found = landmarks.physical()[rows]
    is_known, is_found = np.isfinite(truth).all(axis=-1), np.isfinite(found).all(axis=-1)
    to_review = np.array([status == "review" for status in landmarks.statuses])[rows]
    return LevelsInImage(
        in_view=is_known.any(axis=1),
        whole=is_known.any(axis=1) & (is_known | ~labelled[rows]).all(axis=1),
        out_of_view=labelled[rows].any(axis=1) & ~is_known.any(axis=1),
        found=is_found.any(axis=1),
        places=_places(found, truth),
        noted=any(DOUBT in note for note in outcome.detection.notes),
        reviewed=is_found.any(axis=1) & (to_review | ~is_found).all(axis=1),
    )


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(L, M) mean distance of like points of levels (L, P, d) and (M, P, d), NaN where a point is unknown.

    Only points known of both count, so that a vertebra cut off by the border of the image is compared with what is
    there of it. Where two levels have no such point, the distance of their middles; infinite where one has no point.
    """
    apart = np.linalg.norm(one[:, None] - other[None], axis=-1)
    shared = np.isfinite(apart)
    means = np.where(shared, apart, 0.0).sum(axis=-1) / np.maximum(shared.sum(axis=-1), 1)
    middles = np.linalg.norm(_middles(one)[:, None] - _middles(other)[None], axis=-1)
    return np.where(shared.any(axis=-1), means, np.where(np.isfinite(middles), middles, np.inf))


def half_steps(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(L,) half the distance from each level of the truth (L, P, d) to its nearer neighbour; 0 for unknown levels.

    Neighbours are the next levels known above and below; the distance to one that is not the very next is divided by
    the number of levels between. Half the extent of the vertebra stands in where no other level is known.
    """
    apart = distances(truth, truth)
    known = np.flatnonzero(np.isfinite(np.diagonal(apart)))
    halves = np.zeros(len(truth))
    for place, level in enumerate(known):
        beside = np.array([*known[max(place - 1, 0) : place], *known[place + 1 : place + 2]], dtype=int)
        if len(beside):
            halves[level] = (apart[level, beside] / np.abs(beside - level)).min() / 2
        else:
            halves[level] = (_extent(truth[level]) or _extent(found[level])) / 2
    return halves


def _places(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    apart = distances(found, truth)
    nearest = apart.argmin(axis=1)
    return np.where(apart.min(axis=1) < half_steps(truth, found)[nearest], nearest, NOWHERE)


def _middles(levels: np.ndarray) -> np.ndarray:
    """(L, d) means of the points known, NaN where there is none."""
    known = np.isfinite(levels).all(axis=-1, keepdims=True)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, levels, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _extent(points: np.ndarray) -> float:
    """The largest distance between two of the points (P, d) that are known; 0 with fewer than two."""
    known = points[np.isfinite(points).all(axis=-1)]
    return float(np.linalg.norm(known[:, None] - known[None], axis=-1).max(initial=0.0))
