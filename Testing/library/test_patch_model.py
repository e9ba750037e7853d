"""A patch model trained from a folder of films to a bundle, small, killed and resumed."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.preprocessing.oriented import sample_at
from LandmarkDetectionLib.training.data.view_films import read_view_films
from LandmarkDetectionLib.training.joint.model import network_with
from LandmarkDetectionLib.training.patch.export import uncalibrated_bundle
from LandmarkDetectionLib.training.patch.likelihood import PatchLikelihood
from LandmarkDetectionLib.training.patch.model import PatchModel
from LandmarkDetectionLib.training.recipe import load_recipe
from LandmarkDetectionLib.training.trainer import Schedule, train_network
from patch_cases import LANDMARKS, dots_at, placed
from PIL import Image as Picture
from safetensors.torch import load_file
from torch import nn


def write_films(folder: Path, splits: list[str], landmarks: int, size=(100, 120), readers: int = 2) -> None:
    (folder / "images").mkdir(parents=True)
    names = [f"L{k + 1}" for k in range(landmarks)]
    (folder / "dataset.json").write_text(json.dumps({"name": folder.name, "landmarks": names}), encoding="utf-8")
    with (folder / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", "reader", *(f"{name}_{axis}" for name in names for axis in "xy")])
        for row, split in enumerate(splits):
            points = placed(row, size)[:landmarks]
            Picture.fromarray(dots_at(points, size)).save(folder / "images" / f"{row:03}.png")
            for reader in range(readers):
                # The readers differ; the truth, their mean, does not.
                apart = 0.0 if readers == 1 else 2.0 * reader - 1.0
                writer.writerow([f"{row:03}.png", split, reader, *(points + apart).ravel()])


RECIPE = """
kind = "patch"
name = "dots"
seed = 7
folds = 1

[bundle]
version = "1.0.0"
title = "dots"
schema = "cephalogram-lateral"
description = "Dots."
licence = "none"
terms = "none"

[data]
film_size = 64
fine_size = 96
other_anatomy = ["../others", "../missing"]

[calibration]
split = "test1"
folds = 2

[region]
network = { kind = "hourglass", in_channels = 1, out_channels = 20, width = 8, depth = 2 }
plan = { size = [40, 48], percentiles = [1, 99], crop = "none", extent = 3.6 }
geometry = { rotation = 3.0, scale = 0.1, shift = 0.1, deformation = 0.3 }
schedule = { epochs = 2, steps = 3, batch = 8, rate = 3e-3, keep = "last" }

[landmarks]
members = 2
plan = { size = [32, 32], percentiles = [1, 99], crop = "none", extent = 0.8 }
geometry = { shift = 0.03, farthest = 0.1 }
schedule = { epochs = 2, steps = 3, batch = 16, rate = 3e-3, keep = "last" }

[landmarks.network]
kind = "resnet_unet"
in_channels = 2
out_channels = 19
widths = [8, 12]
blocks = [1, 1]
decoder = [12, 8]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_films(root / "dots", ["train"] * 6 + ["test1"] * 4, LANDMARKS)
    write_films(root / "others", ["train", "train", "val"], 4, size=(90, 70), readers=1)
    (root / "dots.toml").write_text(RECIPE, encoding="utf-8")
    return root


def model_of(data: Path, out: Path, resume: bool = False) -> PatchModel:
    return PatchModel(load_recipe(data / "dots.toml"), data / "dots", out, resume)


def test_films_of_a_view_are_read_as_they_are(data):
    films = read_view_films(data / "dots", "test1", 60)
    assert films.names == tuple(f"{k:03}.png" for k in range(6, 10)) and set(films.splits) == {"test1"}
    assert films.images.shape == (4, 1, 60, 60) and films.images.dtype == torch.uint8
    expected = placed(6, (100, 120)) + [10, 0]
    np.testing.assert_allclose(films.points[0], (expected + 0.5) / 2 - 0.5, atol=1e-3)
    values = sample_at(films.images.float(), films.points[:, None])
    assert (values > 100).all() and float(films.images.float().median()) < 60


def test_films_without_all_landmarks_are_left_out_and_none_at_all_is_said(tmp_path):
    write_films(tmp_path / "dots", ["train"] * 3, 4, readers=1)
    table = tmp_path / "dots" / "landmarks.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[2] = ",".join([*lines[2].split(",")[:-2], "", ""])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    films = read_view_films(tmp_path / "dots", "train", 60)
    assert films.names == ("000.png", "002.png") and torch.isfinite(films.points).all()
    with pytest.raises(LandmarkDetectionError, match="split 'test1' in 'dots' has all landmarks"):
        read_view_films(tmp_path / "dots", "test1", 60)


def test_no_part_of_a_training_sees_films_for_calibration(data, tmp_path):
    model = model_of(data, tmp_path)
    assert set(model.films(64).splits) == {"train"} and len(model.films(64)) == 6
    assert set(model.kept_out(64).splits) == {"test1"}
    assert not set(model.films(64).names) & set(model.kept_out(64).names)
    # Of the other anatomy too only films to train on, and folders that are not there are passed over.
    assert model.other_anatomy.shape == (2, 1, 64, 64)


def test_a_patch_network_learns(data, tmp_path):
    model = model_of(data, tmp_path)
    films = model.films(96)
    objective = PatchLikelihood(films, films, model.patch_geometry, 16, 2)
    torch.manual_seed(0)
    network = network_with(model.recipe["landmarks"]["network"], None)
    before = objective.validate(network.eval())
    schedule = Schedule(epochs=1, steps=30, batch=16, rate=5e-3, average=0.9, precision="float32")
    after = train_network(network, objective, schedule, tmp_path / "run", seed=1)
    assert after < 0.7 * before


def test_a_whole_run_ends_in_a_bundle_that_detects_and_resumes_where_it_was(data, tmp_path):
    model = model_of(data, tmp_path)
    model.train()
    parts = ["region/all", "landmarks/member0", "landmarks/member1"]
    weights = {part: (tmp_path / part / "weights.safetensors").read_bytes() for part in parts}
    assert weights["landmarks/member0"] != weights["landmarks/member1"]

    resumed = model_of(data, tmp_path, resume=True)
    resumed.recipe["region"]["schedule"]["steps"] = 10**6  # a step too many would be noticed
    resumed.train()
    assert weights == {part: (tmp_path / part / "weights.safetensors").read_bytes() for part in parts}

    bundle = uncalibrated_bundle(resumed, tmp_path / "dots")
    assert bundle.figures["region"]["films"] == 4 and bundle.figures["region"]["other_anatomy_films"] == 2
    assert bundle.kind == "patch" and bundle.mirrored_side is None and bundle.schema.name == "cephalogram-lateral"
    assert bundle.schema == load_schema("cephalogram-lateral") and bundle.prior.mean.shape == (LANDMARKS, 2)
    assert [len(stage.weights) for stage in bundle.stages.values()] == [1, 2]
    for path in bundle.folder.glob("landmarks-*.safetensors"):
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    detection = Detector(bundle, "cpu").detect(read_image(data / "dots" / "images" / "007.png"), force=True)
    assert len(detection.landmarks.positions) == LANDMARKS and detection.side is None


class Killed(Exception):
    """Stands for the end of the process."""


@dataclass
class DyingLikelihood(PatchLikelihood):
    """Dies at its fifth step, in the second epoch."""

    step: int = 0

    def loss(self, network: nn.Module, generator: torch.Generator) -> torch.Tensor:
        self.step += 1
        if self.step == 5:
            raise Killed
        return super().loss(network, generator)


def test_a_run_that_was_killed_ends_like_one_that_was_not(data, tmp_path):
    model_of(data, tmp_path / "straight").landmarks(0)
    killed = model_of(data, tmp_path / "killed")
    schedule = Schedule(**killed.recipe["landmarks"]["schedule"])
    dying = DyingLikelihood(killed.films(96), killed.kept_out(96), killed.patch_geometry, schedule.batch, 2)
    torch.manual_seed(killed.recipe.seed)
    network = network_with(killed.recipe["landmarks"]["network"], None)
    with pytest.raises(Killed):
        train_network(network, dying, schedule, tmp_path / "killed/landmarks/member0", killed.recipe.seed)
    model_of(data, tmp_path / "killed", resume=True).landmarks(0)
    ends = [load_file(tmp_path / run / "landmarks/member0/weights.safetensors") for run in ("straight", "killed")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
