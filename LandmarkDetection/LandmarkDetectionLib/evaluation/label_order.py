"""Spine labels whose vertebrae do not follow one another down the film: an error of the annotation, not of a model."""

from __future__ import annotations

import re

import numpy as np

from ..landmarks import LandmarkSchema

_VERTEBRA = re.compile(r"([CTLS]\d+)_")


def names_vertebrae(schema: LandmarkSchema) -> bool:
    """Whether the landmarks lie on several vertebrae, listed from the upper to the lower (``T1_TL``, ... ``L5_BR``)."""
    return schema.dims == 2 and len(set(_levels(schema))) > 1


def descends(truth: np.ndarray, schema: LandmarkSchema) -> bool:
    """Whether the middle of every vertebra with a complete label lies below that of the one named before it.

    Args:
        truth: (n, 2) index coordinates, y down, NaN where unknown; `names_vertebrae` holds for the schema.
    """
    levels = _levels(schema)
    rows = {level: [k for k, name in enumerate(levels) if name == level] for level in dict.fromkeys(levels) if level}
    middles = np.array([truth[members, 1].mean() for members in rows.values()])
    return bool((np.diff(middles[np.isfinite(middles)]) > 0).all())


def _levels(schema: LandmarkSchema) -> list[str]:
    """The vertebra of each landmark, "" for those of none."""
    found = [_VERTEBRA.match(id) for id in schema.ids]
    return [match[1] if match else "" for match in found]
