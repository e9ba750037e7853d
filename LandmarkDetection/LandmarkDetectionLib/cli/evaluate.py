"""``evaluate``: the figures of a model on a data set, as JSON for machines and HTML for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress
from rich.table import Table

from ..errors import LandmarkDetectionError
from .output import INCOMPLETE, console, error_console, load_bundle, output_folder

if TYPE_CHECKING:
    from ..inference.bundle import Bundle
    from ..inference.detector import Detector
    from ..inference.published.contour import ContourDetector, TrainedContour


def run_evaluate(
    dataset: Path, model: str, out: Path, split: str | None, clicks: int, protocol: str, device: str
) -> int:
    """Write ``metrics.json``, ``report.html`` and, with clicks, ``clicks.png``; 0 only when every image was handled."""
    from ..evaluation.dataset import read_dataset
    from ..evaluation.evaluate import evaluate
    from ..evaluation.report import write_click_plot, write_report

    data = read_dataset(dataset)
    folder = output_folder(out)
    about, detector = load_detector(model, device)
    with Progress(console=error_console, transient=True) as bar:
        task = bar.add_task("Detecting", total=None)
        click_task = bar.add_task("Correcting", total=clicks, visible=clicks > 0)
        figures, outcomes = evaluate(
            data,
            detector,
            about.schema,
            split=split,
            clicks=clicks,
            protocol=protocol,
            progress=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
            clicked=lambda done, total, name: bar.update(click_task, completed=done),
        )
    try:
        (folder / "metrics.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        write_report(
            folder / "report.html", figures, outcomes, data, f"{about.name} {about.version}", about.terms, split
        )
        if clicks:
            write_click_plot(folder / "clicks.png", figures)
    except OSError as error:
        raise LandmarkDetectionError(f"The results cannot be written to '{folder}' ({error.strerror}).") from error
    for outcome in outcomes:
        if outcome.detection is None:
            error_console.print(f"{outcome.case.name}: {outcome.refusal}")
    if clicks:
        _print_clicks(figures, protocol)
    _print_summary(figures, folder)
    return INCOMPLETE if figures["refused"] else 0


def load_detector(model: str, device: str) -> tuple[Bundle | TrainedContour, Detector | ContourDetector]:
    """What is evaluated and how it detects: a bundle, or Contour-Hugging Heatmaps as their training left them.

    Raises:
        BundleError: no such model, or its files are missing or altered.
    """
    from ..inference.detector import Detector
    from ..inference.published.contour import ContourDetector
    from ..inference.published.contour_folder import is_contour_folder, load_contour

    if is_contour_folder(Path(model)):
        trained = load_contour(Path(model))
        console.print(f"Model {trained.name} {trained.version}. Terms of use: {trained.terms}")
        return trained, ContourDetector(trained, device)
    bundle = load_bundle(model)
    return bundle, Detector(bundle, device=device)


def _print_summary(figures: dict, folder: Path) -> None:
    inner = figures["in_order"] if figures["labels_out_of_order"] else None
    for title, row in (
        ("Radial error (px)", figures["radial_error_px"]),
        ("Across the bone edge (px)", figures["radial_error_normal_px"]),
        ("Radial error (% of the image's height)", figures["radial_error_height_percent"]),
        ("Radial error (mm)", figures["radial_error_mm"]),
        ("Radial error (px), films with labels in order", inner and inner["radial_error_px"]),
    ):
        if row:
            low, high = row["ci95"]
            console.print(f"{title}: mean {row['mean']:.2f} ({low:.2f} to {high:.2f}), median {row['median']:.2f}")
    if figures["missed"]:
        console.print(f"Landmarks not found: {figures['missed']}; each counts as lying in the middle of its image")
    for key, words in (("present_found", "in view that were found"), ("absent_reported", "out of view reported so")):
        if figures[key] is not None:
            console.print(f"Landmarks {words}: {100 * figures[key]:.1f} %")
    _print_levels(figures["levels"], "")
    if inner:
        _print_levels(inner["levels"], ", films with labels in order")
    if figures["labels_out_of_order"]:
        console.print(f"Films with labels out of order: {len(figures['labels_out_of_order'])}")
    if figures["coverage"]:
        share, (low, high) = figures["coverage"], figures["coverage_ci95"]["all"]
        area = figures["region_area"]
        console.print(
            f"Truths inside the prediction regions: {100 * share['all']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), "
            f"promised {100 * share['level']:.0f} %; median size {area['median']:.1f} {area['unit']}"
        )
    if figures["side_accuracy"] is not None:
        console.print(f"Side right: {100 * figures['side_accuracy']:.1f} %")
    console.print(f"{figures['images']} images, {figures['refused']} refused; results in {folder}")


def _print_levels(levels: dict | None, which: str) -> None:
    if levels is None:
        return
    inside, outside, images, wrong = (levels[key] for key in ("in_view", "out_of_view", "images", "wrong"))
    if inside["count"]:
        low, high = inside["ci95"]
        console.print(
            f"Vertebrae in view{which}: {inside['count']}, on their level {inside['on_its_level']} "
            f"({100 * inside['share']:.1f} %, {100 * low:.1f} to {100 * high:.1f}), on another level "
            f"{inside['on_another_level']}, not found {inside['missed']}"
        )
    if outside["count"]:
        console.print(
            f"Vertebrae out of view{which}: {outside['count']}, reported absent {outside['reported_absent']}, "
            f"reported present {outside['reported_present']}"
        )
    console.print(
        f"Levels in {sum(images.values())} images{which}: all right in {images['all_right']}, none wrong but some "
        f"missed or made up in {images['missed_or_invented']}, whole column shifted in {images['shifted']}, "
        f"some wrong in {images['some_wrong']}; "
        f"of {wrong['images']} with wrong levels, {wrong['flagged']} flagged"
    )


def _print_clicks(figures: dict, protocol: str) -> None:
    unit = figures["clicks_unit"]
    film = "film" if unit == "px" else "volume"
    table = Table(title=f"Mean radial error of a {film} ({unit}) by corrections, protocol {protocol}")
    for heading in ("corrections", "mean", "95 % interval", "median", "left of the first", "by hand"):
        table.add_column(heading, justify="right")
    columns = ("by_clicks", "by_clicks_ci95", "median_by_clicks", "error_left_by_clicks", "manual_by_clicks")
    for click, (mean, (low, high), median, left, manual) in enumerate(
        zip(*(figures[key] for key in columns), strict=True)
    ):
        share = "" if left is None else f"{100 * left:.0f} %"
        table.add_row(str(click), f"{mean:.2f}", f"{low:.2f} to {high:.2f}", f"{median:.2f}", share, f"{manual:.2f}")
    console.print(table)
    table = Table(title=f"Corrections until the mean error of a {film} is small enough")
    headings = (f"target, {unit}", "failures as cap", f"{film}s that reach it only", f"{film}s that never reach it")
    for heading in headings:
        table.add_column(heading, justify="right")
    for target, rate in figures["failure_rate"].items():
        reached = figures["noc_reached_only"][target]
        number = "" if reached is None else f"{reached:.2f}"
        table.add_row(target, f"{figures['noc_failures_as_cap'][target]:.2f}", number, f"{100 * rate:.1f} %")
    console.print(table)
    worsened = figures["right_points_worsened"]
    if worsened and worsened["share_of_points"] is not None:
        console.print(
            f"A correction makes {100 * worsened['share_of_points']:.2f} % of the untouched landmarks that were right "
            f"worse by more than {worsened['worse_by_px']:g} {unit}; {100 * worsened['share_of_corrections']:.1f} % of "
            f"{worsened['corrections']} corrections do so to at least one."
        )
