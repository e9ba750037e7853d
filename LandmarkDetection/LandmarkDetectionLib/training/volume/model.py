"""The two pipelines for volumes: vertebrae and their points; a knee and its points."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...inference.levels import level_rows
from ...inference.networks import build_network
from ...networks.layout import LAYOUT
from ...phantoms.spine_scene import column_shapes
from ...preprocessing.volume_window import WindowPlan
from ...priors import ShapePrior
from ..model import Model
from ..trainer import Objective, Schedule, train_network
from .point_finding import PointFinding
from .scans import Scans, read_scans
from .vertebra_finding import VertebraFinding
from .windows import WindowGeometry

FOLLOWED = 16
"""Scans on which a training is followed; nothing is chosen by them."""


class VolumeModel(Model):
    """One network ``finding`` the anatomy, and one for its ``points``.

    Both learn from the whole split ``train``; what is chosen and calibrated is on the split that the recipe names in
    its section ``calibration``.
    """

    kind: ClassVar[str]

    def plan(self, stage: str) -> WindowPlan:
        """Preprocessing of a stage."""
        return WindowPlan.from_dict(self.recipe[stage]["plan"])

    def spacing(self, stage: str) -> float:
        """Of the scans that a stage learns from: its own, where that is not finer than the scans are."""
        return max(self.plan(stage).spacing, self.recipe["data"]["spacing"])

    def geometry(self, stage: str) -> WindowGeometry:
        """Training windows of a stage."""
        window = self.recipe[stage]["window"]
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in window.items()}
        return WindowGeometry(**fields, step=self.plan(stage).spacing / self.spacing(stage))

    def scans(self, stage: str, split: str = "train") -> Scans:
        """Volumes for a stage."""
        return self.kept(split, self.data, stage, split)

    def kept_out(self, stage: str) -> Scans:
        """A few of the volumes for calibration: enough to follow a training by."""
        return self.scans(stage, self.recipe["calibration"]["split"]).first(FOLLOWED)

    @cached_property
    def others(self) -> Scans:
        """Volumes of other anatomy, for the stage that finds."""
        return self.kept("others", self.data / self.recipe["data"]["others"], "finding", "train")

    def kept(self, name: str, data: Path, stage: str, split: str) -> Scans:
        """Volumes of a data set, read once."""
        spacing = self.spacing(stage)
        path = self.out / "scans" / f"{name}-{spacing:g}mm.safetensors"
        return Scans.kept(path, lambda: read_scans(data, split, spacing, self.plan(stage)))

    def train(self) -> None:
        """Everything, in order."""
        for stage in ("finding", "points"):
            self.training(stage)

    def trained(self, stage: str) -> nn.Module:
        """A trained network."""
        network = build_network(self.recipe[stage]["network"])
        network.load_state_dict(load_file(self.out / stage / "weights.safetensors"))
        return network

    def training(self, stage: str) -> float:
        """Train one network; returns its figure on scans kept out."""
        schedule = Schedule(**self.recipe[stage]["schedule"])
        torch.manual_seed(self.recipe.seed)
        network = build_network(self.recipe[stage]["network"]).to(memory_format=LAYOUT[3])
        objective = {"finding": self.finding, "points": self.points}[stage](schedule, network.stride)
        return train_network(network, objective, schedule, self.out / stage, self.recipe.seed, self.resume)

    @abstractmethod
    def prior(self) -> ShapePrior:
        """What shapes are likely."""

    @abstractmethod
    def finding(self, schedule: Schedule, stride: int) -> Objective:
        """What the first network learns."""

    @abstractmethod
    def points(self, schedule: Schedule, stride: int) -> Objective:
        """What the second network learns."""


class SpineVolumes(VolumeModel):
    """Vertebrae anywhere, the level of each, and its seven points."""

    kind = "volume_column"

    def prior(self) -> ShapePrior:
        """From phantoms: no scan shows a column from end to end as often as it takes."""
        about = self.recipe["prior"]
        return ShapePrior.fit(column_shapes(range(about["seed"], about["seed"] + about["phantoms"])))

    @property
    def rows(self) -> Tensor:
        """(L, P) rows of the landmarks of each level, the center first."""
        return torch.from_numpy(level_rows(self.schema))

    def finding(self, schedule: Schedule, stride: int) -> VertebraFinding:
        return VertebraFinding(
            self.scans("finding"), self.kept_out("finding"), self.others, self.rows, self.geometry("finding"),
            schedule.batch, stride,
        )  # fmt: skip

    def points(self, schedule: Schedule, stride: int) -> PointFinding:
        return PointFinding(
            self.scans("points"), self.kept_out("points"), self.rows, self.geometry("points"), schedule.batch, stride,
            any_side=True,
        )  # fmt: skip


class KneeVolumes(VolumeModel):
    """One knee, as a right one, and its points."""

    kind = "volume_joint"

    def prior(self) -> ShapePrior:
        """From the scans that show all landmarks."""
        scans = [scan for scan in self.scans("points") if torch.isfinite(scan.points).all()]
        mirror = {side: np.array([-1.0 if side == self.mirrored else 1.0, 1.0, 1.0]) for side in ("left", "right")}
        shapes = [scan.points.double().numpy() * mirror[scan.side] for scan in scans]
        return ShapePrior.fit(np.stack(shapes), [scan.group for scan in scans])

    @property
    def mirrored(self) -> str:
        """Side of the body that the networks see mirrored."""
        return self.recipe["bundle"]["mirrored_side"]

    def finding(self, schedule: Schedule, stride: int) -> PointFinding:
        return self.placing("finding", schedule, stride, hinted=False)

    def points(self, schedule: Schedule, stride: int) -> PointFinding:
        return self.placing("points", schedule, stride, hinted=True)

    def placing(self, stage: str, schedule: Schedule, stride: int, hinted: bool) -> PointFinding:
        """All landmarks in a window about them, as a knee of one side shows them."""
        rows = torch.arange(len(self.schema.landmarks))[None]
        return PointFinding(
            self.scans(stage), self.kept_out(stage), rows, self.geometry(stage), schedule.batch, stride,
            about_mean=True, mirrored=self.mirrored, hinted=hinted,
        )  # fmt: skip
