"""How well a trained anatomical prior segments labelled knees that it has not seen, beside its baselines.

    python benchmarks/anatomy.py FOLDER DATA [--split SPLIT ...] [--kept]

Films: FOLDER is the result of the recipe ``anatomy-knee``, DATA the data set ``knee_xray``. Distances run from each
mapped point to the joint line of its bone, in 224ths of the film's width; Dice counts inside the bands of the closure.

Volumes: FOLDER is the result of the recipe ``anatomy-knee-ct``, DATA the data set of phantoms that it describes. Dice
counts over the voxels of each volume inside the window; "pose off" moves every window as landmarks that are off would.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.priors.anatomy_folder import AnatomyFolder, load_anatomy
from LandmarkDetectionLib.training.anatomy.figures import measure
from LandmarkDetectionLib.training.anatomy.sources import VolumeSource
from LandmarkDetectionLib.training.recipe import load_recipe
from rich.console import Console
from rich.table import Table

LIMITS = "median distance at most 2.5, Dice at least 0.90, both better than every baseline; under 1 s a film"
SUMMARY = ("mean", "median", "smallest")


def film_table(split: str, figures: dict) -> Table:
    """The figures of one split of films."""
    films = next(iter(figures.values()))["films"]
    result = Table(title=f"{split}: {films} films")
    for column in ("method", "distance: median", "mean", "95 %", "films over 5", "Dice", "femur", "tibia", "s a film"):
        result.add_column(column, justify="left" if column == "method" else "right")
    for name, values in figures.items():
        distance, dice = values["distance_px"], values["dice"]
        tail = distance["p95"]
        result.add_row(
            name,
            *(f"{distance[key]:.2f}" if distance[key] is not None else "-" for key in ("median", "mean")),
            "not found" if tail is None or tail == float("inf") else f"{tail:.1f}",
            str(distance["films_over_5"]),
            *(f"{dice[key]:.3f}" for key in ("mean", "femur", "tibia")),
            f"{values['seconds']:.2f}",
        )
    return result


def volume_table(split: str, figures: dict) -> Table:
    """The figures of one split of volumes: of each structure mean, median and smallest Dice."""
    first = next(iter(figures.values()))
    result = Table(title=f"{split}: {first['volumes']} volumes; Dice, mean / median / smallest")
    for column in ("method", *first["dice"], "s a volume"):
        result.add_column(column, justify="left" if column == "method" else "right")
    for name, values in figures.items():
        scores = [" / ".join(shown(dice[key]) for key in SUMMARY) for dice in values["dice"].values()]
        result.add_row(name, *scores, f"{values['seconds']:.2f}")
    return result


def shown(value: float | None) -> str:
    """Three digits; a structure that no volume shows has no figure."""
    return "-" if value is None or value != value else f"{value:.3f}"


def measured(folder: AnatomyFolder, path: Path, data: Path, splits: list[str] | None) -> dict[str, dict]:
    """Figures of each split."""
    if folder.prior.settings.view.dims == 2:
        return {split: measure(folder, data, split) for split in splits or ["train", "val"]}
    source = VolumeSource(load_recipe(path / "recipe.toml"), data)
    if splits:
        source.recipe["data"]["measured"] = splits
    return source.figures(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", action="append", help="those of the recipe unless given")
    parser.add_argument("--kept", action="store_true", help="print figures.json of the folder, measure nothing")
    arguments = parser.parse_args()
    console = Console(width=140)
    torch.set_num_threads(2)
    try:
        folder = load_anatomy(arguments.folder)
    except LandmarkDetectionError as error:
        parser.exit(2, f"{error}\n")
    if arguments.kept:
        kept = json.loads((arguments.folder / "figures.json").read_text(encoding="utf-8"))
        figures = {name: kept[name] for name in arguments.split or kept if name not in ("learnt_from", "unit")}
    else:
        figures = measured(folder, arguments.folder, arguments.data, arguments.split)
    is_film = folder.prior.settings.view.dims == 2
    for split, values in figures.items():
        console.print((film_table if is_film else volume_table)(split, values))
    if is_film:
        console.print(f"Limits: {LIMITS}.")


if __name__ == "__main__":
    main()
