"""How many vertebrae were given their level, missed or made up, over all images of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..inference.levels import level_rows
from ..landmarks import LandmarkSchema
from .coverage import share_interval
from .levels import NOWHERE, LevelsInImage, levels_in
from .outcome import Outcome


def level_figures(
    found: Sequence[Outcome], schema: LandmarkSchema, labelled: Sequence[bool] | None = None
) -> dict | None:
    """The content of ``levels`` in ``metrics.json``; None for schemas without levels.

    ``in_view``: vertebrae of which the truth holds any landmark, ``whole`` of them with all. Each is ``on_its_level``,
    ``on_another_level`` (``on_none`` of them on no vertebra of the truth at all) or ``missed``.
    ``out_of_view``: ``reported_absent`` or ``reported_present``; nothing is out of view on films of the whole column.
    ``images``: each is ``all_right``, ``missed_or_invented`` (what lies on a vertebra has its name, but something is
    missed or made up), ``shifted`` (the whole column by the same number of levels; ``shifts`` counts them by that
    number, which is +1 where L3 of the model is L4 in truth) or ``some_wrong``.
    ``wrong``: ``images`` shifted or with some wrong, and how many of them are ``flagged``; and of the ``other_images``,
    how many have a note all the same (``other_noted``).
    ``landmarks``: the same of single landmarks, of all levels.
    ``share`` is that on its level, or reported absent, with its 95 % interval over the images; None of none.

    Args:
        found: outcomes with a detection.
        labelled: (n,) whether the data set knows a landmark at all; None for all.
    """
    if not schema.levels:
        return None
    known = np.ones(len(schema.ids), dtype=bool) if labelled is None else np.asarray(labelled, dtype=bool)
    images = [levels_in(outcome, schema, known) for outcome in found]
    in_view, out_of_view, right, misplaced, reported = (
        np.stack([getattr(image, name) for image in images])
        for name in ("in_view", "out_of_view", "right", "misplaced", "found")
    )
    nowhere = np.stack([image.places == NOWHERE for image in images])
    return {
        "in_view": {
            "count": int(in_view.sum()),
            "whole": int(sum(image.whole.sum() for image in images)),
            "on_its_level": int(right.sum()),
            "on_another_level": int(misplaced.sum()),
            "on_none": int((misplaced & nowhere).sum()),
            "missed": int((in_view & ~reported).sum()),
            **_share(right, in_view),
        },
        "out_of_view": {
            "count": int(out_of_view.sum()),
            "reported_absent": int((out_of_view & ~reported).sum()),
            "reported_present": int((out_of_view & reported).sum()),
            **_share(~reported, out_of_view),
        },
        **_image_figures(images),
        "landmarks": _landmark_figures(found, schema, known),
    }


def _share(hits: np.ndarray, counted: np.ndarray) -> dict:
    """Share of the hits (m, L) among those counted (m, L), and its interval; whole images are drawn."""
    if not counted.any():
        return {"share": None, "ci95": None}
    return {"share": float(hits[counted].mean()), "ci95": share_interval(np.where(counted, hits, np.nan))}


def _image_figures(images: Sequence[LevelsInImage]) -> dict:
    kinds = Counter(_kind(image) for image in images)
    wrong = [image for image in images if image.wrong.any()]
    others = [image for image in images if not image.wrong.any()]
    shifts = Counter(image.shift for image in wrong if image.shift)
    return {
        "images": {kind: kinds[kind] for kind in ("all_right", "missed_or_invented", "shifted", "some_wrong")},
        "shifts": {f"{shift:+d}": shifts[shift] for shift in sorted(shifts)},
        "wrong": {
            "images": len(wrong),
            "flagged": sum(image.flagged for image in wrong),
            "other_images": len(others),
            "other_noted": sum(image.noted for image in others),
        },
    }


def _kind(image: LevelsInImage) -> str:
    if image.wrong.any():
        return "shifted" if image.shift else "some_wrong"
    return "missed_or_invented" if image.missed.any() or image.invented.any() else "all_right"


def _landmark_figures(found: Sequence[Outcome], schema: LandmarkSchema, known: np.ndarray) -> dict:
    rows = level_rows(schema).ravel()
    rows = rows[known[rows]]
    there = np.stack([np.isfinite(o.truth[rows]).all(axis=-1) for o in found])
    absent = ~np.stack([np.isfinite(o.detection.landmarks.positions[rows]).all(axis=-1) for o in found])
    return {
        "in_view": int(there.sum()),
        "in_view_reported_absent": int((there & absent).sum()),
        "out_of_view": int((~there).sum()),
        "out_of_view_reported_absent": int((~there & absent).sum()),
    }
