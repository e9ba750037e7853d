"""The pipeline of a spine model: one column network for each fold, which knows nothing of the studies in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ...phantoms.spine import make_spine
from ..data.films import Films, subject_folds
from ..data.other_anatomy import read_other_anatomy
from ..joint.model import PHANTOM_SEED, join, network_with
from ..model import Model
from ..trainer import Schedule, train_network
from .crops import ColumnGeometry
from .films import phantom_films, read_column_films
from .likelihood import ColumnLikelihood
from .vertebra_crops import VertebraGeometry, VertebraLikelihood

HALVES = 2
"""Vertebra networks: each learns from half of the folds and is judged on the other half."""

LATERAL_WEIGHT = 3
"""How often a lateral phantom counts among the films of other anatomy, of which there are many more."""


class ColumnModel(Model):
    """Networks for the whole column, one for each fold, and for single vertebrae."""

    @cached_property
    def films(self) -> Films:
        """The labelled training films."""
        size = self.recipe["data"]["film_size"]
        return self.kept(f"films{size}", lambda: read_column_films(self.data, "train", size))

    @cached_property
    def fine_films(self) -> Films:
        """The same films at the resolution of the vertebra stage."""
        size = self.recipe["data"]["fine_size"]
        return self.kept(f"films{size}", lambda: read_column_films(self.data, "train", size))

    @cached_property
    def folds(self) -> np.ndarray:
        """Fold of each film; films of one study share it."""
        return subject_folds(self.films.subjects, self.recipe.folds, self.recipe.seed)

    def kept(self, name: str, make: Callable[[], Films]) -> Films:
        """Films of this training, see `Films.kept`."""
        return Films.kept(self.out / "films" / f"{name}.safetensors", make)

    @cached_property
    def mirror(self) -> Tensor:
        """Row whose name each landmark takes in a mirrored film."""
        return torch.from_numpy(self.schema.mirrored_rows)

    @cached_property
    def geometry(self) -> ColumnGeometry:
        stage = self.recipe["column"]
        return ColumnGeometry(tuple(stage["plan"]["size"]), stage["plan"]["extent"], **stage["geometry"])

    @cached_property
    def other_anatomy(self) -> Tensor:
        folders = [self.data / folder for folder in self.recipe["data"]["other_anatomy"]]
        others = read_other_anatomy(folders, self.recipe["data"]["film_size"])
        return torch.cat([others, *[self.lateral_phantoms.images] * LATERAL_WEIGHT])

    def phantoms(self, field: str, count: int, size: int | None = None) -> Films:
        """Phantom films of one field of view."""
        size = size or self.recipe["data"]["film_size"]
        drawn = [make_spine(PHANTOM_SEED + seed, field=field) for seed in range(count)]
        return phantom_films(drawn, size)

    @cached_property
    def phantom_films(self) -> Films:
        """Phantoms on which every landmark is seen."""
        return self.kept("phantoms", self.make_phantoms)

    def make_phantoms(self) -> Films:
        counts = self.recipe["data"]["phantoms"]
        films = join([self.phantoms(field, counts[field]) for field in ("column", "wide")])
        return films.select(torch.isfinite(films.points).all(dim=(1, 2)).tolist())

    @cached_property
    def fine_phantoms(self) -> Films:
        size, count = self.recipe["data"]["fine_size"], self.recipe["data"]["phantoms"]["fine"]
        return self.kept("fine_phantoms", lambda: self.phantoms("column", count, size))

    @cached_property
    def lateral_phantoms(self) -> Films:
        """Phantoms from the side, on which none is."""
        return self.kept("lateral", lambda: self.phantoms("lateral", self.recipe["data"]["phantoms"]["lateral"]))

    def train(self) -> None:
        """Everything, in order."""
        for fold in range(self.recipe.folds):
            self.column(fold)
        for half in range(HALVES):
            self.vertebra(half)

    def trained(self, stage: str, part: str) -> nn.Module:
        """A trained network: stage ``column``, part ``fold0``, or stage ``vertebra``, part ``half0``."""
        return network_with(self.recipe[stage]["network"], self.out / stage / part / "weights.safetensors")

    def column(self, fold: int) -> float:
        """Train the column network that does not see a fold."""
        stage = self.recipe["column"]
        schedule = Schedule(**stage["schedule"])
        torch.manual_seed(self.recipe.seed + fold)
        network = network_with(stage["network"], None)
        objective = ColumnLikelihood(
            films=self.films.select(self.folds != fold),
            phantoms=self.phantom_films,
            kept_out=self.films.select(self.folds == fold),
            others=self.other_anatomy,
            mirror=self.mirror,
            geometry=self.geometry,
            batch=schedule.batch,
            stride=network.stride,
        )
        folder = self.out / "column" / f"fold{fold}"
        return train_network(network, objective, schedule, folder, self.recipe.seed + fold, self.resume)

    def vertebra(self, half: int) -> float:
        """Train the vertebra network that does not see one half of the folds, those whose number has that rest."""
        stage = self.recipe["vertebra"]
        schedule = Schedule(**stage["schedule"])
        torch.manual_seed(self.recipe.seed + half)
        network = network_with(stage["network"], None)
        objective = VertebraLikelihood(
            films=self.fine_films.select(self.folds % HALVES != half),
            phantoms=self.fine_phantoms,
            kept_out=self.fine_films.select(self.folds % HALVES == half),
            geometry=self.vertebra_geometry,
            batch=schedule.batch,
            stride=network.stride,
        )
        folder = self.out / "vertebra" / f"half{half}"
        return train_network(network, objective, schedule, folder, self.recipe.seed + half, self.resume)

    @cached_property
    def vertebra_geometry(self) -> VertebraGeometry:
        stage = self.recipe["vertebra"]
        return VertebraGeometry(tuple(stage["plan"]["size"]), stage["plan"]["extent"], **stage["geometry"])
