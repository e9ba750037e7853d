"""Scans for training: volumes of a data set on even voxels along the body's axes, kept in one file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...images import Image, read_image
from ...preprocessing.resample import sample
from ...preprocessing.volume_window import GrayScale, WindowPlan, whole_window
from ..data.films import read_groups, read_labels


@dataclass(frozen=True)
class Scan:
    """One volume.

    ``voxels`` (d, h, w) int16, x to the left, y to posterior, z upwards; ``points`` (K, 3) index coordinates in them,
    NaN where not in view; ``gray`` brings its values to one scale; ``side`` of the body, or "".
    """

    name: str
    group: str
    side: str
    voxels: Tensor
    points: Tensor
    gray: GrayScale

    @property
    def extent(self) -> Tensor:
        """(2, 3) index of the first and of the last voxel."""
        return torch.stack([torch.zeros(3), torch.tensor(self.voxels.shape[::-1]) - 1.0])


@dataclass(frozen=True)
class Scans:
    """Volumes of one spacing (mm)."""

    scans: tuple[Scan, ...]
    spacing: float

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, row: int) -> Scan:
        return self.scans[row]

    def __iter__(self) -> Iterator[Scan]:
        return iter(self.scans)

    def first(self, count: int) -> Scans:
        """The first few."""
        return Scans(self.scans[:count], self.spacing)

    def save(self, path: Path) -> None:
        """Keep them in one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"voxels{row}": scan.voxels for row, scan in enumerate(self)}
        tensors |= {f"points{row}": scan.points for row, scan in enumerate(self)}
        about = [{"name": s.name, "group": s.group, "side": s.side, "gray": vars(s.gray)} for s in self]
        part = path.with_suffix(".part")
        save_file(tensors, part, metadata={"scans": json.dumps(about), "spacing": str(self.spacing)})
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Scans:
        """Scans that were kept."""
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["scans"])
            scans = tuple(
                Scan(
                    **{**one, "gray": GrayScale(**one["gray"])},
                    voxels=file.get_tensor(f"voxels{row}"),
                    points=file.get_tensor(f"points{row}"),
                )
                for row, one in enumerate(about)
            )
            return cls(scans, float(file.metadata()["spacing"]))

    @classmethod
    def kept(cls, path: Path, make: Callable[[], Scans]) -> Scans:
        """Scans that take long to make, made once for all parts of a training and all resumed runs."""
        if not path.exists():
            make().save(path)
        return cls.load(path)


def read_scans(data: Path, split: str, spacing: float, plan: WindowPlan) -> Scans:
    """The volumes of one split of a data set on even voxels of ``spacing`` mm; ``plan`` tells the scale of CT."""
    points, splits = read_labels(data)
    names = [name for name, own in splits.items() if own == split]
    groups, sides = read_groups(data), read_column(data, "side")
    scans = []
    for name in names:
        image = read_image(data / "images" / name)
        about = (name, groups[name], sides[name])
        scans.append(Scan(*about, *placed(image, points[name], spacing), GrayScale.of(image.array, plan)))
    return Scans(tuple(scans), spacing)


def read_column(data: Path, column: str) -> dict[str, str]:
    """What the table says of every image in one column, "" where it does not tell."""
    with (data / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row.get(column, "") for row in csv.DictReader(file)}


def placed(image: Image, points: np.ndarray, spacing: float) -> tuple[Tensor, Tensor]:
    """Voxels and landmarks of a `Scan`, from an image and its landmarks (K, 3) in index coordinates."""
    window = whole_window(image.frame, spacing, 1)
    voxels = np.clip(np.rint(sample(image, window)), -32768, 32767).astype(np.int16)
    places = window.to_index(image.frame.to_physical(points)).astype(np.float32)
    return torch.from_numpy(voxels), torch.from_numpy(places)
