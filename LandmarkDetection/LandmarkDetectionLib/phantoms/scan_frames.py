"""Frames of spine and knee scans: what part of the body they show, at which spacing, how they are turned."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..geometry import Frame
from .scene import Scene
from .shapes import Pose

Modality = Literal["ct", "t1", "t2"]
SPINE_FIELDS = {  # first and last level that the middle of the volume may show
    "lumbar": ("T12", "L5"), "thoracolumbar": ("T8", "L3"), "thoracic": ("T2", "T11"), "cervical": ("C3", "T3"),
    "whole": ("C3", "L5"), "lumbosacral": ("T12", "L5"),
}  # fmt: skip
SPINE_TURNS = tuple(SPINE_FIELDS)[:5]
"""Fields that a data set shows in turns."""
BELOW = {"lumbosacral": (50.0, 170.0)}  # mm that a field shows below its last level, others end near it
KNEE_FIELDS = ("joint", "wide")
LPS_AXES = np.eye(3)
SAGITTAL_AXES = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])  # columns: to posterior, downwards, from right to left


def placed(centre, size, spacing, axes=LPS_AXES, degrees=(0.0, 0.0, 0.0)) -> Frame:
    """A frame of `size` voxels around `centre` (LPS mm), its axes turned by `degrees` about L, P and S."""
    steps = Pose(tuple(degrees)).matrix @ axes * np.asarray(spacing, dtype=float)
    origin = np.asarray(centre, dtype=float) - steps @ ((np.asarray(size) - 1) / 2)
    return Frame(tuple(int(n) for n in size), origin, steps, "calibrated")


def draw_spine_frame(
    rng: np.random.Generator, scene: Scene, modality: Modality, field: str, spacing: float | None = None
) -> Frame:
    """A frame that shows the levels of a field, cut somewhere near its ends; even voxels of `spacing` mm if given."""
    places = dict(zip(scene.ids, scene.landmarks(), strict=True))
    first, last = SPINE_FIELDS[field]
    levels = [name.split("_")[0] for name in scene.ids if name.endswith("_C")]
    shown = np.array([places[f"{name}_C"] for name in levels[levels.index(first) : levels.index(last) + 1]])
    top = shown[:, 2].max() + rng.uniform(-12, 30)
    bottom = shown[:, 2].min() - rng.uniform(*BELOW.get(field, (-12.0, 30.0)))
    low, high = shown[:, :2].min(axis=0), shown[:, :2].max(axis=0)
    middle = np.append((low + high) / 2 + rng.uniform(-12, 12, 2) + (0, 8), (top + bottom) / 2)
    spread = high - low
    degrees = rng.normal(0, (2.0, 1.5, 2.0))
    if modality == "ct":
        if rng.random() < 0.4:  # the whole trunk instead of the spine alone
            extent = np.array([420.0, 320.0, top - bottom])
            middle = middle - (0, 40, 0)
        else:
            extent = np.append(np.maximum(spread + rng.uniform(70, 110), 150), top - bottom)
        across = rng.uniform(0.6, 1.0)
        voxel = np.array([across, across, rng.uniform(0.8, 3.0)])
        return placed(middle, _count(extent, spacing or voxel), spacing or voxel, LPS_AXES, degrees)
    extent = np.array([spread[1] + rng.uniform(130, 200), top - bottom, spread[0] + rng.uniform(50, 80)])
    across = rng.uniform(0.6, 1.1)
    voxel = np.array([across, across, rng.uniform(3.0, 5.0)])
    return placed(middle, _count(extent, spacing or voxel), spacing or voxel, SAGITTAL_AXES, degrees)


def draw_knee_frame(
    rng: np.random.Generator, scene: Scene, modality: Modality, field: str, spacing: float | None = None
) -> Frame:
    """A frame around the joint: "joint" may cut the tuberosity off, "wide" shows more of both shafts."""
    points = scene.landmarks()
    height = rng.uniform(78, 150) if field == "joint" else rng.uniform(170, 260)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2 + rng.uniform(-8, 8, 3) + (0, 0, rng.uniform(0, 14))
    degrees = rng.normal(0, (3.0, 3.0, 4.0))
    if modality == "ct":
        across = rng.uniform(0.4, 0.8)
        voxel = np.array([across, across, rng.uniform(0.6, 2.0)])
        extent = np.array([*rng.uniform(130, 180, 2), height])
        return placed(middle, _count(extent, spacing or voxel), spacing or voxel, LPS_AXES, degrees)
    across = rng.uniform(0.4, 0.7)
    voxel = np.array([across, across, rng.uniform(2.5, 4.0)])
    extent = np.array([rng.uniform(130, 170), height, rng.uniform(105, 125)])
    return placed(middle, _count(extent, spacing or voxel), spacing or voxel, SAGITTAL_AXES, degrees)


def _count(extent: np.ndarray, voxel) -> np.ndarray:
    return np.maximum(np.rint(np.asarray(extent) / voxel), 8).astype(int)
