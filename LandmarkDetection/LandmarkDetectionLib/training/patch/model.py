"""The pipeline of a patch model: one network looks at the whole view, others place each landmark in its own patch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from ..data.crops import CropGeometry
from ..data.films import Films
from ..data.other_anatomy import read_other_anatomy
from ..data.view_films import read_view_films
from ..joint.model import network_with
from ..model import Model
from ..trainer import Schedule, train_network
from .likelihood import PatchGeometry, PatchLikelihood
from .view_likelihood import ViewLikelihood

FOLLOWED = 24
"""Films on which a training is followed; nothing is chosen by them."""


class PatchModel(Model):
    """One network for the whole view, and several for a patch about each landmark.

    All networks learn from the whole split ``train``; the members of the patch stage differ by their seed. What is
    chosen and calibrated is on another split, which the recipe names in its section ``calibration``.
    """

    def films(self, size: int, split: str = "train") -> Films:
        """Labelled films in squares of one size."""
        path = self.out / "films" / f"{split}{size}.safetensors"
        return Films.kept(path, lambda: read_view_films(self.data, split, size))

    def kept_out(self, size: int) -> Films:
        """A few of the films for calibration: enough to follow a training by."""
        films = self.films(size, self.recipe["calibration"]["split"])
        return films.select([row < FOLLOWED for row in range(len(films))])

    @cached_property
    def other_anatomy(self) -> Tensor:
        folders = [self.data / folder for folder in self.recipe["data"]["other_anatomy"]]
        return read_other_anatomy(folders, self.recipe["data"]["film_size"])

    @cached_property
    def geometry(self) -> CropGeometry:
        stage = self.recipe["region"]
        return CropGeometry(tuple(stage["plan"]["size"]), stage["plan"]["extent"], **stage["geometry"])

    @cached_property
    def patch_geometry(self) -> PatchGeometry:
        stage = self.recipe["landmarks"]
        return PatchGeometry(tuple(stage["plan"]["size"]), stage["plan"]["extent"], **stage["geometry"])

    @property
    def members(self) -> int:
        """Networks of the patch stage."""
        return self.recipe["landmarks"]["members"]

    def train(self) -> None:
        """Everything, in order."""
        self.region()
        for member in range(self.members):
            self.landmarks(member)

    def trained(self, stage: str, part: str) -> nn.Module:
        """A trained network of the stage ``region`` (part ``all``) or ``landmarks`` (part ``member0`` and so on)."""
        return network_with(self.recipe[stage]["network"], self.out / stage / part / "weights.safetensors")

    def region(self) -> float:
        """Train the network that looks at the whole view."""
        size = self.recipe["data"]["film_size"]

        def objective(schedule: Schedule, stride: int) -> ViewLikelihood:
            return ViewLikelihood(
                self.films(size), self.kept_out(size), self.other_anatomy, self.geometry, schedule.batch, stride
            )

        return self.training("region", "all", 0, objective)

    def landmarks(self, member: int) -> float:
        """Train one network of the patch stage."""
        size = self.recipe["data"]["fine_size"]

        def objective(schedule: Schedule, stride: int) -> PatchLikelihood:
            return PatchLikelihood(
                self.films(size), self.kept_out(size), self.patch_geometry, schedule.batch, stride
            )

        return self.training("landmarks", f"member{member}", member, objective)

    def training(self, stage: str, part: str, member: int, objective: Callable) -> float:
        """Train one network; returns its figure on the films that tell how well it does."""
        schedule = Schedule(**self.recipe[stage]["schedule"])
        seed = self.recipe.seed + member
        torch.manual_seed(seed)
        network = network_with(self.recipe[stage]["network"], None)
        folder = self.out / stage / part
        return train_network(network, objective(schedule, network.stride), schedule, folder, seed, self.resume)
