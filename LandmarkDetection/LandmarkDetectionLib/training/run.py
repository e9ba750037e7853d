"""The entry to training: a recipe, a data set, a folder for the results."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from ..errors import LandmarkDetectionError
from . import distributed
from .recipe import load_recipe

PIPELINES = {
    "film": ("joint.model:FilmModel", "joint.export:export"),
    "column": ("column.model:ColumnModel", "column.export:export"),
    "patch": ("patch.model:PatchModel", "patch.export:export"),
    "spine_volume": ("volume.model:SpineVolumes", "volume.export:export"),
    "knee_volume": ("volume.model:KneeVolumes", "volume.export:export"),
    "kneel": ("kneel.model:KneelModel", "kneel.result:write_result"),
    "ikem": ("ikem.model:IkemModel", "ikem.result:write_result"),
    "contour": ("contour.model:ContourModel", "contour.result:write_result"),
    "anatomy": ("anatomy.model:AnatomyModel", "anatomy.result:write_result"),
}
"""For each kind of recipe the class that trains by it and the function that writes what was learnt, by their names.

The class takes recipe, data set, output folder and whether to resume; its `train` does everything. The function takes
it and a folder: for the first five kinds that becomes a bundle, for the others what `inference.published` or
`priors.anatomy_folder` reads.
"""


def train(recipe: str | Path, data: Path, out: Path, resume: bool = False) -> Path:
    """Train by a recipe and return the folder of the result.

    Raises:
        LandmarkDetectionError: the recipe or the data set cannot be used.
    """
    loaded, data, out = load_recipe(recipe), Path(data), Path(out)
    if loaded.kind not in PIPELINES:
        raise LandmarkDetectionError(f"The recipe '{loaded.path.name}' is of the unknown kind '{loaded.kind}'.")
    if not (data / "dataset.json").is_file():
        raise LandmarkDetectionError(f"'{data}' is not a data set: it has no dataset.json.")
    build, write = (resolve_name(f"{__package__}.{name}") for name in PIPELINES[loaded.kind])
    distributed.start()
    try:
        model, folder = build(loaded, data, out, resume), out / loaded.name
        model.train()
        # However many processes train, one writes.
        return write(model, folder) if distributed.rank() == 0 else folder
    finally:
        distributed.stop()
