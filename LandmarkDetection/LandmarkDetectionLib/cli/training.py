"""``train`` and ``calibrate``."""

from __future__ import annotations

from pathlib import Path

from ..errors import LandmarkDetectionError
from .output import console, output_folder

RECIPES = Path(__file__).resolve().parents[1] / "training" / "recipes"


def run_train(recipe: Path, data: Path, out: Path, resume: bool) -> int:
    """Train by a recipe and say where the result lies."""
    path = recipe_path(recipe)

    from ..training.trainer import train

    train(path, data, output_folder(out), resume)
    console.print(f"Training finished; results in {out}")
    return 0


def recipe_path(recipe: Path) -> Path:
    """The recipe file, given by itself or by the name of one that comes with the library.

    Raises:
        LandmarkDetectionError: there is neither.
    """
    if recipe.is_file():
        return recipe
    shipped = RECIPES / f"{recipe.stem}.toml"
    if shipped.is_file() and recipe.parent == Path():
        return shipped
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise LandmarkDetectionError(f"There is no recipe '{recipe}'; give a .toml file or one of {known}.")


def run_calibrate(bundle: str, data: Path) -> int:
    """Calibrate a bundle in place."""
    from ..inference.bundle import find_bundle

    folder = find_bundle(bundle).folder

    from ..training.calibration import calibrate

    calibrate(folder, data)
    console.print(f"Calibrated {folder}")
    return 0
