"""``evaluate``: the figures of a model on a data set, as JSON for machines and HTML for people."""

from __future__ import annotations

import json
from pathlib import Path

from rich.progress import Progress

from ..errors import LandmarkDetectionError
from .output import INCOMPLETE, console, error_console, load_bundle, output_folder


def run_evaluate(
    dataset: Path, model: str, out: Path, split: str | None, clicks: int, protocol: str, device: str
) -> int:
    """Write ``metrics.json`` and ``report.html``; 0 only when every image was handled."""
    from ..evaluation.dataset import read_dataset
    from ..evaluation.evaluate import evaluate
    from ..evaluation.report import write_report
    from ..inference.detector import Detector

    data = read_dataset(dataset)
    folder = output_folder(out)
    bundle = load_bundle(model)
    with Progress(console=error_console, transient=True) as bar:
        task = bar.add_task("Detecting", total=None)
        figures, outcomes = evaluate(
            data,
            Detector(bundle, device=device),
            bundle.schema,
            split=split,
            clicks=clicks,
            protocol=protocol,
            progress=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
        )
    try:
        (folder / "metrics.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        write_report(
            folder / "report.html", figures, outcomes, data, f"{bundle.name} {bundle.version}", bundle.terms, split
        )
    except OSError as error:
        raise LandmarkDetectionError(f"The results cannot be written to '{folder}' ({error.strerror}).") from error
    for outcome in outcomes:
        if outcome.detection is None:
            error_console.print(f"{outcome.case.name}: {outcome.refusal}")
    _print_summary(figures, folder)
    return INCOMPLETE if figures["refused"] else 0


def _print_summary(figures: dict, folder: Path) -> None:
    for title, key in (
        ("Radial error (px)", "radial_error_px"),
        ("Across the bone edge (px)", "radial_error_normal_px"),
        ("Radial error (mm)", "radial_error_mm"),
    ):
        row = figures[key]
        if row:
            low, high = row["ci95"]
            console.print(f"{title}: mean {row['mean']:.2f} ({low:.2f} to {high:.2f}), median {row['median']:.2f}")
    if figures["side_accuracy"] is not None:
        console.print(f"Side right: {100 * figures['side_accuracy']:.1f} %")
    console.print(f"{figures['images']} images, {figures['refused']} refused; results in {folder}")
