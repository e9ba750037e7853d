"""Films for training: read from a data-set folder, brought to one orientation and one size, kept as bytes."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...images import Image, read_image
from ...preprocessing.resample import sample

MIRRORED_SIDE = "left"
"""Films of this side are mirrored, so that a network sees one orientation only: lateral on the image's left."""


@dataclass(frozen=True)
class Films:
    """Films of one size in the orientation of a right limb.

    ``images`` (N, 1, S, S) bytes; ``points`` (N, K, 2) index coordinates in them (NaN where unknown); ``names``,
    ``subjects``, ``splits`` and ``sides`` of length N.
    """

    images: Tensor
    points: Tensor
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...]
    sides: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, keep: Sequence[bool]) -> Films:
        """The films for which ``keep`` is true."""
        rows = [i for i, kept in enumerate(keep) if kept]

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in rows)

        return Films(
            self.images[rows],
            self.points[rows],
            pick(self.names),
            pick(self.subjects),
            pick(self.splits),
            pick(self.sides),
        )

    def with_points(self, points: Tensor) -> Films:
        """The same films with other landmarks."""
        return replace(self, points=points)

    def save(self, path: Path) -> None:
        """Keep the films in one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = {field: json.dumps(getattr(self, field)) for field in ("names", "subjects", "splits", "sides")}
        part = path.with_suffix(".part")
        save_file({"images": self.images, "points": self.points}, part, metadata=texts)
        os.replace(part, path)

    @classmethod
    def kept(cls, path: Path, make: Callable[[], Films]) -> Films:
        """Films that take long to make, made once for all parts of a training and all resumed runs."""
        if not path.exists():
            make().save(path)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Films:
        """Films that were kept."""
        with safe_open(path, framework="pt") as file:
            texts = {field: tuple(json.loads(text)) for field, text in file.metadata().items()}
            return cls(file.get_tensor("images"), file.get_tensor("points"), **texts)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1 and landmarks of some rows."""
        return self.images[rows].float() / 255, self.points[rows]


def subject_of(name: str) -> str:
    """Subject of a knee film: the file name without the letter of the side."""
    return Path(name).stem[:-1]


def side_of(name: str) -> str:
    """``left`` or ``right``, from the last letter of the file name."""
    return {"L": "left", "R": "right"}[Path(name).stem[-1]]


def square_bytes(path: Path, size: int) -> tuple[np.ndarray, float, np.ndarray]:
    """A film from a file, see `fitted_square`."""
    return fitted_square(read_image(path), size)


def fitted_square(image: Image, size: int) -> tuple[np.ndarray, float, np.ndarray]:
    """A film fitted into a square of ``size`` pixels: bytes, scale and offset so that new = old * scale + offset."""
    array = np.asarray(image.array, dtype=np.float32)
    low, high = float(array.min()), float(array.max())
    width, height = image.frame.size
    longest = max(width, height)
    start = (-(longest - width) // 2, -(longest - height) // 2)
    square = image.frame.cropped(start, (longest, longest)).resampled(size=(size, size))
    fitted = array if square.size == image.frame.size else sample(image, square)
    scale = size / longest
    offset = (np.array([0.5, 0.5]) - np.array(start)) * scale - 0.5
    return np.round(255 * (fitted - low) / (high - low)).astype(np.uint8), scale, offset


def read_films(
    folder: Path, names: Sequence[str], points: dict[str, np.ndarray], splits: dict[str, str], size: int = 224
) -> Films:
    """Read ``names`` below ``folder``; left knees come out mirrored, landmarks with them."""
    images, targets = [], []
    count = len(next(iter(points.values()))) if points else 0
    for name in names:
        pixels, scale, offset = square_bytes(folder / name, size)
        film_points = points.get(name, np.full((count, 2), np.nan)) * scale + offset
        if side_of(name) == MIRRORED_SIDE:
            pixels = pixels[:, ::-1]
            film_points = film_points * [-1, 1] + [size - 1, 0]
        images.append(torch.from_numpy(pixels.copy())[None])
        targets.append(torch.tensor(film_points, dtype=torch.float32))
    return Films(
        torch.stack(images),
        torch.stack(targets),
        tuple(names),
        tuple(subject_of(name) for name in names),
        tuple(splits.get(name, "") for name in names),
        tuple(side_of(name) for name in names),
    )


def read_labels(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Landmarks and split of every labelled image of a data set.

    Landmarks are (n, 2), or (n, 3) where the table has a third coordinate: the mean over the readings that have them,
    NaN where none has.
    """
    names = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["landmarks"]
    readings: dict[str, list[np.ndarray]] = {}
    splits: dict[str, str] = {}
    with (folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            axes = "xyz" if f"{names[0]}_z" in row else "xy"
            values = [[float(row[f"{name}_{axis}"] or "nan") for axis in axes] for name in names]
            readings.setdefault(row["image"], []).append(np.array(values))
            splits[row["image"]] = row["split"]
    return {name: mean_reading(values) for name, values in readings.items()}, splits


def mean_reading(readings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean (n, d) of readings (n, d), each landmark over those that have it; NaN where none has."""
    values = np.stack(readings)
    known = np.isfinite(values).all(axis=-1, keepdims=True)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def read_groups(folder: Path) -> dict[str, str]:
    """The subject or study of every labelled image, whose films must stay together; without one, the image itself.

    ``dataset.json`` says in its field ``group`` which column of the table tells it, or that it is the image's name
    without its last letter.
    """
    group = json.loads((folder / "dataset.json").read_text(encoding="utf-8")).get("group", "image")
    with (folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and group in rows[0]:
        return {row["image"]: row[group] for row in rows}
    without_letter = group.startswith("image name without its last letter")
    return {row["image"]: subject_of(row["image"]) if without_letter else row["image"] for row in rows}


def labelled_films(folder: Path, split: str, size: int = 224) -> Films:
    """All labelled films of one split."""
    points, splits = read_labels(folder)
    return read_films(folder / "images", [n for n, s in splits.items() if s == split], points, splits, size)


def unlabelled_named_films(folder: Path, size: int = 224) -> Films:
    """Named films without labels whose subject is in no split but ``train``: the other knee of a val subject is val."""
    points, splits = read_labels(folder)
    kept_out = {subject_of(name) for name, split in splits.items() if split != "train"} | shape_subjects(folder, "val")
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    names = [name for name in names if name not in points and subject_of(name) not in kept_out]
    return read_films(folder / "images", names, points, {}, size)


def unlabelled_films(folder: Path, landmarks: int, size: int = 224) -> Films:
    """Films of which neither subject nor side is known, as they are."""
    names = sorted(path.name for path in folder.glob("*.png"))
    images = torch.stack([torch.from_numpy(square_bytes(folder / name, size)[0])[None] for name in names])
    unknown = ("",) * len(names)
    return Films(images, torch.full((len(names), landmarks, 2), torch.nan), tuple(names), unknown, unknown, unknown)


def shape_subjects(folder: Path, split: str) -> set[str]:
    """Subjects of the shape file that belong to a split."""
    with (folder / "kneel_shapes.csv").open(newline="", encoding="utf-8") as file:
        return {row["subject_id"] for row in csv.DictReader(file) if row["split"] == split}


def subject_folds(subjects: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Fold of each film; all films of a subject share one, sizes differ by as little as that allows."""
    unique = sorted(set(subjects))
    order = np.random.default_rng(seed).permutation(len(unique))
    fold_of = {unique[row]: position % folds for position, row in enumerate(order)}
    return np.array([fold_of[subject] for subject in subjects])
