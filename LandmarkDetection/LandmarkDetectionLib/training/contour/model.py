"""The pipeline of Contour-Hugging Heatmaps (McCouat and Voiculescu, CVPR 2022): one network for all landmarks.

It learns from the split ``train`` and nothing is chosen by any film. What is fitted afterwards, temperatures and the
threshold of review, comes from one half of another split and is checked on the other half.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ...errors import LandmarkDetectionError
from ...evaluation.dataset import DataSet, read_dataset
from ...inference.device import choose_device
from ...inference.networks import build_network
from ...inference.published.contour_view import ContourPlan
from ...landmarks import Landmark, LandmarkSchema
from ..model import Model
from ..trainer import Schedule, train_network
from .augmentation import ContourAugmentation
from .objective import PRECISIONS, OneHotLikelihood
from .samples import ContourFilms, read_contour_films


class ContourModel(Model):
    """One network, trained once and kept below ``out``."""

    @cached_property
    def dataset(self) -> DataSet:
        """What the folder of data says.

        Raises:
            LandmarkDetectionError: its landmarks are not as many as the recipe's network finds.
        """
        dataset = read_dataset(self.data)
        outputs = self.recipe["network"]["out_channels"]
        if len(dataset.landmarks) != outputs:
            raise LandmarkDetectionError(
                f"The data set '{dataset.name}' has {len(dataset.landmarks)} landmarks; the recipe's network {outputs}."
            )
        return dataset

    @cached_property
    def schema(self) -> LandmarkSchema:
        """The landmarks of the data set, under their names there: any data set of films will do."""
        landmarks = tuple(Landmark(name, name, name, "") for name in self.dataset.landmarks)
        return LandmarkSchema(self.dataset.name, self.dataset.title, 2, landmarks, (), {}, "")

    @cached_property
    def films(self) -> ContourFilms:
        """The training films."""
        return read_contour_films(self.dataset, "train", self.recipe.built("plan", ContourPlan))

    @cached_property
    def plan(self) -> ContourPlan:
        """The recipe's plan with the gray values of the training films.

        Raises:
            LandmarkDetectionError: all training films are of one gray value.
        """
        mean, deviation = self.films.gray_statistics()
        if deviation == 0:
            raise LandmarkDetectionError(f"The training films of '{self.data}' show nothing; choose another data set.")
        return replace(self.recipe.built("plan", ContourPlan), mean=mean, deviation=deviation)

    @cached_property
    def device(self) -> torch.device:
        return choose_device()[0]

    @property
    def folder(self) -> Path:
        """Where the network is kept."""
        return self.out / "network"

    def objective(self) -> tuple[OneHotLikelihood, Schedule]:
        """What the network learns and for how long; an epoch is one pass unless the recipe says its steps."""
        precision = self.recipe["loss"]["precision"]
        if precision not in PRECISIONS:
            raise LandmarkDetectionError(
                f"Recipe field 'precision': '{precision}' is not one of {', '.join(PRECISIONS)}."
            )
        wanted = self.recipe["schedule"]
        batch = min(wanted["batch"], len(self.films))
        steps = wanted.get("steps", len(self.films) // batch)
        objective = OneHotLikelihood(
            films=self.films,
            plan=self.plan,
            augmentation=self.recipe.built("augmentation", ContourAugmentation),
            batch=batch,
            precision=precision,
            device=self.device,
        )
        return objective, self.recipe.built("schedule", Schedule, batch=batch, steps=steps)

    def train(self) -> None:
        """Train the network from random weights; the last epoch stays."""
        torch.manual_seed(self.recipe.seed)
        network = build_network(self.recipe["network"]).to(self.device)
        if network.stride != 1:
            raise LandmarkDetectionError(
                "Recipe field 'decoder': the heatmaps must be as large as the input; give one level more than 'widths'."
            )
        objective, schedule = self.objective()
        train_network(network, objective, schedule, self.folder, self.recipe.seed, self.resume)

    def trained(self) -> nn.Module:
        """The trained network in evaluation mode."""
        network = build_network(self.recipe["network"])
        network.load_state_dict(load_file(self.folder / "weights.safetensors"))
        return network.to(self.device).eval()
