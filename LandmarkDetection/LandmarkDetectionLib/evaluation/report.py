"""An evaluation as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from PIL import Image as Picture

from ..images import Image, read_image
from ..overlay import draw_landmarks, draw_slices
from . import certainty_charts, charts
from .certainty_figures import judged
from .certainty_rows import UNITS, certainty_rows
from .dataset import DataSet
from .level_sentences import level_sentences
from .outcome import Outcome
from .regions import REGION_LEVEL, outlines

WORST_FILMS = 10
FILM_SIDE, FILM_LEAST = 720, 480
"""Pixels of the longer side of a film in the report, and the least its shorter side may have."""

NAMED = 30
"""Landmarks on a film that can still be told apart with their names beside them."""


def write_report(
    path: Path, figures: dict, outcomes: Sequence[Outcome], dataset: DataSet, model: str, terms: str, split: str | None
) -> None:
    """Write the figures, charts and the films with the greatest errors.

    Images are named as the data set's table names them; nothing else that a file says of a patient is shown.

    Raises:
        OSError: the file cannot be written.
    """
    found = [outcome for outcome in outcomes if outcome.detection is not None]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
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
        columns=_columns(figures),
        certainty=certainty_rows(figures),
        error_charts=_drawn(_error_charts(figures, found)),
        certainty_charts=_drawn(_certainty_charts(figures, found)),
        click_charts=_drawn(_click_charts(figures)),
        region_level=figures["coverage"]["level"] if figures["coverage"] else REGION_LEVEL,
        films=_worst_images(found, dataset.spacing_mm),
        volumes=found[0].detection.landmarks.frame.dims == 3,
        refused=[outcome for outcome in outcomes if outcome.detection is None],
    )
    path.write_text(html, encoding="utf-8")


def write_click_plot(path: Path, figures: dict) -> None:
    """The chart of the simulated corrections as a PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    charts.clicks(figures).savefig(path, format="png", dpi=110)


def _in_order(inner: dict | None) -> list[tuple[str, dict]]:
    """Rows for the films whose labels are in order; none where that makes no difference."""
    if inner is None:
        return []
    return [
        ("labels in order: radial, pixels", inner["radial_error_px"]),
        ("labels in order: radial, per cent of the image's height", inner["radial_error_height_percent"]),
    ]


def _columns(figures: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """A title and the rows on levels, and the same of the films whose labels are in order; none without levels."""
    columns = [("All images", level_sentences(figures["levels"]))]
    if figures["labels_out_of_order"] and figures["in_order"] is not None:
        columns.append(("Films with labels in order", level_sentences(figures["in_order"]["levels"])))
    return [(title, rows) for title, rows in columns if rows]


def _error_charts(figures: dict, found: Sequence[Outcome]) -> list[tuple[str, Figure]]:
    if not figures["by_landmark_px"]:
        return []
    errors, rows, unit = np.stack([outcome.errors for outcome in found]), figures["by_landmark_px"], "px"
    if "by_landmark_mm" in figures:
        known = [outcome.millimetre_errors for outcome in found if outcome.millimetre_errors is not None]
        errors, rows, unit = np.stack(known), figures["by_landmark_mm"], "mm"
    return [
        ("Distribution of the radial errors.", charts.histogram(errors, unit)),
        ("Mean radial error of each landmark with the bootstrap interval.", charts.by_landmark(rows, unit)),
    ]


def _certainty_charts(figures: dict, found: Sequence[Outcome]) -> list[tuple[str, Figure]]:
    drawn = []
    if figures["reliability"]:
        caption = (
            "Reliability: of the landmarks whose heatmap is 5 % sure of its best cell, 5 % should have their truth "
            "there. On the line, the heatmaps say what is true; below it, they are too sure. Larger dots hold more "
            "landmarks; the gray lines are 95 % intervals. Bins of fewer than five landmarks may lie beyond the chart."
        )
        drawn.append((caption, certainty_charts.reliability(figures)))
    if any(figures["roc"].values()):
        caption = (
            "How well the expected error finds the bad landmarks, without knowing the truth: the further up and to the "
            "left, the better; the gray line is guessing. The dot is where the model's review threshold lies."
        )
        drawn.append((caption, certainty_charts.roc(figures)))
    evidence = judged(found)
    if np.isfinite(evidence.errors).any():
        caption = "Expected error against true error. Groups are formed along the expected error."
        unit = UNITS[evidence.unit]
        chart = certainty_charts.expected_against_true(evidence.expected, evidence.errors, figures["ere_groups"], unit)
        drawn.append((caption, chart))
    if figures["coverage"]:
        caption = (
            "Prediction regions: share of the images on which the region of each landmark holds its truth, with the "
            "95 % interval over the images. A short interval needs many images."
        )
        drawn.append((caption, certainty_charts.coverage(figures)))
    return drawn


def _click_charts(figures: dict) -> list[tuple[str, Figure]]:
    if len(figures["by_clicks"]) < 2:
        return []
    caption = "Mean radial error after each correction, with the bootstrap interval, and the median over the films."
    drawn = [(caption, charts.clicks(figures))]
    if any(share is not None for share in figures["coverage_by_clicks"]):
        caption = (
            "Error ellipses of the landmarks not yet corrected: share that holds the truth after each correction. The "
            "worst landmark is corrected first, so those that are left are the better ones; by hand, where no ellipse "
            "changes, that choice is all there is."
        )
        drawn.append((caption, certainty_charts.coverage_by_clicks(figures, REGION_LEVEL)))
    return drawn


def _worst_images(found: Sequence[Outcome], spacing: float | None) -> list[tuple[str, str]]:
    known = [outcome for outcome in found if np.isfinite(outcome.errors).any()]
    ranked = sorted(known, key=lambda outcome: -np.nanmean(outcome.errors))[:WORST_FILMS]
    images = []
    for outcome in ranked:
        image = read_image(outcome.case.path, spacing=spacing)
        caption, picture = _film(image, outcome) if image.dims == 2 else _volume(image, outcome)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        images.append((f"{outcome.case.name}: {caption}", _base64(buffer)))
    return images


def _film(image: Image, outcome: Outcome) -> tuple[str, Picture.Image]:
    """Mean error in words, and the film with landmarks, truth and prediction regions."""
    detection, size = outcome.detection, image.frame.size
    picture = draw_landmarks(
        image,
        detection.landmarks,
        outcome.truth,
        longest=max(FILM_SIDE, round(FILM_LEAST * max(size) / min(size))),
        labels=len(detection.landmarks.positions) <= NAMED,
        outlines=outlines(detection),
    )
    return f"{np.nanmean(outcome.errors):.1f} px", picture


def _volume(image: Image, outcome: Outcome) -> tuple[str, Picture.Image]:
    """Mean and greatest error in words, and slices through the landmark that is farthest off."""
    millimetres = outcome.millimetre_errors
    errors, unit = (outcome.errors, "px") if millimetres is None else (millimetres, "mm")
    worst = int(np.nanargmax(errors))
    landmarks = outcome.detection.landmarks
    apart = "not found" if outcome.missed[worst] else f"{errors[worst]:.1f} {unit}"
    caption = f"{np.nanmean(errors):.1f} {unit}; worst {landmarks.schema.ids[worst]}, {apart}"
    return caption, draw_slices(image, landmarks, outcome.truth, centre=outcome.truth[worst])


def _drawn(pairs: Sequence[tuple[str, Figure]]) -> list[tuple[str, str]]:
    """Captions with PNG pictures as text."""
    pictures = []
    for caption, figure in pairs:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        pictures.append((caption, _base64(buffer)))
    return pictures


def _base64(buffer: io.BytesIO) -> str:
    return base64.b64encode(buffer.getvalue()).decode("ascii")
