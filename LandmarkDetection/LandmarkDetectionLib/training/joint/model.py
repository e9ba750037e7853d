"""The pipeline of a film model: teachers, labels for unlabelled films, students, the region stage.

A teacher is trained without the subjects of its fold, so that it can be judged on them; a student learns from all films
of the split ``train``. No step sees a film of another split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...inference.networks import build_network
from ...phantoms.dataset import to_gray8
from ...phantoms.knee import make_knee
from ...priors.shape import ShapePrior
from ..data.crops import CropGeometry, centroid_size
from ..data.films import Films, labelled_films, subject_folds, unlabelled_films, unlabelled_named_films
from ..data.other_anatomy import read_other_anatomy
from ..data.shapes import ShapeTable, read_shapes
from ..model import Model
from ..trainer import Schedule, train_network
from .likelihood import LandmarkLikelihood, find_points
from .pseudo_labels import Gate, pseudo_labels
from .region import RegionObjective
from .wide_films import WideGeometry

PHANTOM_SEED = 1000
"""First seed of the phantoms to train on; the samples that the project keeps have others."""


class FilmModel(Model):
    """Teachers and students for the landmarks, one of each fold, and the network that finds the joint."""

    @cached_property
    def size(self) -> int:
        return self.recipe["data"]["film_size"]

    @cached_property
    def films(self) -> Films:
        """The labelled training films."""
        return labelled_films(self.data, "train", self.size)

    @cached_property
    def folds(self) -> np.ndarray:
        """Fold of each labelled film."""
        return subject_folds(self.films.subjects, self.recipe.folds, self.recipe.seed)

    @cached_property
    def shapes(self) -> ShapeTable:
        return read_shapes(self.data / self.recipe["data"]["shapes"], excluded_splits=("val",))

    def kept(self, name: str, make: Callable[[], Films]) -> Films:
        """Films of this training, see `Films.kept`."""
        return Films.kept(self.out / "films" / f"{name}.safetensors", make)

    @cached_property
    def named(self) -> Films:
        """Unlabelled films whose subject and side are known."""
        return self.kept("named", lambda: unlabelled_named_films(self.data, self.size))

    @cached_property
    def nameless(self) -> Films:
        """Films of which nothing is known, not even whose they are."""
        folder, landmarks = self.data / self.recipe["data"]["unlabelled"], len(self.films.points[0])
        return self.kept("nameless", lambda: unlabelled_films(folder, landmarks, self.size))

    @cached_property
    def geometry(self) -> CropGeometry:
        stage = self.recipe["landmarks"]
        return CropGeometry(tuple(stage["plan"]["size"]), stage["plan"]["extent"], **stage["geometry"])

    @cached_property
    def student_geometry(self) -> CropGeometry:
        return replace(self.geometry, deformation=self.recipe["landmarks"]["student_deformation"])

    def subjects_of(self, fold: int) -> set[str]:
        """Subjects that the networks of a fold must not see."""
        return {subject for subject, k in zip(self.films.subjects, self.folds, strict=True) if k == fold}

    def prior(self, kept_out: Iterable[str] = ()) -> ShapePrior:
        """Shape prior from all shapes but those of some subjects."""
        table = self.shapes.without_subjects(kept_out)
        return ShapePrior.fit(table.shapes, groups=table.subjects)

    def phantoms(self, field: str, count: int) -> Films:
        """Phantom films in the orientation of a right knee, landmarks with them; of two knees, the right one's."""
        drawn = [make_knee(PHANTOM_SEED + n, "right", (self.size, self.size), field=field) for n in range(count)]
        images = torch.stack([torch.from_numpy(to_gray8(phantom))[None] for phantom in drawn])
        points = torch.tensor(np.stack([phantom.landmarks["right"] for phantom in drawn]), dtype=torch.float32)
        names = tuple(f"phantom {PHANTOM_SEED + n}" for n in range(count))
        return Films(images, points, names, names, ("train",) * count, ("right",) * count)

    @cached_property
    def phantom_crops(self) -> Films:
        return self.kept("phantom_crops", lambda: self.phantoms("crop", self.recipe["data"]["phantom_crops"]))

    @cached_property
    def phantom_wide(self) -> Films:
        return self.kept("phantom_wide", self.make_phantom_wide)

    def make_phantom_wide(self) -> Films:
        """One knee with a wide field of view, and both knees, half each."""
        half = self.recipe["data"]["phantom_wide"] // 2
        return join([self.phantoms("wide", half), self.phantoms("bilateral", half)])

    def train(self) -> None:
        """Everything, in order."""
        for fold in range(self.recipe.folds):
            self.teacher(fold)
        for fold in range(self.recipe.folds):
            self.student(fold)
        self.region(0)  # to be judged on the films of its fold
        self.region(None)

    def landmark_network(self, weights: Path | None = None) -> nn.Module:
        """A landmark network, new or with weights."""
        return network_with(self.recipe["landmarks"]["network"], weights)

    def region_network(self, weights: Path | None = None) -> nn.Module:
        """A region network, new or with weights."""
        return network_with(self.recipe["region"]["network"], weights)

    def teacher(self, fold: int) -> float:
        """Train a fold's network on labelled films alone."""
        torch.manual_seed(self.recipe.seed + fold)
        sources = [(self.films_without(fold), 1.0)]
        kept_out = self.films.select(self.folds == fold)
        return self.landmark_training("teacher", fold, self.landmark_network(), sources, kept_out)

    def student(self, fold: int) -> float:
        """Go on from a teacher with labelled films, known shapes, films that all teachers label, and phantoms.

        Nothing is kept out, so a student has no figure of its own; those of the teachers stand for it.
        """
        shares = self.recipe["landmarks"]["shares"]
        sources = [
            (self.films_with_mean_pose, shares["labelled"]),
            (self.films_of_shapes, shares["shapes"]),
            (self.consensus, shares["unlabelled"]),
            (self.phantom_crops, shares["phantoms"]),
        ]
        return self.landmark_training("student", fold, self.trained_teacher(fold), sources, None)

    def films_without(self, fold: int) -> Films:
        """Labelled films of the other folds."""
        return self.films.select(self.folds != fold)

    def found_by(self, teacher: nn.Module, films: Films) -> Tensor:
        """Landmarks of films as a teacher sees them."""
        images, _ = films.batch(torch.arange(len(films)))
        return find_points(teacher, images, self.films.points.mean(0), self.geometry, teacher.stride)

    @cached_property
    def teachers(self) -> list[nn.Module]:
        return [self.trained_teacher(fold) for fold in range(self.recipe.folds)]

    def trained_teacher(self, fold: int) -> nn.Module:
        """The teacher of a fold, which knows nothing of the films in it."""
        return self.landmark_network(self.out / "teacher" / f"fold{fold}" / "weights.safetensors").eval()

    @cached_property
    def films_with_mean_pose(self) -> Films:
        """The labelled films, each shape half-way between the pose of its label and the pose that a teacher sees.

        The shapes of the labels are exact, but their size and place were fitted film by film, with errors of some per
        cent; those of a teacher that has not seen the film are independent of them.
        """
        points = self.films.points.clone()
        for fold in range(self.recipe.folds):
            rows = torch.from_numpy(self.folds == fold)
            found = self.found_by(self.trained_teacher(fold), self.films.select(rows.tolist()))
            fitted, _ = placed(points[rows], found)
            points[rows] = (points[rows] + fitted) / 2
        return self.films.with_points(points)

    @cached_property
    def films_of_shapes(self) -> Films:
        """Unlabelled films whose annotated shape is known: the shape, placed where the teachers see the landmarks.

        Films on which shape and teachers differ by more than the gate allows are left out.
        """
        table = self.shapes
        names = [f"{subject}{side}" for subject, side in zip(table.subjects, table.sides, strict=True)]
        shape_of = {name: row for row, name in enumerate(names)}
        films = self.named.select([Path(name).stem in shape_of for name in self.named.names])
        shapes = torch.tensor(table.shapes[[shape_of[Path(name).stem] for name in films.names]], dtype=torch.float32)
        seen = torch.stack([self.found_by(teacher, films) for teacher in self.teachers]).mean(0)
        points, misfit = placed(shapes, seen)
        return films.with_points(points).select((misfit < self.recipe["landmarks"]["misfit"]).tolist())

    def landmark_training(
        self, step: str, fold: int, network: nn.Module, sources: list[tuple[Films, float]], kept_out: Films | None
    ) -> float:
        """Train one landmark network; returns the mean error on the films that were kept out."""
        schedule = Schedule(**self.recipe["landmarks"][step])
        hidden = self.subjects_of(fold) if kept_out is not None else ()
        shapes = self.shapes.without_subjects(hidden).shapes
        objective = LandmarkLikelihood(
            sources=sources,
            kept_out=kept_out,
            shapes=torch.tensor(shapes, dtype=torch.float32),
            geometry=self.geometry if step == "teacher" else self.student_geometry,
            batch=schedule.batch,
            stride=network.stride,
        )
        folder = self.out / step / f"fold{fold}"
        return train_network(network, objective, schedule, folder, self.recipe.seed + fold, self.resume)

    @property
    def gate(self) -> Gate:
        return Gate(**self.recipe["landmarks"]["gate"])

    def labels_of(self, films: Films, gate: Gate) -> Films:
        """Films that pass a gate, with the mean landmarks of all teachers."""
        return pseudo_labels(self.teachers, films, self.films.points.mean(0), self.prior(), self.geometry, gate)

    @cached_property
    def consensus(self) -> Films:
        """Unlabelled films with the landmarks on which the teachers agree."""
        return self.kept(
            "consensus", lambda: join([self.labels_of(films, self.gate) for films in (self.named, self.nameless)])
        )

    def region(self, fold: int | None) -> float:
        """Train the region stage on phantoms and the named films without those of a fold, or with all (None)."""
        stage = self.recipe["region"]
        films = self.named_with_landmarks
        schedule = Schedule(**stage["schedule"])
        chosen = subject_folds(films.subjects, stage["folds"], self.recipe.seed)
        torch.manual_seed(self.recipe.seed)
        network = self.region_network()
        known = films if fold is None else films.select(chosen != fold)
        objective = RegionObjective(
            films=join([known, self.phantom_crops]),
            wide=self.phantom_wide,
            others=self.other_anatomy,
            kept_out=films.select(chosen == (fold or 0)),
            geometry=WideGeometry(**stage["geometry"]),
            batch=schedule.batch,
            stride=network.stride,
        )
        folder = self.out / "region" / ("all" if fold is None else f"fold{fold}")
        return train_network(network, objective, schedule, folder, self.recipe.seed, self.resume)

    @cached_property
    def other_anatomy(self) -> Tensor:
        folders = [self.data / folder for folder in self.recipe["data"]["other_anatomy"]]
        return read_other_anatomy(folders, self.size)

    @cached_property
    def named_with_landmarks(self) -> Films:
        """All named films of the training subjects, with landmarks."""
        return self.kept("named_with_landmarks", self.make_named_with_landmarks)

    def make_named_with_landmarks(self) -> Films:
        """All named films: labelled ones, and the others with the mean landmarks of all teachers, gated or not.

        The region stage needs landmarks to a few pixels only, so every film serves, and none is lost for the side.
        """
        return join([self.films, self.labels_of(self.named, replace(self.gate, spread=np.inf, distance=np.inf))])


def placed(shapes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Shapes ``(B, K, 2)`` shifted and scaled, not turned, onto ``points``; and the mean distance left, ``(B,)``.

    The distance is a share of the centroid size.
    """
    centred, target = shapes - shapes.mean(1, keepdim=True), points - points.mean(1, keepdim=True)
    scale = (centred * target).sum((1, 2)) / centred.square().sum((1, 2))
    fitted = scale[:, None, None] * centred + points.mean(1, keepdim=True)
    return fitted, (fitted - points).norm(dim=-1).mean(1) / centroid_size(points)[:, 0, 0]


def network_with(description: dict, weights: Path | None) -> nn.Module:
    """A network of a recipe, with weights where there are some."""
    network = build_network(description)
    if weights is not None:
        network.load_state_dict(load_file(weights))
    return network.to(memory_format=torch.channels_last)


def join(parts: list[Films]) -> Films:
    """Films of several sources as one."""
    return Films(
        torch.cat([part.images for part in parts]),
        torch.cat([part.points for part in parts]),
        *(
            sum((getattr(part, field) for part in parts), start=())
            for field in ("names", "subjects", "splits", "sides")
        ),
    )
