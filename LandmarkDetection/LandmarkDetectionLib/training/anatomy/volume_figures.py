"""What an anatomical prior is measured by on labelled volumes: Dice of each structure, over a window's voxels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np

from ...geometry import Frame
from ...images import Image, read_image
from ...priors.anatomy_folder import AnatomyFolder
from ...priors.anatomy_segmentation import Segmentation, places
from .labels import Poses
from .samples import random_pose
from .volumes import located_volumes, nearest_labels, read_structures

Method = Callable[[Image, Frame], Segmentation]


def volume_methods(folder: AnatomyFolder) -> dict[str, Method]:
    """Every way to segment a window of a volume that a folder offers, by name."""
    return {
        "learned prior, posterior": folder.prior.look,
        "learned prior, bare decoder": lambda image, window: folder.prior.look(image, window, bare=True),
        "EM + static atlas": folder.atlas.segment,
        "prior only": lambda image, window: folder.atlas.prior_only(window),
    }


def measure_volumes(
    folder: AnatomyFolder,
    data: Path,
    split: str,
    poses: Poses | None = None,
    chosen: Mapping[str, Method] | None = None,
) -> dict[str, dict]:
    """Figures of each method on the labelled volumes of a split.

    Args:
        folder: the trained prior.
        data: the data set.
        split: of the data set.
        poses: moves every window at random, the same for all methods: landmarks that are off. None leaves them exact.
        chosen: methods; all of the folder by default.
    """
    view, structures = folder.prior.settings.view, folder.label_names[1:]
    methods = volume_methods(folder) if chosen is None else chosen
    found: dict[str, list[dict]] = {name: [] for name in methods}
    for row, volume in enumerate(located_volumes(data, split)):
        image, truth = read_image(volume.path), read_structures(volume, data, structures)
        window = volume.first_window(view, image.frame)
        if poses is not None:
            window = view.moved_window(window, random_pose(view, poses, np.random.default_rng([row])))
        box = about(image.frame, window)
        inside, seen = within(box, window), nearest_labels(truth, box)
        for name, method in methods.items():
            start = time.perf_counter()
            segmentation = method(image, window)
            seconds = time.perf_counter() - start
            dice = structure_dice(segmentation.on(box)[inside], seen[inside], structures)
            found[name].append({"seconds": seconds, "dice": dice})
    return {name: summary(volumes, structures) for name, volumes in found.items()}


def about(frame: Frame, window: Frame) -> Frame:
    """The part of a frame that a window may reach, on the same voxels."""
    corners = np.array(list(product(*((0, n - 1) for n in window.size))))
    reach = frame.to_index(window.to_physical(corners))
    first = np.clip(np.floor(reach.min(axis=0)), 0, np.array(frame.size) - 1).astype(int)
    last = np.clip(np.ceil(reach.max(axis=0)), first, np.array(frame.size) - 1).astype(int)
    return frame.cropped(first, last - first + 1)


def within(frame: Frame, window: Frame) -> np.ndarray:
    """Whether each voxel ``(d, h, w)`` of a frame lies between the outermost cells of a window."""
    last = np.array(window.size[::-1]).reshape(-1, *(1,) * frame.dims) - 1
    at = places(frame, window)
    return ((at >= 0) & (at <= last)).all(axis=0)


def structure_dice(labels: np.ndarray, truth: np.ndarray, structures: tuple[str, ...]) -> dict[str, float]:
    """Dice of each structure, numbered from 1; NaN where the truth does not have it."""
    scores = {}
    for number, name in enumerate(structures, start=1):
        ours, theirs = labels == number, truth == number
        total = int(ours.sum() + theirs.sum())
        scores[name] = 2 * int((ours & theirs).sum()) / total if theirs.any() else float("nan")
    return scores


def summary(volumes: list[dict], structures: tuple[str, ...]) -> dict:
    """Mean, median and smallest Dice of each structure over the volumes that show it, and the median seconds."""
    dice = {}
    for name in structures:
        values = np.array([volume["dice"][name] for volume in volumes])
        values = values[np.isfinite(values)]
        kept = values if len(values) else np.array([np.nan])
        dice[name] = {"mean": float(kept.mean()), "median": float(np.median(kept)), "smallest": float(kept.min())}
        dice[name]["volumes"] = len(values)
    seconds = float(np.median([volume["seconds"] for volume in volumes]))
    return {"volumes": len(volumes), "dice": dice, "seconds": seconds}
