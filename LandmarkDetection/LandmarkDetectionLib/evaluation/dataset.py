"""A data set as a folder: ``images/``, ``landmarks.csv`` (wide) and ``dataset.json``.

Rows of the table that share an image are readings by different people; the truth is their mean. Coordinates are index
coordinates of the image as loaded, x first, the centre of the first pixel is 0.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import LandmarkDetectionError

Side = Literal["left", "right"]
_LETTERS: dict[str, Side] = {"L": "left", "R": "right"}


@dataclass(frozen=True, eq=False)
class Case:
    """One image of a data set.

    Attributes:
        path: the image file.
        name: as the table has it, with extension.
        split: as the table has it, "" where the table has none.
        truth: (n, d) mean of the readings in index coordinates, NaN where no reader placed the landmark.
        readings: number of readings.
        side: the true side of the body where the data set tells it.
    """

    path: Path
    name: str
    split: str
    truth: np.ndarray
    readings: int
    side: Side | None


@dataclass(frozen=True)
class DataSet:
    """What a data-set folder holds; ``spacing_mm`` is None where the images have no common, known spacing."""

    name: str
    title: str
    terms: str
    spacing_mm: float | None
    landmarks: tuple[str, ...]
    cases: tuple[Case, ...]

    def split(self, name: str | None) -> tuple[Case, ...]:
        """The cases of one split, all for None.

        Raises:
            LandmarkDetectionError: if no image belongs to it.
        """
        cases = tuple(case for case in self.cases if name is None or case.split == name)
        if not cases:
            known = ", ".join(sorted({case.split for case in self.cases}))
            raise LandmarkDetectionError(f"No image of '{self.name}' is in the split '{name}'; choose one of {known}.")
        return cases


def read_dataset(folder: Path) -> DataSet:
    """Read a data-set folder; images are not opened.

    Raises:
        LandmarkDetectionError: a file or column is missing, or a coordinate is not a number.
    """
    folder = Path(folder)
    description = _read_description(folder / "dataset.json")
    landmarks = tuple(description["landmarks"])
    rows = _read_rows(folder / "landmarks.csv")
    axes = _axes(rows[0], landmarks, folder / "landmarks.csv")
    readings: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        readings.setdefault(row["image"], []).append(row)
    cases = tuple(_case(folder, name, group, landmarks, axes, description) for name, group in readings.items())
    return DataSet(
        name=description.get("name", folder.name),
        title=description.get("title", folder.name),
        terms=description.get("terms", ""),
        spacing_mm=description.get("spacing_mm"),
        landmarks=landmarks,
        cases=cases,
    )


def _read_description(path: Path) -> dict:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LandmarkDetectionError(f"'{path}' cannot be read; choose a folder with a dataset.json.") from error
    except ValueError as error:
        raise LandmarkDetectionError(f"'{path}' is not valid JSON ({error}); correct it.") from error
    if not isinstance(description, dict) or not description.get("landmarks"):
        raise LandmarkDetectionError(f"'{path}' has no field 'landmarks'; list the landmark names there.")
    return description


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise LandmarkDetectionError(f"'{path}' cannot be read; a data set needs this table.") from error
    if not rows or "image" not in rows[0]:
        raise LandmarkDetectionError(f"'{path}' has no rows or no column 'image'; give one row for each reading.")
    return rows


def _axes(row: dict[str, str], landmarks: tuple[str, ...], path: Path) -> str:
    axes = "xyz" if f"{landmarks[0]}_z" in row else "xy"
    missing = [f"{name}_{axis}" for name in landmarks for axis in axes if f"{name}_{axis}" not in row]
    if missing:
        raise LandmarkDetectionError(f"'{path}' lacks the column '{missing[0]}'; add it or correct dataset.json.")
    return axes


def _case(
    folder: Path, name: str, rows: list[dict[str, str]], landmarks: tuple[str, ...], axes: str, description: dict
) -> Case:
    points = np.array([[[_number(row, f"{id}_{axis}") for axis in axes] for id in landmarks] for row in rows])
    placed = np.isfinite(points).all(axis=-1)
    count = placed.sum(axis=0)
    total = np.where(placed[..., None], points, 0.0).sum(axis=0)
    truth = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)
    side = true_side(name, rows[0].get("side"), description)
    return Case(folder / "images" / name, name, rows[0].get("split") or "", truth, len(rows), side)


def _number(row: dict[str, str], column: str) -> float:
    text = (row[column] or "").strip()
    try:
        return float(text) if text else np.nan
    except ValueError:
        raise LandmarkDetectionError(
            f"'{text}' in column '{column}' of image '{row['image']}' is not a number; correct landmarks.csv."
        ) from None


def true_side(name: str, column: str | None, description: dict) -> Side | None:
    """The side of the body: from the column ``side``, else from the file name where the data set says so.

    A data set says so by grouping images by their name "without its last letter": that letter is the side, L or R.
    """
    if column:
        text = column.strip().lower()
        return _LETTERS.get(text[:1].upper()) if text in ("left", "right", "l", "r") else None
    if "last letter" in description.get("group", ""):
        return _LETTERS.get(Path(name).stem[-1:])
    return None
