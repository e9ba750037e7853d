"""Unlabelled images for the image encoder: which films, of which side, and windows of films or volumes as bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from torch import Tensor

from ...errors import LandmarkDetectionError
from ...geometry import Frame
from ...images import Image, read_image
from ...inference.bundle import find_bundle
from ...inference.networks import Ensemble
from ...inference.region import SIDES, RegionStage
from ...preprocessing.crop import whole_film
from ...priors.anatomy_view import AnatomyView, GridView
from ...priors.anatomy_volume_view import VolumeView
from ...priors.procrustes import Similarity
from ..data.films import MIRRORED_SIDE, read_labels, side_of, subject_of
from ..data.shapes import read_shapes
from .labels import Poses

STEPS = 255

View = AnatomyView | VolumeView


class UnlabelledImage(Protocol):
    """An image by its file that can be put into a window."""

    path: Path

    def first_window(self, view: View, frame: Frame) -> Frame: ...


@dataclass(frozen=True)
class UnlabelledFilm:
    """A film by its file, and whether it shows a left knee."""

    path: Path
    mirrored: bool

    def first_window(self, view: AnatomyView, frame: Frame) -> Frame:
        """The window that needs no landmarks."""
        return view.first_window(frame, self.mirrored)


@dataclass(frozen=True, eq=False)
class GrayWindows:
    """Windows ``(N, V, [D,] H, W)`` of N images as bytes, V views each; byte 0 is ``-limit``, byte 255 ``limit``."""

    bytes: Tensor
    names: tuple[str, ...]
    limit: float

    def gray(self, windows: Tensor) -> Tensor:
        """Bytes ``(B, [D,] H, W)`` as gray values ``(B, 1, [D,] H, W)``."""
        return windows[:, None].float() * (2 * self.limit / STEPS) - self.limit

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Gray values of random images in random views."""
        rows = torch.randint(len(self.bytes), (count,), generator=generator)
        views = torch.randint(self.bytes.shape[1], (count,), generator=generator)
        return self.gray(self.bytes[rows, views])

    def select(self, rows: Sequence[int]) -> GrayWindows:
        """Some of the images."""
        return GrayWindows(self.bytes[list(rows)], tuple(self.names[row] for row in rows), self.limit)

    @classmethod
    def kept(cls, path: Path, make: Callable[[], GrayWindows]) -> GrayWindows:
        """Windows that take long to make, made once for all resumed runs."""
        if not path.exists():
            windows = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            metadata = {"names": json.dumps(windows.names), "limit": repr(windows.limit)}
            save_file({"bytes": windows.bytes}, part, metadata=metadata)
            os.replace(part, path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            names = tuple(json.loads(metadata["names"]))
            return cls(file.get_tensor("bytes"), names, float(metadata["limit"]))


def named_films(folder: Path, shapes: Path) -> list[UnlabelledFilm]:
    """Named films of subjects without any label and without any shape: a subject is in one place only."""
    labelled = {subject_of(name) for name in read_labels(folder)[0]}
    taken = labelled | set(read_shapes(shapes, excluded_splits=()).subjects)
    paths = sorted((folder / "images").glob("*.png"))
    return [
        UnlabelledFilm(path, side_of(path.name) == MIRRORED_SIDE)
        for path in paths
        if subject_of(path.name) not in taken
    ]


def nameless_films(folder: Path, side_model: str) -> list[UnlabelledFilm]:
    """Films without identity; the region stage of a bundle tells their side, and nothing else of it is used."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        return []
    bundle = find_bundle(side_model)
    region = RegionStage(Ensemble(bundle, bundle.stages["region"], torch.device("cpu")), bundle.mirrored_side)
    return [UnlabelledFilm(path, side_seen(read_image(path), region) == MIRRORED_SIDE) for path in paths]


def side_seen(image: Image, region: RegionStage) -> str:
    """The side of the body under which the region stage is surer of a knee."""
    plan = region.plan
    windows = {side: whole_film(image, plan.size, plan.crop, region.mirrored(side)) for side in SIDES}
    return max(region.look(image, windows, lambda: False).values(), key=lambda found: found.presence).side


def gray_windows(images: Iterable[UnlabelledImage], view: View, poses: Poses, views: int, seed: int) -> GrayWindows:
    """Windows of images: the first window, and the same moved, turned and scaled at random.

    Raises:
        LandmarkDetectionError: there are no images.
    """
    generator = np.random.default_rng(seed)
    windows, names = [], []
    for unlabelled in images:
        image = read_image(unlabelled.path)
        first = unlabelled.first_window(view, image.frame)
        frames = [first] + [view.moved_window(first, random_pose(view, poses, generator)) for _ in range(views - 1)]
        grays = np.stack([view.gray(image, frame) for frame in frames])
        windows.append(np.round((grays + view.limit) * (STEPS / (2 * view.limit))).astype(np.uint8))
        names.append(unlabelled.path.name)
    if not windows:
        raise LandmarkDetectionError("There are no unlabelled images to learn from; check the recipe's section [data].")
    return GrayWindows(torch.from_numpy(np.stack(windows)), tuple(names), view.limit)


def random_pose(view: GridView, poses: Poses, generator: np.random.Generator) -> Similarity:
    """A small random movement of a window about its middle."""
    angles = view.dims * (view.dims - 1) // 2
    values = generator.standard_normal(1 + angles + view.dims)
    scale, rotation = float(np.exp(poses.scale * values[0])), turn(np.radians(poses.rotation * values[1 : 1 + angles]))
    middle = (np.asarray(view.size) - 1) / 2
    moved = middle + values[1 + angles :] * poses.shift * (view.size[0] / view.extent)
    return Similarity(scale, rotation, moved - scale * rotation @ middle)


def turn(angles: np.ndarray) -> np.ndarray:
    """The rotation by one angle in the plane, or by a rotation vector in space, in radians."""
    if len(angles) == 3:
        return Rotation.from_rotvec(angles).as_matrix()
    cosine, sine = np.cos(angles[0]), np.sin(angles[0])
    return np.array([[cosine, -sine], [sine, cosine]])
