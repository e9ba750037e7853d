"""Contour-Hugging Heatmaps from a data set to calibrated weights, on films with marks that are easy to tell apart."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.cli import app
from LandmarkDetectionLib.errors import BundleError, LandmarkDetectionError
from LandmarkDetectionLib.heatmaps import mode
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.networks import build_network
from LandmarkDetectionLib.inference.published.contour import ContourDetector
from LandmarkDetectionLib.inference.published.contour_folder import load_contour
from LandmarkDetectionLib.training.contour import calibration as contour_calibration
from LandmarkDetectionLib.training.contour.model import ContourModel
from LandmarkDetectionLib.training.contour.objective import NOWHERE, one_hot_cross_entropy, target_cells
from LandmarkDetectionLib.training.contour.samples import read_contour_films
from LandmarkDetectionLib.training.recipe import load_recipe
from LandmarkDetectionLib.training.run import train
from LandmarkDetectionLib.training.trainer import Schedule
from PIL import Image
from safetensors.torch import load_file
from small_recipes import small_recipe
from typer.testing import CliRunner

PIXEL = 0.302344
"""Millimeters a pixel of the published network has on a film of the challenge."""

SMALLER = {
    "size": "[32, 40]",
    "out_channels": "3",
    "widths": "[8, 16]",
    "blocks": "[1, 1]",
    "decoder": "[16, 8, 8]",
    "translation": "1.0",
    "elastic": "[0.0, 2.0]",
    "sigma": "3.0",
    "rate": "1e-2",
    "drops": "[12]",
    "epochs": "14",
    "wrong_beyond": "2.0",
}


def write_films(folder, train: int = 12, kept_out: int = 10) -> None:
    """Films of 64 x 80 with a bright disc, a dark disc and a bright bar, 0.5 mm pixels, two readers of each."""
    generator = np.random.default_rng(11)
    (folder / "images").mkdir(parents=True)
    rows, columns = np.mgrid[:80, :64]
    lines = []
    for number in range(train + kept_out):
        gray = generator.normal(100, 6, (80, 64))
        points = np.array([[18, 20], [44, 26], [30, 60]]) + generator.uniform(-8, 8, (3, 2))
        for shape, (x, y) in enumerate(points):
            along, down = np.abs(columns - x), np.abs(rows - y)
            mark = along + 0.25 * down < 4 if shape == 2 else np.hypot(along, down) < 5
            gray[mark] += -90 if shape == 1 else 120
        name = f"{number:03d}.png"
        Image.fromarray(gray.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        for side in (-0.3, 0.3):
            split = "train" if number < train else "test1"
            lines.append([name, split, *(f"{value + side:.3f}" for value in points.ravel())])
    with (folder / "landmarks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", *(f"M{k}_{axis}" for k in range(3) for axis in "xy")])
        writer.writerows(lines)
    about = {"name": "marks", "title": "Marks", "spacing_mm": 0.5, "terms": "any"}
    (folder / "dataset.json").write_text(json.dumps(about | {"landmarks": ["M0", "M1", "M2"]}))


def smaller(folder, **more: str):
    """The published recipe with a few fields changed."""
    return small_recipe("contour-hugging", folder, SMALLER | more)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marks")
    write_films(folder)
    return folder


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    """A trained and calibrated model."""
    out = tmp_path_factory.mktemp("out")
    return train(smaller(out), data, out)


# The network and the loss


def test_the_published_network_has_the_published_parameters():
    network = build_network(load_recipe("contour-hugging")["network"])

    def count(*parts) -> int:
        return sum(values.numel() for part in parts for values in part.parameters())

    assert count(network) == 24_447_027 and network.stride == 1
    assert count(network.stem, network.levels) == 21_278_400
    assert count(network.decoder) == 3_163_136 and count(network.head) == 5_491


def test_the_short_recipe_is_the_same_pipeline_on_a_smaller_scale():
    whole, short = (load_recipe(name) for name in ("contour-hugging", "contour-hugging-short"))
    assert {key: set(value) for key, value in whole.sections.items() if isinstance(value, dict)} == {
        key: set(value) for key, value in short.sections.items() if isinstance(value, dict)
    }
    assert whole["schedule"]["drops"] == [4, 6, 8] and whole["schedule"]["epochs"] == 15
    columns, rows = short["plan"]["size"]
    assert build_network(short["network"]).eval()(torch.zeros(1, 1, rows, columns)).shape == (1, 19, rows, columns)
    # In shares of the film, shifts and deformations are as strong as those of the published recipe.
    factor = short["plan"]["size"][0] / whole["plan"]["size"][0]
    for field in ("translation", "sigma"):
        assert short["augmentation"][field] == pytest.approx(factor * whole["augmentation"][field])
    assert short["augmentation"]["elastic"][1] == pytest.approx(factor**2 * whole["augmentation"]["elastic"][1])


def test_a_perfect_heatmap_is_as_good_as_its_pixels():
    """Centers of pixels against corners: half of the mean error, and 91 % against 25 % called right."""
    size = (8, 10)
    points = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor(size) - 0.5
    targets = target_cells(points, size)
    logits = torch.nn.functional.one_hot(targets, size[0] * size[1]).float().view(-1, size[1], size[0])
    errors = PIXEL * (mode(logits) - points).norm(dim=-1)
    right = errors < PIXEL / math.sqrt(math.pi)
    assert errors.mean().item() == pytest.approx(0.116, abs=0.001)
    assert right.float().mean().item() == pytest.approx(0.91, abs=0.01)
    # The same by the original's convention: the target is the floor of the point, compared as if it were the point.
    corners = points + 0.5
    faulty = PIXEL * (torch.floor(corners) - corners).norm(dim=-1)
    assert faulty.mean().item() == pytest.approx(0.231, abs=0.002)
    assert (faulty < PIXEL / math.sqrt(math.pi)).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_targets_at_the_border():
    inside = torch.tensor([[-0.5, 0.0], [3.49, 4.49], [0.5, 0.0]])
    outside = torch.tensor([[-0.51, 0.0], [3.5, 4.0], [0.0, 4.5], [math.nan, 1.0], [1e9, 1.0]])
    assert target_cells(inside, (4, 5)).tolist() == [0, 19, 1]
    assert target_cells(outside, (4, 5)).tolist() == [NOWHERE] * 5


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_the_loss_is_the_likelihood_of_the_cell(precision, size):
    generator = torch.Generator().manual_seed(2)
    logits = (size * torch.randn(2, 3, 5, 4, generator=generator)).clamp(-1e4, 1e4).requires_grad_()
    points = torch.rand(2, 3, 2, generator=generator) * torch.tensor([4.0, 5.0]) - 0.5
    points[1, 2] = math.nan
    points[0, 1] = torch.tensor([4.2, 1.0])
    loss = one_hot_cross_entropy(logits, points, precision)
    wide, wanted = logits.detach().double(), []
    for image, landmark in ((0, 0), (0, 2), (1, 0), (1, 1)):
        x, y = points[image, landmark].round().int().tolist()
        heatmap = wide[image, landmark]
        wanted.append(torch.logsumexp(heatmap.flatten(), dim=0) - heatmap[y, x])
    assert loss.dtype == getattr(torch, precision)
    assert loss.item() == pytest.approx(torch.stack(wanted).mean().item(), rel=1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[1, 2] == 0).all() and (logits.grad[0, 1] == 0).all() and logits.grad[0, 0].abs().max() > 0


def test_a_batch_without_any_target_teaches_nothing():
    logits = torch.randn(1, 2, 5, 4, requires_grad=True)
    loss = one_hot_cross_entropy(logits, torch.full((1, 2, 2), math.nan), "float32")
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_the_rate_drops_by_steps():
    schedule = load_recipe("contour-hugging").built("schedule", Schedule, steps=37)
    rates = [schedule.rate_at(37 * epoch + step) for epoch in range(15) for step in (0, 36)]
    wanted = [1e-3] * 8 + [1e-4] * 4 + [1e-5] * 4 + [1e-6] * 14
    assert rates == pytest.approx(wanted)


# From a data set to a folder


def test_it_learns(result):
    """Errors on films that it has never seen are about those of the pixels: 1 mm wide, against 20 mm by chance."""
    figures = json.loads((result / "figures.json").read_text())
    assert figures["films"] == 5 and figures["unit"] == "mm"
    assert figures["radial_error"]["mean"] < 1.5
    assert figures["success_rate"]["4"] > 0.9
    with (result.parent / "network" / "log.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 14 and losses[0] > 5 and losses[-1] < 3.5


def test_a_run_that_was_interrupted_ends_the_same(result, data, tmp_path):
    smaller(tmp_path, epochs="3")
    ContourModel(load_recipe(tmp_path / "small.toml"), data, tmp_path).train()
    again = train(smaller(tmp_path), data, tmp_path, resume=True)
    first, second = (load_file(folder / "network.safetensors") for folder in (result, again))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    for name in ("contour.json", "figures.json"):
        assert json.loads((result / name).read_text()) == json.loads((again / name).read_text())


def test_calibration_says_where_it_comes_from(result):
    """Temperatures and threshold of one half, figures of the other."""
    content, figures = (json.loads((result / name).read_text()) for name in ("contour.json", "figures.json"))
    fitted, checked = content["calibrated_on"], figures["checked_on"]
    assert fitted["split"] == checked["split"] == "test1" and fitted["data"] == "marks"
    assert sorted(fitted["films"] + checked["names"]) == [f"{number:03d}.png" for number in range(12, 22)]
    assert len(content["temperatures"]) == 3 and all(value > 0 for value in content["temperatures"])
    assert content["review"]["threshold_cells"] > 0 and content["review"]["sensitivity"] == 0.5
    assert set(figures["ece_percent"]) == {"before", "after"} and set(figures["auc"]) == {"2", "4"}
    sides = figures["review"]
    assert sides["good"]["count"] + sides["erroneous"]["count"] == 15


@pytest.fixture
def calibrating(result, data):
    """A trained network, put into training mode by mistake, with its plan and the films that calibrate."""
    model = ContourModel(load_recipe(result / "recipe.toml"), data, result.parent)
    return model.trained().train(), model.plan, read_contour_films(model.dataset, "test1", model.plan)


def test_calibration_leaves_the_network_as_it_is(calibrating):
    """Weights, and what batch normalization has counted, bit for bit."""
    network, plan, films = calibrating
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert any("running_mean" in name for name in before) and any("num_batches_tracked" in name for name in before)
    contour_calibration.calibrate(network, plan, films, wrong_beyond=2.0, sensitivity=0.5)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_temperatures_move_no_landmark(calibrating):
    """In any heatmap, whatever the temperature: the best cell stays, only what is said of it changes."""
    network, plan, films = calibrating
    temperatures = contour_calibration.fit(network, plan, films)
    assert temperatures.shape == (3,) and (temperatures - 1).abs().max() > 0.01
    for logits in contour_calibration.all_logits(network, plan, films):
        scaled = logits / temperatures.float()[:, None, None]
        assert torch.equal(mode(scaled), mode(logits))
    plain, tempered = (
        contour_calibration.gather(network, plan, films, values) for values in (torch.ones(3), temperatures)
    )
    np.testing.assert_array_equal(plain.errors, tempered.errors)
    assert np.abs(plain.expected - tempered.expected).max() > 1e-3


def test_temperatures_do_not_depend_on_how_many_fit_into_memory(calibrating, monkeypatch):
    network, plan, films = calibrating
    together = contour_calibration.fit(network, plan, films)
    monkeypatch.setattr(contour_calibration, "MEMORY", 1)
    torch.testing.assert_close(contour_calibration.fit(network, plan, films), together, rtol=1e-9, atol=0)


def test_a_fitted_temperature_makes_the_truth_likeliest(calibrating):
    """Each landmark's own: the mean likelihood falls to both sides of it."""
    network, plan, films = calibrating
    temperatures = contour_calibration.fit(network, plan, films)
    heatmaps = torch.stack(list(contour_calibration.all_logits(network, plan, films))).double()

    def loss(landmark: int, temperature: float) -> float:
        own = slice(landmark, landmark + 1)
        return one_hot_cross_entropy(heatmaps[:, own] / temperature, films.points[:, own]).item()

    for landmark, best in enumerate(temperatures.tolist()):
        assert loss(landmark, best) < min(loss(landmark, 0.9 * best), loss(landmark, 1.1 * best))


# The folder in use


def test_the_folder_detects_what_training_measured(result, data):
    detector = ContourDetector(load_contour(result), "cpu")
    names = json.loads((result / "figures.json").read_text())["checked_on"]["names"]
    model = ContourModel(load_recipe(result / "recipe.toml"), data, result.parent)
    truth = {case.name: case.truth for case in model.dataset.cases}
    found = {name: detector.detect(read_image(data / "images" / name)).landmarks.positions for name in names}
    errors = [0.5 * np.linalg.norm(found[name] - truth[name], axis=1) for name in names]
    measured = json.loads((result / "figures.json").read_text())["radial_error"]
    # The network's pixels are whole numbers in training and not in use: no more than a near tie may change.
    assert np.mean(errors) == pytest.approx(measured["mean"], abs=0.1)


def test_evaluate_takes_the_folder(result, data, tmp_path):
    options = {"--model": result, "--split": "test1", "--clicks": 1, "--out": tmp_path, "--device": "cpu"}
    arguments = [str(part) for option in options.items() for part in option]
    answer = CliRunner().invoke(app, ["evaluate", str(data), *arguments])
    assert answer.exit_code == 0, answer.output
    assert "contour-hugging 1.0.0. Terms of use: any" in answer.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images"] == 10 and metrics["refused"] == 0
    assert metrics["radial_error_mm"]["mean"] < 1.5 and len(metrics["by_clicks"]) == 2
    assert (tmp_path / "report.html").is_file()


def test_a_changed_folder_is_refused(result, tmp_path):
    def copy(name: str):
        return shutil.copytree(result, tmp_path / name)

    weights, missing, cold, empty = (copy(name) for name in ("weights", "missing", "cold", "empty"))
    (weights / "network.safetensors").write_bytes(b"something else")
    (missing / "shape.safetensors").unlink()
    content = json.loads((cold / "contour.json").read_text())
    (cold / "contour.json").write_text(json.dumps(content | {"temperatures": [1.0, -1.0, 1.0]}))
    (empty / "contour.json").write_text("{}")
    folders = (weights, missing, cold, empty, tmp_path)
    words = ("network.safetensors", "shape.safetensors", "temperature", "damaged", "no contour.json")
    for folder, word in zip(folders, words, strict=True):
        with pytest.raises(BundleError, match=word):
            load_contour(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"out_channels": "4"}, "3 landmarks; the recipe's network 4"),
        ({"decoder": "[16, 8]"}, "as large as the input"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(changes, words, data, tmp_path):
    with pytest.raises(LandmarkDetectionError, match=words):
        train(smaller(tmp_path, **changes), data, tmp_path)


def test_an_unknown_precision_is_named(data, tmp_path):
    path = smaller(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"float64"', '"float16"'), encoding="utf-8")
    with pytest.raises(LandmarkDetectionError, match="'float16' is not one of float32, float64"):
        train(path, data, tmp_path)


def test_films_that_cannot_calibrate_are_refused(result, data):
    model = ContourModel(load_recipe(result / "recipe.toml"), data, result.parent)
    with pytest.raises(LandmarkDetectionError, match="two films or more"):
        contour_calibration.calibrate(model.trained(), model.plan, model.films.select([0]), 2.0, 0.5)
