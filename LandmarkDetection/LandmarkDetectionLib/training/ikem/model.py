"""The pipeline of interactive keypoint estimation (Kim et al., MICCAI 2022, and a student project on top of it).

Films are grouped by study into folds inside the training split. A network learns from all folds but one, which chooses
its epoch; nothing else is ever opened.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import LandmarkDetectionError
from ...inference.device import choose_device
from ...inference.published.ikem_folder import build_interactive
from ...inference.published.ikem_view import IkemPlan
from ...landmarks import LandmarkSchema, load_schema
from ..data.films import subject_folds
from ..model import Model
from ..trainer import Schedule, train_network
from .augmentation import IkemAugmentation
from .interaction import Interaction
from .losses import IkemLoss, Morphology, shares_of_height
from .objective import InteractiveHeatmaps
from .samples import IkemFilms, read_ikem_films

WARMING = "without_hints"
"""Section of a recipe whose networks first learn without hints."""


class IkemModel(Model):
    """Interactive networks, one for each fold."""

    @cached_property
    def plan(self) -> IkemPlan:
        return self.recipe.built("plan", IkemPlan, channels=self.recipe["network"]["in_channels"])

    @cached_property
    def schema(self) -> LandmarkSchema:
        """The landmarks.

        Raises:
            LandmarkDetectionError: the network has another number of outputs.
        """
        schema = load_schema(self.recipe["data"]["schema"])
        outputs = self.recipe["network"]["out_channels"]
        if outputs != len(schema.landmarks):
            raise LandmarkDetectionError(
                f"The schema '{schema.name}' has {len(schema.landmarks)} landmarks; the recipe's network {outputs}."
            )
        return schema

    @cached_property
    def device(self) -> torch.device:
        return choose_device()[0]

    @cached_property
    def films(self) -> IkemFilms:
        """The labelled training films.

        Raises:
            LandmarkDetectionError: they are of too few groups for the folds.
        """
        resort = self.recipe["data"]["resort_vertebrae"]
        films = read_ikem_films(self.data, "train", self.plan, len(self.schema.landmarks), resort)
        groups = len(set(films.groups))
        if not 1 <= self.members <= self.recipe.folds or not 2 <= self.recipe.folds <= groups:
            raise LandmarkDetectionError(
                f"{groups} groups of films cannot be cross-validated in {self.recipe.folds} folds with {self.members} "
                "networks; take 2 folds or more, at least a group for each, and no more networks than folds."
            )
        return films

    @property
    def members(self) -> int:
        """Number of networks: the first folds each choose one."""
        return self.recipe["data"]["networks"]

    @cached_property
    def folds(self) -> np.ndarray:
        """Fold of each film, grouped by study."""
        return subject_folds(self.films.groups, self.recipe.folds, self.recipe.seed)

    @cached_property
    def mirror(self) -> Tensor:
        """Row whose name each landmark takes in a mirrored film."""
        return torch.from_numpy(self.schema.mirrored_rows)

    def train(self) -> None:
        """Every network, in order."""
        for fold in range(self.members):
            self.train_fold(fold)

    def folder(self, fold: int, stage: str = "schedule") -> Path:
        """Where a network is kept."""
        return self.out / ("network" if stage == "schedule" else stage) / f"fold{fold}"

    def train_fold(self, fold: int) -> float:
        """Train one network, without hints first where the recipe says so; returns the figure that chose its epoch."""
        torch.manual_seed(self.recipe.seed + fold)
        network = self.untrained().to(self.device)
        if WARMING in self.recipe.sections:
            self.train_stage(network, fold, WARMING)
            network.load_state_dict(load_file(self.folder(fold, WARMING) / "weights.safetensors"))
        return self.train_stage(network, fold, "schedule")

    def untrained(self) -> nn.Module:
        """The recipe's network with random weights.

        Raises:
            LandmarkDetectionError: it does not take the hints, or has not the outputs, that the recipe needs.
        """
        network = build_interactive(self.recipe["network"])
        needed = 2 * len(self.schema.landmarks)
        if network.hint_channels != needed:
            raise LandmarkDetectionError(
                f"Recipe field 'hint_channels': the network takes {network.hint_channels}, but two for each landmark "
                f"are needed: {needed}."
            )
        if self.recipe["loss"]["auxiliary"] and not getattr(network, "has_auxiliary", False):
            raise LandmarkDetectionError("Recipe field 'auxiliary': this network has no auxiliary output; say false.")
        return network

    def train_stage(self, network: nn.Module, fold: int, stage: str) -> float:
        """Train a network in place by one of the recipe's schedules."""
        objective, schedule = self.objective(fold, stage, network.hint_stride)
        folder = self.folder(fold, stage)
        return train_network(network, objective, schedule, folder, self.recipe.seed + fold, self.resume)

    def objective(self, fold: int, stage: str, stride: int) -> tuple[InteractiveHeatmaps, Schedule]:
        """What a network learns and for how long; an epoch is one pass unless the recipe says its steps."""
        films = self.films.select(self.folds != fold)
        wanted = self.recipe[stage]
        batch = min(wanted["batch"], len(films))
        schedule = self.recipe.built(stage, Schedule, **{"steps": len(films) // batch} | wanted | {"batch": batch})
        keep_proportions = self.plan.fit == "letterbox"
        objective = InteractiveHeatmaps(
            films=films,
            kept_out=self.films.select(self.folds == fold),
            plan=self.plan,
            augmentation=self.recipe.built(
                "augmentation", IkemAugmentation, mirror=self.mirror, keep_proportions=keep_proportions
            ),
            criterion=self.criterion(films, stride),
            interaction=None if stage == WARMING else self.interaction,
            batch=batch,
            stride=stride,
            clicks=tuple(self.recipe["validation"]["clicks"]),
            decoding=self.recipe["inference"]["decoding"],
            device=self.device,
        )
        return objective, schedule

    @cached_property
    def interaction(self) -> Interaction:
        return self.recipe.built("interaction", Interaction)

    def criterion(self, films: IkemFilms, stride: int) -> IkemLoss:
        """The loss; pairs and triplets are chosen by the training films of the fold."""
        wanted = dict(self.recipe["loss"])
        count = wanted.pop("relations")
        whole = torch.isfinite(films.points).all(dim=-1).all(dim=-1)
        morphology = None
        if count and (wanted.get("distance") or wanted.get("angle")):
            shapes = shares_of_height(films.points[whole], films.scales[whole], self.plan.size[1])
            morphology = Morphology.steadiest(shapes, count)
        return IkemLoss(self.plan.hint_deviation / stride, morphology, **wanted)

    def trained(self, fold: int) -> nn.Module:
        """A trained network in evaluation mode."""
        network = build_interactive(self.recipe["network"])
        network.load_state_dict(load_file(self.folder(fold) / "weights.safetensors"))
        return network.to(self.device).eval()
