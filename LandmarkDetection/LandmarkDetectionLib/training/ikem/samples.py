"""Films for interactive networks: read once, each brought to the network's size, kept as bytes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import LandmarkDetectionError
from ...images import read_image
from ...inference.published.ikem_view import IkemPlan, gray_view
from ..column.films import read_studies, sorted_vertebrae
from ..data.films import read_labels


@dataclass(frozen=True)
class IkemFilms:
    """Films as a network sees them.

    Attributes:
        images: ``(N, 1, H, W)`` bytes.
        points: ``(N, K, 2)`` index coordinates in them, NaN where unknown.
        scales: ``(N, 2)`` pixels of the film per pixel here, along x and y.
        names, groups: of length N; films of one group belong to one person or study.
    """

    images: Tensor
    points: Tensor
    scales: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, keep: Sequence[bool]) -> IkemFilms:
        """The films for which ``keep`` is true."""
        rows = [row for row, kept in enumerate(keep) if kept]
        names, groups = (tuple(values[row] for row in rows) for values in (self.names, self.groups))
        return IkemFilms(self.images[rows], self.points[rows], self.scales[rows], names, groups)

    def batch(self, rows: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Images in 0..1, landmarks and scales of some rows."""
        return self.images[rows].float() / 255, self.points[rows], self.scales[rows]


def read_ikem_films(folder: Path, split: str, plan: IkemPlan, landmarks: int, resort_vertebrae: bool) -> IkemFilms:
    """The labelled films of one split.

    Args:
        folder: a data set.
        split: only its films are opened.
        plan: size and gray values of what the network sees.
        landmarks: number that is expected.
        resort_vertebrae: put vertebrae of four corners in the order of their height, see `sorted_vertebrae`.

    Raises:
        LandmarkDetectionError: the split has no labelled film, or films have another number of landmarks.
    """
    labels, splits = read_labels(folder)
    names = tuple(name for name, known in splits.items() if known == split)
    if not names:
        raise LandmarkDetectionError(f"The data set '{folder}' has no labelled image of the split '{split}'.")
    count = len(labels[names[0]])
    if count != landmarks:
        raise LandmarkDetectionError(
            f"The data set '{folder}' has {count} landmarks; the recipe's network {landmarks}."
        )
    groups = groups_of(folder)
    images, points, scales = [], [], []
    for name in names:
        image = read_image(folder / "images" / name)
        gray, frame = gray_view(image, plan)
        known = sorted_vertebrae(labels[name]) if resort_vertebrae else labels[name]
        images.append(torch.from_numpy(np.round(gray).astype(np.uint8))[None])
        points.append(torch.tensor(frame.to_index(image.frame.to_physical(known)), dtype=torch.float32))
        steps = np.linalg.norm(frame.index_map(image.frame)[:, :-1], axis=0)
        scales.append(torch.tensor(steps, dtype=torch.float32))
    return IkemFilms(
        torch.stack(images), torch.stack(points), torch.stack(scales), names, tuple(groups[name] for name in names)
    )


def groups_of(folder: Path) -> dict[str, str]:
    """Study of each image; where the table names none, every image stands for itself."""
    with (folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "study" not in (reader.fieldnames or ()):
            return {row["image"]: row["image"] for row in reader}
    return read_studies(folder)
