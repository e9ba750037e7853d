"""Volumes for anatomical priors: which ones, where their joint is, and label maps drawn from them in random poses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import LandmarkDetectionError
from ...geometry import Frame
from ...images import Image, read_image
from ...priors.anatomy_segmentation import places
from ...priors.anatomy_view import OUTSIDE
from ...priors.anatomy_volume_view import VolumeView
from ..data.films import MIRRORED_SIDE, read_labels
from ..volume.scans import read_column
from .labels import Poses
from .samples import random_pose


@dataclass(frozen=True)
class LocatedVolume:
    """A volume by its file, its landmarks ``(3,)`` in index coordinates, and whether it shows a left knee."""

    path: Path
    points: Mapping[str, np.ndarray]
    mirrored: bool

    def first_window(self, view: VolumeView, frame: Frame) -> Frame:
        """The window about the landmarks."""
        physical = {name: frame.to_physical(point) for name, point in self.points.items()}
        return view.window_about(frame, physical, self.mirrored)

    @property
    def label_path(self) -> Path:
        """The label map of the same name."""
        return self.path.parent.parent / "labels" / self.path.name


def located_volumes(data: Path, split: str) -> list[LocatedVolume]:
    """The volumes of one split of a data set.

    Raises:
        LandmarkDetectionError: the split is empty.
    """
    ids = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["landmarks"]
    points, splits = read_labels(data)
    sides = read_column(data, "side")
    found = [
        LocatedVolume(data / "images" / name, dict(zip(ids, points[name], strict=True)), sides[name] == MIRRORED_SIDE)
        for name in sorted(points)
        if splits[name] == split
    ]
    if not found:
        raise LandmarkDetectionError(f"'{data}' has no volumes of the split '{split}'; check the recipe's [data].")
    return found


def read_structures(volume: LocatedVolume, data: Path, structures: Sequence[str]) -> Image:
    """The label map of a volume, uint8: `OUTSIDE`, then the structures from 1 in their order.

    Raises:
        LandmarkDetectionError: the data set does not name a structure, or has no label map of this volume.
    """
    numbers = json.loads((data / "dataset.json").read_text(encoding="utf-8")).get("labels", {})
    unknown = [name for name in structures if name not in numbers]
    if unknown:
        raise LandmarkDetectionError(f"Recipe field 'structures': '{data}' has no label '{unknown[0]}'.")
    if not volume.label_path.is_file():
        raise LandmarkDetectionError(f"'{volume.label_path}' is missing; write the data set again.")
    table = np.full(256, OUTSIDE, dtype=np.uint8)
    table[[numbers[name] for name in structures]] = np.arange(1, len(structures) + 1)
    read = read_image(volume.label_path)
    return Image(table[read.array.astype(np.uint8)], read.frame, read.name)


def nearest_labels(labels: Image, window: Frame) -> np.ndarray:
    """The label of the voxel nearest to each cell of a window; outside the volume its edges go on."""
    last = np.array(labels.array.shape).reshape(-1, *(1,) * window.dims) - 1
    return labels.array[tuple(np.clip(np.rint(places(window, labels.frame)).astype(int), 0, last))]


@dataclass(frozen=True, eq=False)
class VolumeLabels:
    """Endless label maps of volumes; the source of all randomness is the generator of each call."""

    data: Path
    volumes: Sequence[LocatedVolume]
    structures: Sequence[str]
    view: VolumeView
    poses: Poses

    @cached_property
    def maps(self) -> list[tuple[Image, Frame]]:
        """Label map and standard window of each volume."""
        found = []
        for volume in self.volumes:
            labels = read_structures(volume, self.data, self.structures)
            found.append((labels, volume.first_window(self.view, labels.frame)))
        return found

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Label maps ``(count, D, H, W)``, int64."""
        rows = torch.randint(len(self.maps), (count,), generator=generator).tolist()
        noise = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        drawn = []
        for labels, window in (self.maps[row] for row in rows):
            moved = self.view.moved_window(window, random_pose(self.view, self.poses, noise))
            drawn.append(nearest_labels(labels, moved))
        return torch.from_numpy(np.stack(drawn)).long()
