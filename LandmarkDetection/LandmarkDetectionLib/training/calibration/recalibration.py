"""Calibrates a bundle in place on labelled films: those of its own training out of fold, or those of a user."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import LandmarkDetectionError
from ...inference.bundle import MODEL_FILE, Bundle, Calibration
from ...inference.detection import Detection
from ...priors import ErrorModel
from ..column.films import sorted_vertebrae
from ..data.films import read_groups, read_labels
from .corrected_regions import correction_scales
from .evidence import Progress, detections, evidence, uncalibrated
from .figures import kept_out_figures
from .fitting import ERRONEOUS, LEVEL, Evidence, fit
from .steadying import best_scatter

COLUMNS = ("column", "volume_column")
"""Kinds of models whose landmarks may lie on the wrong level."""

STEADIED = ("joint",)
"""Kinds of models whose points the shape may steady: all are looked for on one grid, and all are in the image."""

ERRONEOUS_IN_VOLUMES = 0.03
"""Share of the size of a whole column (about 5 mm) beyond which a landmark of a volume counts as wrong."""

OTHER_LEVEL = 0.1
"""In a column, a landmark farther off than this share of the centroid size belongs to another level."""


@dataclass(frozen=True, eq=False)
class Part:
    """Films, and the bundle that speaks for them: the same model with those members only that have not seen them."""

    bundle: Bundle
    names: Sequence[str]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration and how errors go together, with the evidence for them and the figures of a cross-validation."""

    calibration: Calibration
    errors: ErrorModel | None
    evidence: Evidence
    figures: dict
    refused: int


def calibrated(
    parts: Sequence[Part],
    data: Path,
    progress: Progress = lambda done, total, name: None,
    learnt_from: Collection[str] | None = None,
) -> Calibrated:
    """Everything that labelled films decide.

    Args:
        learnt_from: subjects or studies from whose films it is learnt how errors go together; None leaves that as the
            bundles have it. Bundles without such a model learn none: no volume shows all landmarks.

    Raises:
        LandmarkDetectionError: no film can be used.
    """
    kind = parts[0].bundle.kind
    truths, groups = truths_of(data, kind), read_groups(data)
    reach = OTHER_LEVEL if kind in COLUMNS else np.inf
    wrong = ERRONEOUS_IN_VOLUMES if kind == "volume_column" else ERRONEOUS

    def look() -> Evidence:
        raw = [replace(part, bundle=uncalibrated(part.bundle)) for part in parts]
        return evidence(joined(raw, data, progress), truths, groups, own_spread=kind == "column")

    learns_errors = parts[0].bundle.errors is not None and learnt_from is not None
    seen = look()
    if learns_errors and kind in STEADIED:
        known = seen.of(learnt_from)
        scatter, errors = best_scatter(known, parts[0].bundle.prior), known.error_model()
        parts = [steadied_by(part, scatter, errors) for part in parts]
        seen = look()
    elsewhere = float(np.nanmean(np.where(np.isfinite(seen.errors), seen.errors >= reach, np.nan)))
    if kind == "volume_column":
        # No window reaches to the next level: the doubt of the level is the chain's, and is added to what this fits.
        seen = seen.within(reach)
    said = parts[0].bundle.calibration
    first = replace(said, **fit(seen, reach, wrong))
    errors = seen.of(learnt_from).error_model(reach) if learns_errors else parts[0].bundle.errors
    again = [replace(part, bundle=replace(part.bundle, calibration=first, errors=errors)) for part in parts]
    scales = correction_scales(joined(again, data, progress), truths, LEVEL, reach)
    calibration = replace(first, certainty=replace(first.certainty, correction_scales=scales))
    refused = sum(len(part.names) for part in parts) - len(seen)
    figures = kept_out_figures(seen, reach, wrong) | ({"on_another_level": elsewhere} if kind in COLUMNS else {})
    return Calibrated(calibration, errors, seen, figures, refused)


def steadied_by(part: Part, scatter: float, errors: ErrorModel) -> Part:
    """A part whose bundle steadies its points, see `Calibration.scatter`."""
    calibration = replace(part.bundle.calibration, scatter=scatter)
    return replace(part, bundle=replace(part.bundle, calibration=calibration, errors=errors))


def joined(parts: Sequence[Part], data: Path, progress: Progress) -> Iterator[tuple[str, Detection]]:
    """Detections of all parts, each by its bundle."""
    for part in parts:
        yield from detections(part.bundle, data, part.names, progress)


def truths_of(data: Path, kind: str) -> dict[str, np.ndarray]:
    """True landmarks by name; vertebrae of films named out of order are named anew, as in training."""
    truths, _ = read_labels(data)
    return {name: sorted_vertebrae(points) for name, points in truths.items()} if kind == "column" else truths


def calibrate(
    folder: Path,
    data: Path,
    progress: Progress = lambda done, total, name: None,
    split: str | None = None,
) -> Calibrated:
    """Calibrate a bundle in place on labelled films, which should not be those it learnt from.

    Args:
        split: of the data set; all of its labelled films for None.

    Raises:
        LandmarkDetectionError: no film of the data set can be used.
    """
    bundle = Bundle.load(folder)
    _, splits = read_labels(data)
    names = [name for name, own in splits.items() if split in (None, own)]
    if not names:
        raise LandmarkDetectionError(f"The data set '{data.name}' has no images in the split '{split}'.")
    result = calibrated([Part(bundle, names)], data, progress)
    where = data.name if split is None else f"{data.name}, split {split}"
    what = "films" if bundle.schema.dims == 2 else "volumes"
    write_calibration(folder, result, f"{where}: {len(result.evidence)} {what}, {result.refused} refused")
    return result


def write_calibration(folder: Path, result: Calibrated, calibrated_on: str) -> None:
    """Put a calibration, the data it came from and its figures into a bundle."""
    path = folder / MODEL_FILE
    model = json.loads(path.read_text(encoding="utf-8"))
    model["calibration"] = result.calibration.to_dict()
    model["training"]["calibrated_on"] = calibrated_on
    model["figures"]["calibration"] = result.figures
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
