"""A trained model of one joint as a bundle, calibrated on films kept out."""

from __future__ import annotations

from pathlib import Path

from ..calibration.bundle_writing import finish_bundle, halve, write_bundle
from ..calibration.evidence import with_members
from ..calibration.recalibration import Part, calibrated
from ..data.films import read_labels
from .model import FilmModel
from .region_figures import kept_out_presence, presence_figures

REGION = "region.safetensors"


def export(model: FilmModel, folder: Path) -> Path:
    """Write the bundle of a trained model.

    It is calibrated on all labelled films: those of the split ``train`` as the one teacher saw them that did not learn
    from their subject, all others as the shipped ensemble sees them. How errors go together is learnt from ``train``
    only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folds = range(model.recipe.folds)
    students = [f"landmarks-{fold}.safetensors" for fold in folds]
    for fold, name in enumerate(students):
        halve(model.landmark_network(model.out / "student" / f"fold{fold}" / "weights.safetensors"), folder / name)
        halve(model.trained_teacher(fold), folder / teacher_file(fold))
    halve(model.region_network(model.out / "region" / "all" / "weights.safetensors"), folder / REGION)
    threshold, figures = presence_figures(kept_out_presence(model))
    weights = {"region": [REGION], "landmarks": students}
    known_by_all = weights | {"landmarks": students + [teacher_file(fold) for fold in folds]}
    about = {"region": figures}
    bundle = write_bundle(
        folder, model.recipe, "joint", model.data.name, model.prior(), known_by_all, threshold, figures=about
    )
    names, splits = model.films.names, read_labels(model.data)[1]
    parts = [
        Part(
            with_members(bundle, landmarks=[teacher_file(fold)]),
            [name for name, own in zip(names, model.folds, strict=True) if own == fold],
        )
        for fold in folds
    ]
    others = [name for name in splits if name not in names]
    if others:
        parts.append(Part(with_members(bundle, landmarks=students), others))
    result = calibrated(parts, model.data, learnt_from=set(model.films.subjects))
    words = f"{len(names)} films out of fold, {len(others)} of other splits by the ensemble"
    finish_bundle(folder, result, words, weights)
    return folder


def teacher_file(fold: int) -> str:
    """Weights of the network that has not seen a fold, for the calibration only."""
    return f"teacher-{fold}.safetensors"
