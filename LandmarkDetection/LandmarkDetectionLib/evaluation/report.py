"""An evaluation as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from ..images import read_image
from ..overlay import draw_landmarks
from .dataset import DataSet
from .outcome import Outcome

WORST_FILMS = 10


def write_report(
    path: Path, figures: dict, outcomes: Sequence[Outcome], dataset: DataSet, model: str, terms: str, split: str | None
) -> None:
    """Write the figures, charts and the films with the greatest errors.

    Raises:
        OSError: the file cannot be written.
    """
    found = [outcome for outcome in outcomes if outcome.detection is not None]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    html = environment.get_template("report.html").render(
        metrics=figures,
        dataset=dataset,
        model=model,
        terms=terms,
        split=split,
        summaries=[
            ("radial, pixels", figures["radial_error_px"]),
            ("radial, landmarks found only, pixels", figures["radial_error_found_px"] if figures["missed"] else None),
            ("across the bone edge, pixels", figures["radial_error_normal_px"]),
            ("radial, per cent of the image's height", figures["radial_error_height_percent"]),
            ("radial, millimeters", figures["radial_error_mm"]),
            *_in_order(figures["in_order"]),
        ],
        tables=[
            ("At most this many pixels away", figures["within_px"]),
            ("At most this many millimeters away", figures["within_mm"]),
        ],
        charts=[(caption, _png(chart)) for caption, chart in _charts(figures, found)],
        films=_worst_films(found, dataset.spacing_mm),
        refused=[outcome for outcome in outcomes if outcome.detection is None],
    )
    path.write_text(html, encoding="utf-8")


def write_click_plot(path: Path, figures: dict) -> None:
    """The chart of the simulated corrections as a PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    _clicks(figures).savefig(path, format="png", dpi=110)


def _in_order(inner: dict | None) -> list[tuple[str, dict]]:
    """Rows for the films whose labels are in order; none where that makes no difference."""
    if inner is None:
        return []
    return [
        ("labels in order: radial, pixels", inner["radial_error_px"]),
        ("labels in order: radial, per cent of the image's height", inner["radial_error_height_percent"]),
    ]


def _charts(figures: dict, found: Sequence[Outcome]) -> list[tuple[str, Figure]]:
    errors = np.stack([outcome.errors for outcome in found])
    expected = np.stack([outcome.detection.landmarks.expected_errors for outcome in found])
    charts = [
        ("Distribution of the radial errors.", _histogram(errors)),
        ("Mean radial error of each landmark with the bootstrap interval.", _by_landmark(figures["by_landmark_px"])),
        (
            "Expected error against true error, one dot for each landmark; the line is perfect agreement.",
            _scatter(expected, errors),
        ),
    ]
    if len(figures["by_clicks"]) > 1:
        caption = "Mean radial error after each correction, with the bootstrap interval, and the median over the films."
        charts.append((caption, _clicks(figures)))
    return charts


def _axes(x: str, y: str) -> tuple[Figure, object]:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _histogram(errors: np.ndarray) -> Figure:
    figure, axes = _axes("radial error (px)", "landmarks")
    axes.hist(errors[np.isfinite(errors)], bins=40, color="#3b6ea5")
    return figure


def _by_landmark(rows: dict) -> Figure:
    figure, axes = _axes("landmark", "mean radial error (px)")
    means = np.array([row["mean"] for row in rows.values()])
    low, high = np.array([row["ci95"] for row in rows.values()]).T
    spread = np.maximum(0, [means - low, high - means])
    axes.bar(list(rows), means, yerr=spread, color="#3b6ea5", ecolor="#1c2733", capsize=2)
    axes.tick_params(axis="x", labelrotation=90 if len(rows) > 20 else 0)
    return figure


def _scatter(expected: np.ndarray, errors: np.ndarray) -> Figure:
    figure, axes = _axes("expected error (px)", "radial error (px)")
    axes.plot(expected.ravel(), errors.ravel(), ".", color="#3b6ea5", alpha=0.5)
    limit = float(np.nanmax(expected)) if np.isfinite(expected).any() else 1.0
    axes.plot([0, limit], [0, limit], color="#1c2733", linewidth=1)
    return figure


def _clicks(figures: dict) -> Figure:
    figure, axes = _axes("corrections", "mean radial error of a film (px)")
    low, high = np.array(figures["by_clicks_ci95"]).T
    clicks = range(len(low))
    axes.fill_between(clicks, low, high, color="#3b6ea5", alpha=0.2, linewidth=0)
    axes.plot(figures["by_clicks"], color="#3b6ea5", marker="o", label="with the others following")
    axes.plot(figures["median_by_clicks"], color="#3b6ea5", linestyle="--", label="the same, median film")
    axes.plot(figures["manual_by_clicks"], color="#c26a1f", marker="o", label="by hand")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _worst_films(found: Sequence[Outcome], spacing: float | None) -> list[tuple[str, str]]:
    known = [outcome for outcome in found if np.isfinite(outcome.errors).any()]
    ranked = sorted(known, key=lambda outcome: -np.nanmean(outcome.errors))[:WORST_FILMS]
    films = []
    for outcome in ranked:
        picture = draw_landmarks(
            read_image(outcome.case.path, spacing=spacing), outcome.detection.landmarks, outcome.truth, longest=480
        )
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        films.append((f"{outcome.case.name}: {np.nanmean(outcome.errors):.1f} px", _base64(buffer)))
    return films


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _base64(buffer)


def _base64(buffer: io.BytesIO) -> str:
    return base64.b64encode(buffer.getvalue()).decode("ascii")
