"""A picture of a training run."""

from __future__ import annotations

import csv
from pathlib import Path


def plot_log(folder: Path) -> Path:
    """Draw the ``log.csv`` of a run as ``log.png`` beside it: loss, and the figure on data kept out, by epoch."""
    # Slow to import, and needed only once a network is done.
    from matplotlib.figure import Figure

    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = [{field: float(value or "nan") for field, value in row.items()} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    beside = axes.twinx()
    lines = [
        axes.plot(epochs, [row["loss"] for row in rows], color="tab:blue", label="loss")[0],
        beside.plot(epochs, [row["validation"] for row in rows], color="tab:orange", label="validation")[0],
    ]
    axes.set(xlabel="epoch", ylabel="loss", title=folder.name)
    beside.set_ylabel("validation")
    axes.legend(handles=lines)
    path = folder / "log.png"
    figure.savefig(path, dpi=120)
    return path
