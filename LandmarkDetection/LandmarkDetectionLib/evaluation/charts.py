"""What all charts of the report share, and the charts of the errors themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, INK, FAINT = "#3b6ea5", "#c26a1f", "#1c2733", "#9aa7b4"
SIZE = (7.0, 3.2)


def panels(x: str, y: Sequence[str], size: tuple[float, float] = SIZE) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each title of the y axis, side by side."""
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(1, len(y), squeeze=False)[0])
    for panel, title in zip(axes, y, strict=True):
        panel.set(xlabel=x, ylabel=title)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def landmark_panel(names: Sequence[str], y: str) -> tuple[Figure, Axes]:
    """A panel with one place for each landmark, wide enough to read their names."""
    figure, (axes,) = panels("landmark", [y], (max(SIZE[0], 0.16 * len(names)), SIZE[1]))
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 20 else 0)
    axes.set_xlim(-0.7, len(names) - 0.3)
    return figure, axes


def histogram(errors: np.ndarray, unit: str = "px") -> Figure:
    """Of radial errors; NaN does not count."""
    figure, (axes,) = panels(f"radial error ({unit})", ["landmarks"])
    axes.hist(errors[np.isfinite(errors)], bins=40, color=BLUE)
    return figure


def by_landmark(rows: dict, unit: str = "px") -> Figure:
    """Mean error of each landmark with its interval, from ``by_landmark_px`` (or ``_mm``) of ``metrics.json``."""
    figure, axes = landmark_panel(list(rows), f"mean radial error ({unit})")
    means = np.array([row["mean"] for row in rows.values()])
    low, high = np.array([row["ci95"] for row in rows.values()]).T
    spread = np.maximum(0, [means - low, high - means])
    axes.bar(range(len(rows)), means, yerr=spread, color=BLUE, ecolor=INK, capsize=2)
    return figure


def clicks(figures: dict) -> Figure:
    """Mean error of a film or volume after each simulated correction."""
    image = "film" if figures["clicks_unit"] == "px" else "volume"
    figure, (axes,) = panels("corrections", [f"mean radial error of a {image} ({figures['clicks_unit']})"])
    low, high = np.array(figures["by_clicks_ci95"]).T
    axes.fill_between(range(len(low)), low, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(figures["by_clicks"], color=BLUE, marker="o", label="with the others following")
    axes.plot(figures["median_by_clicks"], color=BLUE, linestyle="--", label=f"the same, median {image}")
    axes.plot(figures["manual_by_clicks"], color=ORANGE, marker="o", label="by hand")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure
