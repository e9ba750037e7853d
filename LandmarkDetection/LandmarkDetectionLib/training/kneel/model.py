"""The pipeline of KNEEL (Tiulpin et al., ICCVW 2019): for each fold the tibial center, then, from there, all landmarks.

The subjects of a fold are only reported on. The epoch is chosen on a share of the other subjects that is not learnt
from, and gray values are standardized by the training films alone.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ...errors import LandmarkDetectionError
from ...inference.device import choose_device
from ...inference.networks import build_network
from ...inference.published.fold_ensemble import FoldEnsemble, FoldModel
from ...inference.published.kneel import KneelPlan, TwoStageKneel
from ..data.films import subject_folds
from ..model import Model
from ..trainer import Schedule, train_network
from .augmentation import KneelAugmentation
from .losses import make_loss
from .objective import CoordinateRegression
from .samples import STAGES, KneeFilm, Sample, gray_statistics, read_knees, sample_of
from .transfer import transfer


class KneelModel(Model):
    """Both stages of every fold."""

    @cached_property
    def plan(self) -> KneelPlan:
        return self.recipe.built("plan", KneelPlan)

    @cached_property
    def device(self) -> torch.device:
        return choose_device()[0]

    @cached_property
    def knees(self) -> tuple[KneeFilm, ...]:
        """The labelled training films.

        Raises:
            LandmarkDetectionError: they are of too few subjects for the folds.
        """
        knees = read_knees(self.data, "train", self.plan)
        subjects = len({knee.subject for knee in knees})
        if self.recipe.folds < 2 or subjects < 2 * self.recipe.folds:
            raise LandmarkDetectionError(
                f"{subjects} subjects cannot be cross-validated in {self.recipe.folds} folds; take 2 folds or more, "
                "and at least two subjects for each."
            )
        return knees

    @cached_property
    def folds(self) -> np.ndarray:
        """Fold of each film, grouped by subject."""
        return subject_folds([knee.subject for knee in self.knees], self.recipe.folds, self.recipe.seed)

    def parts(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to learn from and rows to choose the epoch by, neither of them of the fold."""
        rows = np.flatnonzero(self.folds != fold)
        subjects = [self.knees[row].subject for row in rows]
        shares = min(self.recipe["data"]["choosing_shares"], len(set(subjects)))
        chooses = subject_folds(subjects, shares, self.recipe.seed) == 0
        return rows[~chooses], rows[chooses]

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Every film as each stage sees it."""
        return {stage: [sample_of(knee, stage, self.plan) for knee in self.knees] for stage in STAGES}

    def statistics(self, stage: str, fold: int) -> tuple[float, float]:
        """Mean and deviation of the gray values that a stage of a fold learns from."""
        return gray_statistics([self.samples[stage][row] for row in self.parts(fold)[0]])

    def description(self, stage: str) -> dict:
        """The network of a stage: both have the same but for the number of landmarks."""
        return self.recipe["network"] | {"out_channels": 1 if stage == "low_cost" else self.plan.landmarks}

    def train(self) -> None:
        """Both stages of every fold, in order."""
        for fold in range(self.recipe.folds):
            for stage in STAGES:
                self.train_stage(stage, fold)

    def folder(self, stage: str, fold: int) -> Path:
        """Where a network is kept."""
        return self.out / stage / f"fold{fold}"

    def train_stage(self, stage: str, fold: int) -> float:
        """Train one network; returns the best loss on the films that choose the epoch."""
        torch.manual_seed(self.recipe.seed + fold)
        network = build_network(self.description(stage))
        if stage == "high_cost":
            transfer(load_file(self.folder("low_cost", fold) / "weights.safetensors"), network)
        objective, schedule = self.objective(stage, fold)
        return train_network(
            network.to(self.device),
            objective,
            schedule,
            self.folder(stage, fold),
            self.recipe.seed + fold,
            self.resume,
            criterion=objective.criterion,
        )

    def objective(self, stage: str, fold: int) -> tuple[CoordinateRegression, Schedule]:
        """What a network learns and for how long; an epoch is one pass unless the recipe says its steps."""
        learns, chooses = self.parts(fold)
        wanted = self.recipe[stage]
        batch = min(wanted["batch"], len(learns))
        schedule = self.recipe.built(stage, Schedule, **{"steps": len(learns) // batch} | wanted | {"batch": batch})
        mean, deviation = self.statistics(stage, fold)
        loss = dict(self.recipe["loss"])
        sizes = {"side": self.plan.side, "padded_side": self.plan.padded_side}
        objective = CoordinateRegression(
            samples=[self.samples[stage][row] for row in learns],
            kept_out=[self.samples[stage][row] for row in chooses],
            augmentation=self.recipe.built("augmentation", KneelAugmentation, mean=mean, deviation=deviation, **sizes),
            criterion=make_loss(loss.pop("name"), **loss).to(self.device),
            **self.recipe["mixup"],
            batch=batch,
            channels=self.recipe["network"]["in_channels"],
            device=self.device,
        )
        return objective, schedule

    def fold_model(self, stage: str, fold: int) -> FoldModel:
        """A trained network with the statistics of its films."""
        network: nn.Module = build_network(self.description(stage))
        network.load_state_dict(load_file(self.folder(stage, fold) / "weights.safetensors"))
        return FoldModel(network, *self.statistics(stage, fold), self.recipe["network"]["in_channels"])

    def detector(self, fold: int) -> TwoStageKneel:
        """The two stages of one fold."""
        flips = self.recipe["inference"]["flip_averaging"]
        predictors = [FoldEnsemble([self.fold_model(stage, fold)], flips, self.device) for stage in STAGES]
        return TwoStageKneel(*predictors, self.plan)
