"""One trainer for every network: a fixed schedule, averaged weights, a log and bit-exact resuming."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import LandmarkDetectionError
from .checkpoint import load_checkpoint, save_checkpoint
from .distributed import agreed, average_gradients, rank, replicated, wait
from .log_plot import plot_log

LOG_FIELDS = ("epoch", "loss", "validation")
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns.

    ``rate`` rises over the first tenth of the steps and falls to zero along a cosine. With ``constant`` or ``drops`` it
    stays instead, but for nine tenths of it that each epoch in ``drops`` (0 based) takes away. At each step the
    averaged weights, which are the ones kept, stay what they were by the share ``average``; 0 averages nothing.
    Gradients longer than ``clip`` are shortened to it. With ``patience`` the run stops after that many epochs without a
    better validation figure. ``optimizer`` is one of ``OPTIMIZERS``. ``keep`` says whose weights stay: those of the
    ``best`` epoch by the validation figure, or of the ``last``, which chooses nothing on the data it is judged on.
    """

    epochs: int
    steps: int
    batch: int
    rate: float = 2e-3
    weight_decay: float = 1e-3
    constant: bool = False
    average: float = 0.995
    precision: str = "bfloat16"
    patience: int | None = None
    optimizer: str = "adamw"
    clip: float = 5.0
    keep: Literal["best", "last"] = "best"
    drops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(sorted(OPTIMIZERS))
            raise LandmarkDetectionError(f"Recipe field 'optimizer': '{self.optimizer}' is not one of {known}.")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, 0 based."""
        if self.constant or self.drops:
            return self.rate * 0.1 ** sum(step >= epoch * self.steps for epoch in self.drops)
        total = self.epochs * self.steps
        warm = max(1, total // 10)
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


class Objective(Protocol):
    """What a network learns: a loss of freshly drawn data, and a figure on data kept out (smaller is better)."""

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor: ...

    def validate(self, network: nn.Module) -> float | None: ...


def train_network(
    network: nn.Module,
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    seed: int,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
    criterion: nn.Module | None = None,
) -> float:
    """Train in place, keep the best averaged weights as ``weights.safetensors``, return their validation figure.

    Every epoch draws from a generator seeded by ``seed`` and the epoch, so a run that was killed and resumed ends with
    the same weights as one that was not. ``log.csv`` has a row for each epoch, and ``log.png`` shows it at the end.
    A ``criterion`` is a loss whose own parameters are learnt with the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(schedule.average), use_buffers=True)
    modules = {"network": network, "averaged": averaged}
    learnt = [*network.parameters()]
    if criterion is not None:
        modules["criterion"] = criterion
        learnt += criterion.parameters()
    optimizer = OPTIMIZERS[schedule.optimizer](learnt, lr=schedule.rate, weight_decay=schedule.weight_decay)
    progress = load_checkpoint(folder, modules, optimizer) if resume else None
    progress = progress or {"epoch": 0, "best": math.inf, "best_epoch": -1, "log": []}
    model = replicated(network)
    with Progress(transient=True, disable=rank() != 0) as bars:
        bar = bars.add_task(folder.name, total=schedule.epochs, completed=progress["epoch"])
        while progress["epoch"] < schedule.epochs and not cancelled() and not out_of_patience(progress, schedule):
            epoch = progress["epoch"]
            loss = run_epoch(model, network, averaged, objective, optimizer, schedule, seed, epoch, criterion)
            figure = objective.validate(averaged.module.eval())
            figure = None if figure is None else agreed(figure)
            record(progress, loss, figure)
            if rank() == 0:
                if progress["best_epoch"] == epoch or schedule.keep == "last":
                    keep_weights(averaged.module, folder)
                progress["epoch"] += 1
                save_checkpoint(folder, modules, optimizer, progress)
                write_log(folder / "log.csv", progress["log"])
            else:
                progress["epoch"] += 1
            said = "" if figure is None else f" validation {figure:.3f}"
            bars.update(bar, advance=1, description=f"{folder.name} loss {loss:.3f}{said}")
    if rank() == 0 and progress["log"]:
        plot_log(folder)
    wait()
    return progress["best"]


def out_of_patience(progress: dict, schedule: Schedule) -> bool:
    """Early stopping."""
    return schedule.patience is not None and progress["epoch"] - progress["best_epoch"] > schedule.patience


def record(progress: dict, loss: float, figure: float | None) -> None:
    """Note an epoch and whether it is the best one; without a figure the last one is."""
    if figure is None:
        progress["best_epoch"] = progress["epoch"]
    elif figure < progress["best"]:
        progress["best"], progress["best_epoch"] = figure, progress["epoch"]
    progress["log"].append([progress["epoch"], loss, figure])


def run_epoch(
    model: nn.Module,
    network: nn.Module,
    averaged: AveragedModel,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    seed: int,
    epoch: int,
    criterion: nn.Module | None = None,
) -> float:
    """One epoch; returns the mean loss."""
    device = next(network.parameters()).device.type
    # Dropout draws from the global generator, data from its own: both are set anew, so nothing else need be saved.
    torch.manual_seed(seed * 100_003 + epoch * 1_009 + rank())
    generator = torch.Generator().manual_seed(seed * 100_019 + epoch * 1_013 + rank())
    model.train()
    total = 0.0
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(epoch * schedule.steps + step)
        with torch.autocast(device, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
            loss = objective.loss(model, generator)
        if not torch.isfinite(loss.detach()):
            raise LandmarkDetectionError(f"The loss is not a number in step {step} of epoch {epoch}; lower the rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(criterion)
        nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
        optimizer.step()
        averaged.update_parameters(network)
        total += float(loss.detach())
    return total / schedule.steps


def keep_weights(network: nn.Module, folder: Path) -> None:
    """The weights that are used later."""
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")


def write_log(path: Path, rows: list[list[float]]) -> None:
    """The log that plots."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(LOG_FIELDS)
        writer.writerows(rows)
