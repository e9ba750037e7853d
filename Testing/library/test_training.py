"""The trainer: a killed run goes on bit for bit, schedules, what is kept, the log, several processes."""

from __future__ import annotations

import csv
import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.heatmaps import index_to_cell, spatial_cross_entropy
from LandmarkDetectionLib.networks.hourglass import Hourglass
from LandmarkDetectionLib.training.kneel.losses import make_loss
from LandmarkDetectionLib.training.log_plot import plot_log
from LandmarkDetectionLib.training.recipe import RECIPES, load_recipe
from LandmarkDetectionLib.training.run import PIPELINES
from LandmarkDetectionLib.training.trainer import Schedule, train_network
from PIL import Image
from safetensors.torch import load_file

MODULE = Path(__file__).resolve().parents[2] / "LandmarkDetection"


class Killed(Exception):
    """Stands for the end of the process: raised in the middle of an epoch, it leaves only what is on the disk."""


class Dots:
    """Where is the bright dot? Dies at step ``dies_at``, counted over the whole run."""

    def __init__(self, dies_at: int | None = None, criterion: torch.nn.Module | None = None) -> None:
        self.dies_at, self.criterion, self.step = dies_at, criterion, 0

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        points = 4 + 24 * torch.rand((count, 1, 2), generator=generator)
        axis = torch.arange(32.0)
        squares = (axis - points[..., :1]) ** 2, (axis - points[..., 1:]) ** 2
        images = torch.exp(-(squares[1][..., :, None] + squares[0][..., None, :]) / 8)
        return images + 0.1 * torch.randn(images.shape, generator=generator), points

    def loss(self, network: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
        if self.step == self.dies_at:
            raise Killed
        self.step += 1
        images, points = self.draw(4, generator)
        logits = network(images).float()
        if self.criterion is None:
            return spatial_cross_entropy(logits, index_to_cell(points, 4))
        return self.criterion(logits.mean((2, 3))[:, :, None], points.mean(-1, keepdim=True) / 32)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> float:
        images, points = self.draw(8, torch.Generator().manual_seed(0))
        return float(spatial_cross_entropy(network(images).float(), index_to_cell(points, 4)))


class Figures(Dots):
    """The same with validation figures that were decided beforehand."""

    def __init__(self, *figures: float) -> None:
        super().__init__()
        self.figures = list(figures)

    def validate(self, network: torch.nn.Module) -> float:
        return self.figures.pop(0)


def new_network(seed: int = 0) -> Hourglass:
    torch.manual_seed(seed)
    return Hourglass(1, 1, width=8, depth=1, dropout=0.3)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_tensors(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


PLAIN = {"optimizer": "adam", "average": 0.0, "precision": "float32", "constant": True, "clip": math.inf}


@pytest.mark.parametrize(("options", "dies_at"), [({}, 3), ({}, 7), (PLAIN, 8)])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, options, dies_at):
    """Killed within the first epoch, within a later one and between two; resumed in a new process's place."""
    schedule = Schedule(epochs=3, steps=4, batch=4, rate=1e-2, **options)
    straight = train_network(new_network(), Dots(), schedule, tmp_path / "straight", seed=5)
    with pytest.raises(Killed):
        train_network(new_network(), Dots(dies_at), schedule, tmp_path / "killed", seed=5)
    # Nothing lives on but the files: where there is a checkpoint, even the initial weights are others.
    seed = 0 if dies_at < 4 else 99
    torch.rand(17)
    resumed = train_network(new_network(seed), Dots(), schedule, tmp_path / "killed", seed=5, resume=True)
    assert resumed == straight
    for name in ("weights", "checkpoint"):
        assert_same_tensors(tmp_path / "straight" / f"{name}.safetensors", tmp_path / "killed" / f"{name}.safetensors")
    assert rows_of(tmp_path / "straight") == rows_of(tmp_path / "killed")


def test_a_finished_run_is_left_as_it_is(tmp_path):
    schedule = Schedule(epochs=2, steps=2, batch=4)
    best = train_network(new_network(), Dots(), schedule, tmp_path, seed=1)
    before = (tmp_path / "weights.safetensors").read_bytes()
    # A step would raise: none may be taken.
    assert train_network(new_network(3), Dots(dies_at=0), schedule, tmp_path, seed=1, resume=True) == best
    assert (tmp_path / "weights.safetensors").read_bytes() == before


def test_a_loss_with_parameters_learns_and_is_resumed_too(tmp_path):
    schedule = Schedule(epochs=3, steps=4, batch=4, rate=1e-2)
    learnt = []
    for folder, dies_at in (("straight", None), ("killed", 9)):
        criterion = make_loss("robust")
        before = float(criterion.alpha.detach())
        arguments = (schedule, tmp_path / folder, 5)
        try:
            train_network(new_network(), Dots(dies_at, criterion), *arguments, criterion=criterion)
        except Killed:
            criterion = make_loss("robust")
            train_network(new_network(8), Dots(None, criterion), *arguments, resume=True, criterion=criterion)
        learnt.append(float(criterion.alpha.detach()))
        assert learnt[-1] != before
    assert learnt[0] == learnt[1]
    assert_same_tensors(tmp_path / "straight" / "weights.safetensors", tmp_path / "killed" / "weights.safetensors")


def test_no_averaging_keeps_the_weights_as_they_are(tmp_path):
    network = new_network()
    train_network(network, Dots(), Schedule(epochs=1, steps=3, batch=4, average=0.0), tmp_path, seed=1)
    kept, own = load_file(tmp_path / "weights.safetensors"), network.state_dict()
    assert all(torch.equal(kept[name], own[name]) for name in own)
    train_network(network, Dots(), Schedule(epochs=1, steps=3, batch=4, average=0.9), tmp_path, seed=1)
    averaged = load_file(tmp_path / "weights.safetensors")
    assert not torch.equal(averaged["out.weight"], network.state_dict()["out.weight"])


def test_the_weights_of_the_best_epoch_are_kept(tmp_path):
    options = {"steps": 2, "batch": 4, "constant": True}
    best = train_network(new_network(), Figures(3, 1, 2), Schedule(epochs=3, **options), tmp_path / "three", seed=2)
    train_network(new_network(), Figures(3, 1), Schedule(epochs=2, **options), tmp_path / "two", seed=2)
    assert best == 1
    assert_same_tensors(tmp_path / "three" / "weights.safetensors", tmp_path / "two" / "weights.safetensors")


def test_patience_stops_after_so_many_epochs_without_a_better_figure(tmp_path):
    figures = Figures(5, 3, 4, 4, 2, 1)
    schedule = Schedule(epochs=6, steps=1, batch=4, patience=2)
    assert train_network(new_network(), figures, schedule, tmp_path, seed=2) == 3
    assert [float(row["validation"]) for row in rows_of(tmp_path)] == [5, 3, 4, 4]


def test_a_run_can_be_cancelled_between_epochs(tmp_path):
    answers = iter([False, False, True])
    schedule = Schedule(epochs=9, steps=1, batch=4)
    train_network(new_network(), Dots(), schedule, tmp_path, seed=2, cancelled=lambda: next(answers))
    assert len(rows_of(tmp_path)) == 2


def test_the_rate_rises_then_falls_along_a_cosine():
    schedule = Schedule(epochs=10, steps=10, batch=1, rate=1.0)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1 == rates[10]
    assert rates[55] == pytest.approx(0.5) and rates[99] < 1e-3
    assert all(later < earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))
    constant = Schedule(epochs=10, steps=10, batch=1, rate=1.0, constant=True)
    assert {constant.rate_at(step) for step in range(100)} == {1.0}


def test_an_unknown_optimizer_is_named():
    with pytest.raises(LandmarkDetectionError, match="'sgdd' is not one of adam, adamw"):
        Schedule(epochs=1, steps=1, batch=1, optimizer="sgdd")


def test_the_log_has_a_row_for_each_epoch_and_a_picture(tmp_path):
    train_network(new_network(), Dots(), Schedule(epochs=4, steps=1, batch=4), tmp_path, seed=1)
    rows = rows_of(tmp_path)
    assert [float(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert all(math.isfinite(float(row[field])) for row in rows for field in ("loss", "validation"))
    assert (tmp_path / "log.png").is_file()
    with Image.open(plot_log(tmp_path)) as picture:
        values = picture.convert("L").getextrema()
    assert values[0] < 60 and values[1] == 255


WORKER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import torch
torch.set_num_threads(1)
from LandmarkDetectionLib.training import distributed
from LandmarkDetectionLib.training.trainer import Schedule, train_network
from test_training import Dots, new_network
distributed.start()
network = new_network(seed=distributed.rank())
schedule = Schedule(epochs=2, steps=2, batch=4, patience=1)
best = train_network(network, Dots(), schedule, Path(sys.argv[3]), seed=1)
torch.save({"best": best, **network.state_dict()}, Path(sys.argv[3]) / f"rank{distributed.rank()}.pt")
distributed.stop()
"""


def test_two_processes_learn_one_network(tmp_path):
    """``torchrun`` as it is: both processes end with the same weights, learnt from twice the data, and agree when."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    out = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(worker)]
    arguments = [str(MODULE), str(Path(__file__).parent), str(out)]
    result = subprocess.run(
        command + arguments, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = rows_of(out)
    assert [float(row["epoch"]) for row in rows] == [0, 1]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["best"] == second["best"] == min(float(row["validation"]) for row in rows)
    learnt = [name for name, _ in new_network().named_parameters()]
    assert all(torch.equal(first[name], second[name]) for name in learnt)
    alone = new_network()
    train_network(alone, Dots(), Schedule(epochs=2, steps=2, batch=4), tmp_path / "one", seed=1)
    assert not torch.equal(alone.state_dict()["out.weight"], first["out.weight"])
    with (out / "checkpoint.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert json.loads(header["__metadata__"]["progress"])["epoch"] == 2


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_has_a_pipeline_that_can_be_imported(recipe):
    names = PIPELINES[load_recipe(recipe).kind]
    build, write = (resolve_name(f"LandmarkDetectionLib.training.{name}") for name in names)
    assert list(inspect.signature(build).parameters)[:4] == ["recipe", "data", "out", "resume"]
    assert len(inspect.signature(write).parameters) == 2
