"""``train`` and ``calibrate``."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from .output import console, error_console, output_folder


def run_train(recipe: Path, data: Path, out: Path, resume: bool) -> int:
    """Train by a recipe and say where the result lies."""
    from ..training.recipe import find_recipe

    # Before torch is loaded: a name that is wrong should not take seconds to find.
    path = find_recipe(recipe)

    from ..training.run import train

    folder = train(path, data, output_folder(out), resume)
    console.print(f"Training finished; results in {folder}")
    return 0


def run_calibrate(bundle: str, data: Path, split: str | None) -> int:
    """Calibrate a bundle in place and say what that is worth."""
    from ..inference.bundle import find_bundle

    folder = find_bundle(bundle).folder

    from ..training.calibration.recalibration import calibrate

    with Progress(console=error_console, transient=True) as bar:
        task = bar.add_task("")

        def shown(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        figures = calibrate(folder, data, shown, split).figures
    if "volumes" in figures:
        images, size = figures["volumes"], f"median volume {figures['median_volume_mm3']:.1f} mm3"
    else:
        images, size = figures["films"], f"median area {figures['median_area_px2']:.1f} px2"
    console.print(f"Calibrated {folder} on {images} images; cross-validated on them:")
    console.print(
        f"{100 * figures['coverage']:.1f} % of the landmarks lie in their regions of {100 * figures['level']:.0f} %, "
        f"{size}; calibration error {figures['ece']:.2f} %."
    )
    return 0
