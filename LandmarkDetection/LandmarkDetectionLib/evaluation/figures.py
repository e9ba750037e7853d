"""The outcomes of an evaluation as the figures of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSchema
from . import metrics
from .certainty_figures import certainty_figures
from .click_figures import click_figures
from .label_order import descends, names_vertebrae
from .level_figures import level_figures
from .outcome import Outcome
from .protocols import Protocol


def figures(
    outcomes: Sequence[Outcome], schema: LandmarkSchema, rules: Protocol, labelled: Sequence[bool] | None = None
) -> dict:
    """The content of ``metrics.json``; a figure that cannot be computed, or makes no sense for the schema, is null.

    Errors count a landmark that was wrongly declared absent as lying in the middle of its image (`metrics.placed`);
    ``missed`` is the number of those, and ``radial_error_found_px`` leaves them out. Labels are taken as they are:
    ``labels_out_of_order`` names the films on which a vertebra does not lie below the one named before it, and
    ``in_order`` holds the error, level and click figures without those films.

    A volume need not show everything: ``present_found`` is the share of the landmarks in view that were found, and
    ``absent_reported`` the share of those out of view that were declared absent; null for films. Lengths of the click
    figures are in ``clicks_unit``: pixels, or mm for volumes. ``levels`` counts vertebrae (`level_figures`).

    Args:
        labelled: (n,) whether the data set knows a landmark at all; where it does not, no place means nothing.

    Raises:
        LandmarkDetectionError: every image was refused.
    """
    found = [outcome for outcome in outcomes if outcome.detection is not None]
    if not found:
        raise LandmarkDetectionError(
            f"None of the {len(outcomes)} images could be used; the first was refused because: {outcomes[0].refusal}"
        )
    sides = [o.detection.side == o.case.side for o in found if None not in (o.case.side, o.detection.side)]
    errors = np.stack([o.errors for o in found])
    missed = np.stack([o.missed for o in found])
    return {
        "images": len(outcomes),
        "refused": len(outcomes) - len(found),
        "missed": int(missed.sum()),
        **_presence_figures(found, schema, labelled),
        "levels": level_figures(found, schema, labelled),
        "refusal": _refusal_figures(outcomes, found),
        "side_accuracy": float(np.mean(sides)) if sides else None,
        **_error_figures(found, schema),
        "radial_error_found_px": metrics.summary(np.where(missed, np.nan, errors)),
        "pck_bone": _bone_pck(found, schema),
        "by_landmark_px": {
            id: metrics.summary(errors[:, [k]]) for k, id in enumerate(schema.ids) if np.isfinite(errors[:, k]).any()
        },
        **_by_landmark_mm(found, schema),
        **_click_figures(found, rules),
        "clicks_unit": clicks_unit(found),
        **_order_figures(found, schema, rules, labelled),
        **certainty_figures(found, schema),
    }


def _refusal_figures(outcomes: Sequence[Outcome], found: Sequence[Outcome]) -> dict:
    """How many images were refused, and the scores by which they were, or were not.

    ``fitness`` holds the lowest score and the median of the images accepted, ``refused_fitness`` those of the images
    that do not show what the model was made for; null where no score was told. A file that is no image has none.
    """
    accepted, refused = (
        [float(o.score) for o in outcomes if o.score is not None and (o.detection is not None) == kept]
        for kept in (True, False)
    )
    return {
        "refused": len(outcomes) - len(found),
        "fitness": {"lowest": min(accepted), "median": float(np.median(accepted))} if accepted else None,
        "refused_fitness": sorted(refused),
    }


def _presence_figures(found: Sequence[Outcome], schema: LandmarkSchema, labelled: Sequence[bool] | None) -> dict:
    figures: dict = {"present_found": None, "absent_reported": None}
    if schema.dims == 2:
        return figures
    known = np.ones(len(schema.ids), dtype=bool) if labelled is None else np.asarray(labelled, dtype=bool)
    there = np.stack([np.isfinite(o.truth).all(-1) for o in found])[:, known]
    seen = np.stack([np.isfinite(o.detection.landmarks.positions).all(-1) for o in found])[:, known]
    if there.any():
        figures["present_found"] = float(seen[there].mean())
    if not there.all():
        figures["absent_reported"] = float((~seen[~there]).mean())
    return figures


def _by_landmark_mm(found: Sequence[Outcome], schema: LandmarkSchema) -> dict:
    """Of volumes, which seldom have voxels of one size."""
    millimetres = _millimetres(found) if schema.dims == 3 else None
    if millimetres is None:
        return {}
    known = np.isfinite(millimetres).any(axis=0)
    return {
        "by_landmark_mm": {id: metrics.summary(millimetres[:, [k]]) for k, id in enumerate(schema.ids) if known[k]}
    }


def clicks_unit(found: Sequence[Outcome]) -> str:
    """Unit in which corrections are scored: pixels of films, millimeters in volumes."""
    return "px" if found[0].detection.landmarks.frame.dims == 2 else "mm"


def _error_figures(found: Sequence[Outcome], schema: LandmarkSchema) -> dict:
    truth, positions = np.stack([o.truth for o in found]), np.stack([o.positions for o in found])
    pixels = np.stack([o.errors for o in found])
    percent = [o.height_percent_errors for o in found if o.height_percent_errors is not None]
    millimetres = _millimetres(found)
    return {
        "radial_error_px": metrics.summary(pixels),
        "radial_error_normal_px": metrics.summary(metrics.normal_errors(positions, truth, _chains(schema))),
        "radial_error_height_percent": metrics.summary(np.stack(percent)) if percent else None,
        "radial_error_mm": None if millimetres is None else metrics.summary(millimetres),
        "within_px": metrics.within(pixels, metrics.WITHIN_PIXELS),
        "within_mm": None if millimetres is None else metrics.within(millimetres, metrics.WITHIN_MILLIMETRES),
    }


def _chains(schema: LandmarkSchema) -> list[list[int]]:
    return [[schema.index(id) for id in chain] for chain in schema.chains.values()]


def _millimetres(found: Sequence[Outcome]) -> np.ndarray | None:
    """(m, n) errors of the images whose spacing is known."""
    known = [o.millimetre_errors for o in found if o.millimetre_errors is not None]
    return np.stack(known) if known else None


def _bone_pck(found: Sequence[Outcome], schema: LandmarkSchema) -> dict | None:
    """KNEEL's figure, which is one of the bones of a knee."""
    if not schema.name.startswith("knee") or schema.dims == 3:
        return None
    bones, millimetres = dict(zip(schema.chains, _chains(schema), strict=True)), _millimetres(found)
    if millimetres is None:
        return metrics.bone_pck(np.stack([o.errors for o in found]), bones, "px")
    return metrics.bone_pck(millimetres, bones, "mm")


def _click_figures(found: Sequence[Outcome], rules: Protocol) -> dict:
    films = [o for o in found if o.corrections is not None]
    return click_figures([o.corrections for o in films], [o.manual for o in films], rules)


def _order_figures(
    found: Sequence[Outcome], schema: LandmarkSchema, rules: Protocol, labelled: Sequence[bool] | None
) -> dict:
    if not names_vertebrae(schema):
        return {"labels_out_of_order": None, "in_order": None}
    ordered = [o for o in found if descends(o.truth, schema)]
    strange = [o.case.name for o in found if not descends(o.truth, schema)]
    if not ordered:
        return {"labels_out_of_order": strange, "in_order": None}
    inner = {
        "images": len(ordered),
        "levels": level_figures(ordered, schema, labelled),
        **_error_figures(ordered, schema),
        **_click_figures(ordered, rules),
    }
    return {"labels_out_of_order": strange, "in_order": inner}
