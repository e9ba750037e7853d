"""Phantom volumes as a data-set folder: `images/` and `labels/` as .nii.gz, `landmarks.csv`, `dataset.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from ..geometry import Frame
from .dataset import write_table
from .knee_scene import LABELS as KNEE_LABELS
from .knee_scene import LANDMARKS as KNEE_LANDMARKS
from .scan_frames import KNEE_FIELDS, SPINE_TURNS, Modality
from .spine_scene import LABELS as SPINE_LABELS
from .spine_scene import LANDMARKS as SPINE_LANDMARKS
from .volumes import VolumePhantom, make_knee_volume, make_spine_volume


def write_spine_volumes(
    folder: Path,
    count: int,
    seed: int = 0,
    modalities: Sequence[Modality] = ("ct",),
    fields: Sequence[str] = SPINE_TURNS,
    spacing: float | None = None,
    split: str = "train",
) -> None:
    """Write `count` scans of spines into `folder`; scan n has the seed `seed` + n, modalities and fields take turns.

    What the folder holds already stays, so that the splits of a data set are written one after the other.

    Args:
        folder: made where it is missing.
        count: at least 1.
        seed: of the first scan.
        modalities, fields: see `make_spine_volume`.
        spacing: mm of even voxels; drawn where None.
        split: written into the table.
    """

    def make(number: int) -> VolumePhantom:
        return make_spine_volume(
            number, modalities[number % len(modalities)], fields[number // len(modalities) % len(fields)],
            spacing=spacing,
        )  # fmt: skip

    _write(folder, range(seed, seed + count), make, split)
    title = "Spine CT and MR phantoms from the bone model of the spine film phantoms"
    _describe(folder, "spine_volume_phantoms", title, "seed", SPINE_LANDMARKS, SPINE_LABELS)


def write_knee_volumes(
    folder: Path,
    count: int,
    seed: int = 0,
    modalities: Sequence[Modality] = ("ct",),
    fields: Sequence[str] = KNEE_FIELDS,
    spacing: float | None = None,
    split: str = "train",
) -> None:
    """Write `count` scans of knees of alternating sides; otherwise as `write_spine_volumes`."""

    def make(number: int) -> VolumePhantom:
        turn = number // 2
        return make_knee_volume(
            number, modalities[turn % len(modalities)], "left" if number % 2 else "right",
            fields[turn // len(modalities) % len(fields)], spacing=spacing,
        )  # fmt: skip

    _write(folder, range(seed, seed + count), make, split)
    title = "Knee CT and MR phantoms from the bone model of the knee film phantoms"
    _describe(folder, "knee_volume_phantoms", title, "seed", KNEE_LANDMARKS, KNEE_LABELS)


def volume_row(image: str, split: str, phantom: VolumePhantom) -> dict[str, str]:
    """One row of `landmarks.csv`: index coordinates (x, y, z); the fields of a landmark out of view are empty."""
    row = {"image": image, "split": split, "seed": str(phantom.seed), "modality": phantom.modality}
    row["side"] = phantom.side or ""
    for name, point in zip(phantom.ids, phantom.landmarks, strict=True):
        for axis, value in zip("xyz", point, strict=True):
            row[f"{name}_{axis}"] = "" if np.isnan(value) else f"{value:.4f}"
    return row


def write_volume(path: Path, voxels: np.ndarray, frame: Frame) -> None:
    """Write voxels (d, h, w) with their frame as .nii.gz; the same voxels give the same bytes."""
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing([float(value) for value in frame.spacing])
    image.SetOrigin([float(value) for value in frame.origin])
    image.SetDirection([float(value) for value in frame.direction().ravel()])
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _write(folder: Path, numbers: range, make: Callable[[int], VolumePhantom], split: str) -> None:
    if not len(numbers):
        raise ValueError(f"{len(numbers)} volumes cannot be written; ask for at least one.")
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in numbers:
        phantom = make(number)
        name = f"phantom-{number:06d}{(phantom.side or '')[:1].upper()}-{phantom.modality}.nii.gz"
        write_volume(folder / "images" / name, phantom.voxels, phantom.frame)
        write_volume(folder / "labels" / name, phantom.labels, phantom.frame)
        rows.append(volume_row(name, split, phantom))
    write_table(folder / "landmarks.csv", [*_other_rows(folder / "landmarks.csv", rows), *rows])


def _other_rows(table: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """What a folder already holds of other splits: one data set is written split by split."""
    if not table.exists():
        return []
    written = {row["image"] for row in rows}
    with table.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["image"] not in written]


def _describe(folder: Path, name: str, title: str, group: str, landmarks, labels) -> None:
    description = {
        "name": name,
        "title": title,
        "dims": 3,
        "spacing_mm": None,
        "terms": "Apache-2.0, made by this project's generator",
        "group": group,
        "landmarks": list(landmarks),
        "labels": dict(labels),
        "readings": "one row an image; the points are exact",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
