"""What a user should know about the levels of a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..landmarks import LandmarkSchema
from .chain import Chain, shift_probability

DOUBT = "levels may be off by one"
"""Part of every note that says that the levels are in doubt."""

_SHIFT_WORTH_SAYING = 0.1  # probability


def level_notes(chain: Chain, statuses: Sequence[str], rows: np.ndarray, schema: LandmarkSchema) -> tuple[str, ...]:
    """Sentences on levels in doubt, and on those that are not in the image.

    Args:
        statuses: of all landmarks.
        rows: (L, P) of the landmarks of each level.
    """
    notes = []
    shift = shift_probability(chain)
    if shift > _SHIFT_WORTH_SAYING:
        notes.append(
            f"The {DOUBT} (probability {100 * shift:.0f} %): check the last rib and the sacrum, "
            "and drag any corner onto the neighboring vertebra to move all levels."
        )
    absent = np.array([status == "absent" for status in statuses])[rows].all(axis=1)
    names = [ids[0].split("_")[0] for ids in schema.levels]
    seen = np.flatnonzero(~absent)
    between = [names[level] for level in range(*seen[[0, -1]]) if absent[level]] if len(seen) else []
    if between:
        notes.append(
            f"No vertebra was found at {', '.join(between)} although there are some above and below: the {DOUBT} "
            "or more; check them all."
        )
    if absent.any():
        names = [name for name, gone in zip(names, absent, strict=True) if gone]
        notes.append(f"Not in the image: {', '.join(names)}.")
    return tuple(notes)
