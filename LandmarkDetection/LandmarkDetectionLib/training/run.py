"""The entry to training: a recipe, a data set, a folder for the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import LandmarkDetectionError
from . import distributed
from .recipe import Recipe, load_recipe


class Model(Protocol):
    """A recipe applied to a data set; its parts are kept below ``out``."""

    recipe: Recipe
    out: Path

    def train(self) -> Any: ...


def train(recipe: str | Path, data: Path, out: Path, resume: bool = False) -> Path:
    """Train by a recipe and return the folder of the result.

    Raises:
        LandmarkDetectionError: the recipe or the data set cannot be used.
    """
    loaded = load_recipe(recipe)
    if loaded.kind not in PIPELINES:
        raise LandmarkDetectionError(f"The recipe '{loaded.path.name}' is of the unknown kind '{loaded.kind}'.")
    if not (Path(data) / "dataset.json").is_file():
        raise LandmarkDetectionError(f"'{data}' is not a data set: it has no dataset.json.")
    distributed.start()
    try:
        return PIPELINES[loaded.kind](loaded, Path(data), Path(out), resume)
    finally:
        distributed.stop()


def train_film_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """Region stage and landmark ensemble; the result is a bundle."""
    from .joint.export import export
    from .joint.model import FilmModel

    return finished(FilmModel(recipe, data, out, resume), export)


def train_kneel_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """KNEEL's two stages for each fold; the result is a folder that ``inference.published.kneel_folder`` reads."""
    from .kneel.model import KneelModel
    from .kneel.result import write_result

    return finished(KneelModel(recipe, data, out, resume), write_result)


def train_ikem_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """An interactive network of the papers; the result is a folder that ``inference.published.ikem_folder`` reads."""
    from .ikem.model import IkemModel
    from .ikem.result import write_result

    return finished(IkemModel(recipe, data, out, resume), write_result)


def train_column_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """A column network for each fold; the result is a bundle."""
    from .column.export import export
    from .column.model import ColumnModel

    return finished(ColumnModel(recipe, data, out, resume), export)


def train_patch_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """A look at the whole view and networks for patches; the result is a bundle."""
    from .patch.export import export
    from .patch.model import PatchModel

    return finished(PatchModel(recipe, data, out, resume), export)


def train_contour_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """Contour-Hugging Heatmaps; the result is a folder that ``inference.published.contour_folder`` reads."""
    from .contour.model import ContourModel
    from .contour.result import write_result

    return finished(ContourModel(recipe, data, out, resume), write_result)


def train_anatomy_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """Anatomical priors; the result is a folder that ``priors.anatomy_folder`` reads."""
    from .anatomy.model import AnatomyModel
    from .anatomy.result import write_result

    return finished(AnatomyModel(recipe, data, out, resume), write_result)


def train_spine_volume_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """Networks that find vertebrae in volumes and place their points; the result is a bundle."""
    from .volume.export import export
    from .volume.model import SpineVolumes

    return finished(SpineVolumes(recipe, data, out, resume), export)


def train_knee_volume_model(recipe: Recipe, data: Path, out: Path, resume: bool) -> Path:
    """Networks that find a knee in volumes and place its points; the result is a bundle."""
    from .volume.export import export
    from .volume.model import KneeVolumes

    return finished(KneeVolumes(recipe, data, out, resume), export)


def finished(model: Model, write: Callable[[Model, Path], Path]) -> Path:
    """Train a model and write its result, once however many processes train."""
    model.train()
    folder = model.out / model.recipe.name
    return write(model, folder) if distributed.rank() == 0 else folder


PIPELINES = {
    "film": train_film_model,
    "kneel": train_kneel_model,
    "ikem": train_ikem_model,
    "column": train_column_model,
    "patch": train_patch_model,
    "contour": train_contour_model,
    "anatomy": train_anatomy_model,
    "spine_volume": train_spine_volume_model,
    "knee_volume": train_knee_volume_model,
}
