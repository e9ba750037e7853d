"""KNEEL's pipeline from a data set to weights that detect, on phantoms."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy
import pytest
import torch
from LandmarkDetectionLib.errors import BundleError, LandmarkDetectionError
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.published.kneel import TwoStageKneel
from LandmarkDetectionLib.inference.published.kneel_folder import load_kneel
from LandmarkDetectionLib.phantoms.dataset import write_dataset
from LandmarkDetectionLib.training.kneel.model import KneelModel
from LandmarkDetectionLib.training.recipe import find_recipe, load_recipe
from LandmarkDetectionLib.training.run import train
from safetensors.torch import load_file

SMALLER = {
    "folds": 2,
    "side": 96,
    "padded_side": 112,
    "global_spacing": 2.0,
    "region_spacing": 1.4,
    "width = 24": 8,
    "depth": 2,
    "epochs": 1,
    "batch": 2,
    "rate": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight phantoms."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 8, seed=40, size=(96, 96))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The recipe, smaller, with a rate of zero: what a network starts from can be seen in its result."""
    text = find_recipe("kneel").read_text(encoding="utf-8")
    for field, value in SMALLER.items():
        pattern = field if "=" in field else rf"{field} = \S+"
        name = field.partition(" ")[0]
        text, count = re.subn(rf"(?m)^{pattern}", f"{name} = {value}", text)
        assert count in (1, 2), field
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(text.replace("epochs = 1", "epochs = 1\nsteps = 2"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(recipe, data, tmp_path_factory):
    return train(recipe, data, tmp_path_factory.mktemp("out"))


def test_every_fold_starts_its_second_stage_from_its_first(result):
    """All but the output and what batch normalization counts is the same after steps of length zero."""
    for fold in range(2):
        low, high = (load_file(result / f"{stage}-{fold}.safetensors") for stage in ("low_cost", "high_cost"))
        assert low.keys() == high.keys()
        assert low["out.weight"].shape[0] == 1 and high["out.weight"].shape[0] == 16
        weights = [name for name in low if not name.startswith("out.") and "running" not in name]
        weights = [name for name in weights if not name.endswith("num_batches_tracked")]
        assert len(weights) > 50 and all(torch.equal(low[name], high[name]) for name in weights)
    folds = [load_file(result / f"low_cost-{fold}.safetensors")["out.weight"] for fold in range(2)]
    assert not torch.equal(*folds)


def test_figures_come_from_every_film_once(result):
    figures = json.loads((result / "figures.json").read_text())
    assert figures["films"] == 8 and figures["unit"] == "px"
    for name in ("true_region", "two_stage", "center"):
        assert figures[name]["absent"] == 0 and math.isfinite(figures[name]["radial_error"]["mean"])
    assert set(figures["true_region"]["pck"]["ends"]["bones"]) == {"tibia", "femur"}
    assert set(figures["two_stage"]["pck"]["ends"]["radii"]) == {"1", "1.5", "2", "2.5"}


def test_every_stage_of_every_fold_has_its_log(result):
    for stage in ("low_cost", "high_cost"):
        for fold in range(2):
            folder = result.parent / stage / f"fold{fold}"
            with (folder / "log.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert [row["epoch"] for row in rows] == ["0"] and float(rows[0]["loss"]) > 0
            assert (folder / "log.png").is_file()


def test_the_result_detects(result, data):
    """Loaded again it is the mean of both folds."""
    kneel = load_kneel(result)
    path = sorted((data / "images").glob("*R.png"))[0]
    knee = kneel.detect(read_image(path), "right")[0]
    assert knee.positions.shape == (16, 2) and not knee.is_absent
    model = KneelModel(load_recipe(result / "recipe.toml"), data, result.parent)
    view = numpy.random.default_rng(0).uniform(0, 255, (1, 96, 96))
    folds = [model.detector(fold) for fold in range(2)]
    assert all(isinstance(fold, TwoStageKneel) and fold.plan == kneel.plan for fold in folds)
    mean = (folds[0].landmark_predictor(view) + folds[1].landmark_predictor(view)) / 2
    numpy.testing.assert_allclose(kneel.landmark_predictor(view), mean, atol=1e-6)


def test_changed_weights_are_refused(result, tmp_path):
    for path in result.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "high_cost-1.safetensors").write_bytes(b"something else")
    with pytest.raises(BundleError, match="high_cost-1"):
        load_kneel(tmp_path)
    with pytest.raises(BundleError, match="no trained KNEEL"):
        load_kneel(tmp_path / "nothing")


def test_no_fold_learns_from_or_chooses_by_its_own_films(recipe, data, tmp_path):
    model = KneelModel(load_recipe(recipe), data, tmp_path)
    for fold in range(2):
        learns, chooses = model.parts(fold)
        assert len(learns) and len(chooses)
        reported = numpy.flatnonzero(model.folds == fold)
        subjects = [{model.knees[row].subject for row in rows} for rows in (learns, chooses, reported)]
        assert sum(len(part) for part in subjects) == len(set.union(*subjects)) == 8
    objective, schedule = model.objective("high_cost", 0)
    gray = numpy.concatenate([sample.image.ravel() for sample in objective.samples]).astype(float)
    assert objective.augmentation.mean == pytest.approx(gray.mean())
    assert objective.augmentation.deviation == pytest.approx(gray.std())
    assert schedule.steps == 2


def test_samples_hold_their_landmarks(recipe, data, tmp_path):
    """A left knee's region is mirrored: lateral lies on the left in all of them, and the center in the middle."""
    model = KneelModel(load_recipe(recipe), data, tmp_path)
    assert {knee.side for knee in model.knees} == {"left", "right"}
    for low, high, knee in zip(model.samples["low_cost"], model.samples["high_cost"], model.knees, strict=True):
        assert low.image.dtype == numpy.uint8 and low.points.shape == (1, 2)
        middle = (numpy.array(high.image.shape[::-1]) - 1) / 2
        assert numpy.abs(high.points[4] - middle).max() < 1.5
        assert high.points[0, 0] < high.points[8, 0]
        # Shape and scale are those of the film: 140 mm are its width.
        film, seen = (numpy.linalg.norm(points[8] - points[0]) for points in (knee.points, high.points))
        assert seen / film == pytest.approx(140 / 96 / 1.4, rel=0.02)


def test_a_pass_takes_every_film_once_and_ends_with_its_epoch(recipe, data, tmp_path):
    objective, _ = KneelModel(load_recipe(recipe), data, tmp_path).objective("low_cost", 0)
    count, objective.batch = len(objective.samples), 1
    generator = torch.Generator().manual_seed(0)
    drawn = sum((objective.next_rows(generator) for _ in range(count)), start=[])
    assert sorted(drawn) == list(range(count))
    objective.next_rows(generator)
    again = [objective.next_rows(torch.Generator().manual_seed(5)) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("folds = 2", "folds = 5", "cannot be cross-validated in 5 folds"),
        ("landmarks = 16", "landmarks = 19", "16 landmarks; the recipe's plan 19"),
        ("gamma_probability = 0.5", "gama_probability = 0.5", r"field in \[augmentation\]"),
        ('kind = "kneel"', 'kind = "kneal"', "unknown kind 'kneal'"),
    ],
)
def test_recipes_that_cannot_be_followed_say_why(recipe, data, tmp_path, old, new, sentence):
    path = tmp_path / "changed.toml"
    path.write_text(recipe.read_text().replace(old, new, 1))
    with pytest.raises(LandmarkDetectionError, match=sentence):
        train(path, data, tmp_path / "out")
