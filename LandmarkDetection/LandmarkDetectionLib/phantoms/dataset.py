"""Phantom films as a data-set folder (`images/`, `landmarks.csv`, `dataset.json`) that train and evaluate read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from . import spine
from .film import LEVELS
from .knee import LANDMARKS, Field, KneePhantom, make_knee
from .spine import SpinePhantom, make_spine
from .spine_dimensions import LANDMARKS as SPINE_LANDMARKS

SIZES = {"crop": (224, 224), "wide": (420, 520), "bilateral": (720, 560)}


def to_gray8(phantom: KneePhantom | SpinePhantom) -> np.ndarray:
    """The film as 8-bit gray values (h, w)."""
    return np.round(phantom.pixels.astype(np.float32) * (255 / LEVELS)).astype(np.uint8)


def column_names(field: Field) -> list[str]:
    """Names of the landmarks in the table; a bilateral film has both knees' points, `right_T0` ... `left_F6`."""
    if field == "bilateral":
        return [f"{side}_{name}" for side in ("right", "left") for name in LANDMARKS]
    return list(LANDMARKS)


def table_row(image: str, split: str, phantom: KneePhantom, field: Field) -> dict[str, str]:
    """One row of `landmarks.csv`; coordinates are pixel indices with 0 at the centre of the first pixel."""
    sides = ("right", "left") if field == "bilateral" else (phantom.side,)
    points = np.vstack([phantom.landmarks[side] for side in sides])
    row = {"image": image, "split": split, "side": "both" if field == "bilateral" else phantom.side}
    for name, (x, y) in zip(column_names(field), points, strict=True):
        row[f"{name}_x"], row[f"{name}_y"] = f"{x:.3f}", f"{y:.3f}"
    return row


def spine_row(image: str, split: str, phantom: SpinePhantom) -> dict[str, str]:
    """One row of a spine's `landmarks.csv`: the largest Cobb angle (degrees), all curves from the head down, corners.

    The fields of a corner that is not on the film are empty.
    """
    curves = ";".join(f"{each.upper}-{each.lower}:{each.degrees:.1f}:{each.convex}" for each in phantom.curves)
    study = f"phantom-{phantom.seed:06d}"
    row = {"image": image, "split": split, "study": study, "cobb": f"{phantom.cobb:.1f}", "curves": curves}
    for name, (x, y) in zip(SPINE_LANDMARKS, phantom.landmarks, strict=True):
        seen = not np.isnan(x)
        row[f"{name}_x"], row[f"{name}_y"] = (f"{x:.3f}", f"{y:.3f}") if seen else ("", "")
    return row


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as comma-separated values with line feeds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_dataset(
    folder: Path,
    count: int,
    seed: int = 0,
    field: Field = "crop",
    size: tuple[int, int] | None = None,
    split: str = "train",
) -> None:
    """Write `count` films of knees of alternating sides into `folder`, which is made where it is missing.

    File names end in R or L for the side of the body, or in B for both. Film n is made from the seed `seed` + n.
    """
    if count < 1:
        raise ValueError(f"{count} films cannot be written; ask for at least one.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(seed, seed + count):
        phantom = make_knee(number, "left" if number % 2 else "right", size or SIZES[field], field=field)
        letter = "B" if field == "bilateral" else phantom.side[0].upper()
        name = f"phantom-{number:06d}{letter}.png"
        Picture.fromarray(to_gray8(phantom)).save(folder / "images" / name)
        rows.append(table_row(name, split, phantom, field))
    write_table(folder / "landmarks.csv", rows)
    title = "Knee radiograph phantoms projected from a parametric bone model"
    group = "image name without its last letter (subject)"
    _describe(folder, f"knee_phantoms_{field}", title, group, column_names(field))


def write_spine_dataset(
    folder: Path,
    count: int,
    seed: int = 0,
    field: spine.Field = "column",
    size: tuple[int, int] | None = None,
    split: str = "train",
) -> None:
    """Write `count` films of spines into `folder`, made where it is missing; film n has the seed `seed` + n."""
    if count < 1:
        raise ValueError(f"{count} films cannot be written; ask for at least one.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(seed, seed + count):
        phantom = make_spine(number, size, field=field)
        name = f"phantom-{number:06d}.png"
        Picture.fromarray(to_gray8(phantom)).save(folder / "images" / name)
        rows.append(spine_row(name, split, phantom))
    write_table(folder / "landmarks.csv", rows)
    title = "Spine radiograph phantoms projected from a parametric bone model"
    _describe(folder, f"spine_phantoms_{field}", title, "study", list(SPINE_LANDMARKS))


def _describe(folder: Path, name: str, title: str, group: str, landmarks: list[str]) -> None:
    """Write `dataset.json`."""
    description = {
        "name": name,
        "title": title,
        "spacing_mm": None,
        "terms": "Apache-2.0, made by this project's generator",
        "group": group,
        "landmarks": landmarks,
        "readings": "one row an image; the points are exact",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
