"""``train`` and ``calibrate``."""

from __future__ import annotations

from pathlib import Path

from .output import console, output_folder


def run_train(recipe: Path, data: Path, out: Path, resume: bool) -> int:
    """Train by a recipe and say where the result lies."""
    from ..training.recipe import find_recipe

    # Before torch is loaded: a name that is wrong should not take seconds to find.
    path = find_recipe(recipe)

    from ..training.run import train

    folder = train(path, data, output_folder(out), resume)
    console.print(f"Training finished; results in {folder}")
    return 0


def run_calibrate(bundle: str, data: Path) -> int:
    """Calibrate a bundle in place."""
    from ..inference.bundle import find_bundle

    folder = find_bundle(bundle).folder

    from ..training.recalibration import calibrate

    calibrate(folder, data)
    console.print(f"Calibrated {folder}")
    return 0
