"""Where anatomical priors learn from and are measured: films with the shapes of others, or volumes with label maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ...priors.anatomy_folder import AnatomyFolder
from ...priors.anatomy_view import LABELS, OUTSIDE, AnatomyView
from ...priors.anatomy_volume_view import VolumeView
from ..data.shapes import read_shapes
from ..recipe import Recipe
from .figures import measure
from .labels import Closure, KneeLabels, Poses
from .objective import LabelSource
from .samples import GrayWindows, View, gray_windows, named_films, nameless_films
from .volume_figures import measure_volumes
from .volumes import VolumeLabels, located_volumes

SHAPE_SPLIT = "free"


class AnatomySource(Protocol):
    """A recipe applied to a data set of one kind.

    Attributes:
        images: what they are called.
        unit: of the figures.
        view: from image to gray values.
        label_names: in the order of the labels; the first is that of all which is none of the others.
        labels: label maps to learn the prior from.
        closure: of films, see `labels`.
    """

    images: str
    unit: str
    view: View
    label_names: tuple[str, ...]
    labels: LabelSource
    closure: dict

    def windows(self) -> GrayWindows:
        """Windows of the images whose labels are not read."""

    def learnt(self) -> dict[str, int]:
        """How much the prior was learnt from."""

    def figures(self, folder: AnatomyFolder) -> dict[str, dict]:
        """Figures of every method on what neither stage saw."""


def source_of(recipe: Recipe, data: Path) -> AnatomySource:
    """Films or volumes, by the number of axes of the recipe's view."""
    return (VolumeSource if len(recipe["view"]["size"]) == 3 else FilmSource)(recipe, data)


@dataclass
class FilmSource:
    """Label maps drawn from annotated shapes, films without labels, labelled films of yet others."""

    recipe: Recipe
    data: Path
    images = "films"
    unit = "224ths of the film's width"
    label_names = LABELS

    @cached_property
    def view(self) -> AnatomyView:
        return self.recipe.built("view", AnatomyView)

    @cached_property
    def closure(self) -> dict:
        return vars(self.recipe.built("closure", Closure))

    @cached_property
    def labels(self) -> KneeLabels:
        """Label maps of shapes whose subjects have no labelled film."""
        table = read_shapes(self.data / self.recipe["data"]["shapes"], excluded_splits=("train", "val"))
        rows = [row for row, split in enumerate(table.splits) if split == SHAPE_SPLIT]
        poses = self.recipe.built("poses", Poses)
        return KneeLabels(table.shapes[rows], self.view.size, self.view.extent, Closure(**self.closure), poses)

    def windows(self) -> GrayWindows:
        """Windows of the unlabelled films."""
        wanted = self.recipe["data"]
        films = named_films(self.data, self.data / wanted["shapes"])
        films += nameless_films(self.data / wanted["unlabelled"], wanted["side_model"])
        poses = self.recipe.built("poses", Poses)
        return gray_windows(films, self.view, poses, wanted["views"], self.recipe.seed)

    def learnt(self) -> dict[str, int]:
        return {"shapes": len(self.labels.shapes)}

    def figures(self, folder: AnatomyFolder) -> dict[str, dict]:
        """Every method on the labelled films of each split that the recipe names."""
        return {split: measure(folder, self.data, split) for split in self.recipe["data"]["measured"]}


@dataclass
class VolumeSource:
    """Label maps of one split, voxels of another, both of those measured on; landmarks give the pose."""

    recipe: Recipe
    data: Path
    images = "volumes"
    unit = "Dice over the voxels of each volume inside the window"
    closure: dict = field(default_factory=dict, init=False)

    @cached_property
    def view(self) -> VolumeView:
        return self.recipe.built("view", VolumeView)

    @cached_property
    def poses(self) -> Poses:
        return self.recipe.built("poses", Poses)

    @property
    def label_names(self) -> tuple[str, ...]:
        return (LABELS[OUTSIDE], *self.recipe["data"]["structures"])

    @cached_property
    def labels(self) -> VolumeLabels:
        wanted = self.recipe["data"]
        volumes = located_volumes(self.data, wanted["labels"])
        return VolumeLabels(self.data, volumes, wanted["structures"], self.view, self.poses)

    def windows(self) -> GrayWindows:
        """Windows of the volumes whose labels are not read."""
        wanted = self.recipe["data"]
        volumes = located_volumes(self.data, wanted["images"])
        return gray_windows(volumes, self.view, self.poses, wanted["views"], self.recipe.seed)

    def learnt(self) -> dict[str, int]:
        return {"label maps": len(self.labels.volumes)}

    def figures(self, folder: AnatomyFolder) -> dict[str, dict]:
        """Every method on each split that the recipe names, with exact landmarks and with a pose that is off."""
        result = {}
        for split in self.recipe["data"]["measured"]:
            result[split] = measure_volumes(folder, self.data, split)
            result[f"{split}, pose off"] = measure_volumes(folder, self.data, split, self.poses)
        return result
