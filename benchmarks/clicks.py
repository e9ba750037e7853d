"""Errors by corrections of a spine model beside what was published, and beside published networks trained here.

    python benchmarks/clicks.py DATASET --published FOLDER FOLDER

A FOLDER is the result of one of the ``ikem`` recipes. Every model sees the same films, corrected by the same simulated
user (ten clicks, always the worst landmark that was not corrected yet), in one process, and its corrections are timed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.evaluation.click_figures import click_figures
from LandmarkDetectionLib.evaluation.clicks import ManualAnnotator, SessionAnnotator, simulate
from LandmarkDetectionLib.evaluation.dataset import DataSet, read_dataset
from LandmarkDetectionLib.evaluation.evaluate import evaluate, in_order_of, truth_rows
from LandmarkDetectionLib.evaluation.metrics import radial_errors, summary
from LandmarkDetectionLib.evaluation.protocols import protocol_named
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.bundle import Bundle, find_bundle
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.published.ikem import IkemAnnotator
from LandmarkDetectionLib.inference.published.ikem_folder import load_ikem
from LandmarkDetectionLib.landmarks import load_schema
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "clicks.json"
SCHEMA = "spine-ap"
CLICKS = 10


def milliseconds_since(start: float) -> float:
    """Wall time."""
    return 1000 * (time.perf_counter() - start)


class TimedSession(SessionAnnotator):
    """A session whose corrections are timed: one step of a drag, half way, and the release."""

    def __init__(self, detection: Detection) -> None:
        super().__init__(detection)
        self.follow_ms: list[float] = []
        self.release_ms: list[float] = []

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        place = self.positions[row]
        if np.isfinite(place).all():
            start = time.perf_counter()
            self.session.move(self.session.landmarks.schema.ids[row], (place + position) / 2, live=True)
            self.follow_ms.append(milliseconds_since(start))
        start = time.perf_counter()
        answer = super().correct(row, position)
        self.release_ms.append(milliseconds_since(start))
        return answer


class TimedNetwork:
    """A published network whose corrections are timed; the image is encoded before, once."""

    def __init__(self, annotator: IkemAnnotator) -> None:
        self.annotator = annotator
        self.release_ms: list[float] = []

    @property
    def positions(self) -> np.ndarray:
        return self.annotator.positions

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        answer = self.annotator.correct(row, position)
        self.release_ms.append(milliseconds_since(start))
        return answer


def over_films(times: list[list[float]]) -> float | None:
    """Median over films of each film's median; None where nothing was corrected."""
    medians = [statistics.median(film) for film in times if film]
    return statistics.median(medians) if medians else None


def measure_ours(data: DataSet, split: str, bundle: Bundle, protocol: str, bar: Progress) -> dict:
    """Figures of a bundle, with its times."""
    sessions: list[TimedSession] = []

    def annotator(detection: Detection) -> TimedSession:
        sessions.append(TimedSession(detection))
        return sessions[-1]

    task = bar.add_task(bundle.name, total=None)
    figures, _ = evaluate(
        data,
        Detector(bundle, device="cpu"),
        bundle.schema,
        split,
        CLICKS,
        protocol,
        progress=lambda done, total, name: bar.update(task, completed=done, total=total),
        annotator=annotator,
    )
    times = {key: over_films([getattr(session, key) for session in sessions]) for key in ("release_ms", "follow_ms")}
    training = ", ".join(f"{key} {value}" for key, value in bundle.training.items())
    return {"name": f"{bundle.name} {bundle.version}", "budget": training, **figures, **times}


def measure_published(data: DataSet, split: str, folder: Path, protocol: str, bar: Progress) -> dict:
    """Figures of a published network that was trained here, with its times."""
    trained, rules = load_ikem(folder), protocol_named(protocol)
    rows, cases = truth_rows(data, load_schema(trained.schema)), data.split(split)
    previous = None if rules.previous_map == "trained" else rules.previous_map
    films, manual, errors, times = [], [], [], []
    for case in bar.track(cases, description=folder.name):
        image, truth = read_image(case.path, spacing=data.spacing_mm), in_order_of(case.truth, rows)
        annotator = TimedNetwork(trained.annotator(image, previous))
        errors.append(radial_errors(annotator.positions, truth))
        manual.append(simulate(ManualAnnotator(annotator.positions), truth, CLICKS, rules, image.frame.size))
        films.append(simulate(annotator, truth, CLICKS, rules, image.frame.size))
        times.append(annotator.release_ms)
    return {
        "name": folder.name,
        "budget": budget(folder),
        "images": len(cases),
        "refused": 0,
        "parameters": sum(weight.numel() for weight in trained.networks[0].parameters()),
        "radial_error_px": summary(np.stack(errors)),
        **click_figures(films, manual, rules),
        "release_ms": over_films(times),
    }


def budget(folder: Path) -> str:
    """How long a published network was allowed to learn, by the recipe in its folder, and did, by the log beside it."""
    with (folder / "recipe.toml").open("rb") as file:
        recipe = tomllib.load(file)
    parts = []
    for stage, logs in (("without_hints", "without_hints"), ("schedule", "network")):
        if stage not in recipe:
            continue
        wanted, log = recipe[stage], folder.parent / logs / "fold0" / "log.csv"
        text = f"at most {wanted['epochs']} epochs of batch {wanted['batch']}"
        if "patience" in wanted:
            text += f", stopped after {wanted['patience']} without a better one"
        if log.is_file():
            with log.open(encoding="utf-8", newline="") as file:
                text += f" ({sum(1 for _ in csv.DictReader(file))} run)"
        parts.append(text)
    return ", then ".join(parts)


def rows(figures: dict) -> list[tuple[str, str, str, str, str]]:
    """What is asked, what was published on the official test films, ours, the limit, and whether it is reached."""
    curve, left, error = figures["by_clicks"], figures["error_left_by_clicks"][5], figures["radial_error_px"]
    number, rate = figures["noc_failures_as_cap"]["20"], figures["failure_rate"]["20"]
    worse = figures["right_points_worsened"] or {}
    points, corrections = worse.get("share_of_points"), worse.get("share_of_corrections")
    spoilt = "right points made worse by a correction"
    asked = (
        ("mean radial error before any click, px", "58.6 (Kim), 59.5 (UNet)", curve[0], 35, "{:.1f}"),
        ("median radial error before any click, px", "", error["median"], 12, "{:.1f}"),
        ("after 1 click", "35.4 (Kim), 38.3 (UNet)", curve[1], 24, "{:.1f}"),
        ("after 3 clicks", "24.0 (Kim), 22.6 (UNet)", curve[3], 16, "{:.1f}"),
        ("after 5 clicks", "17.7 (Kim), 17.5 (UNet)", curve[5], 12, "{:.1f}"),
        ("share of the initial error left after 5 clicks", "30 % (Kim)", left, 0.30, "{:.1%}"),
        ("clicks to 20 px within 10, failures = 10", "2.40 (UNet)", number, 1.5, "{:.2f}"),
        ("films that never reach 20 px", "6.25 % (Kim)", rate, 0.05, "{:.2%}"),
        (f"{spoilt}, of all such points", "", points, 0.01, "{:.2%}"),
        (f"{spoilt}, corrections with any", "", corrections, 0.01, "{:.2%}"),
        ("correction to new landmarks, ms", "", figures["release_ms"], 150, "{:.1f}"),
        ("live follow, ms", "", figures["follow_ms"], 10, "{:.1f}"),
    )
    return [
        (title, published or "not published", *_against(found, limit, form))
        for title, published, found, limit, form in asked
    ]


def _against(found: float | None, limit: float, form: str) -> tuple[str, str, str]:
    if found is None:
        return "none", form.format(limit), ""
    return form.format(found), form.format(limit), "yes" if found <= limit else "no"


def show(ours: dict, others: list[dict], title: str) -> None:
    """The table of what was asked, and one with a line for each model."""
    console = Console()
    table = Table(title=title)
    for heading in ("", "published", "ours", "at most", "reached"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for row in rows(ours):
        table.add_row(*row)
    console.print(table)
    notes = f"{ours['refused']} of {ours['images']} films refused, {ours['missed']} landmarks missed. "
    strange, inner = len(ours["labels_out_of_order"] or ()), ours["in_order"]
    if strange and inner:
        notes += f"Films with labels out of order: {strange}; without them " + ", ".join(
            f"{inner['by_clicks'][click]:.1f} px after {click}" for click in (0, 1, 3, 5)
        )
    console.print(notes)
    table = Table(title="Mean error (px) by clicks on the same films, trained on the same split")
    for heading in ("model", "0", "1", "3", "5", "10", "to 20 px", "never", "ms"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in (ours, *others):
        errors = [f"{model['by_clicks'][click]:.1f}" for click in (0, 1, 3, 5, 10)]
        number, never = model["noc_failures_as_cap"]["20"], model["failure_rate"]["20"]
        time_ms = "" if model["release_ms"] is None else f"{model['release_ms']:.0f}"
        table.add_row(model["name"], *errors, f"{number:.2f}", f"{never:.1%}", time_ms)
    console.print(table)
    for model in (ours, *others):
        console.print(f"{model['name']}, training: {model['budget']}")


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with images/, landmarks.csv and dataset.json")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="spine-ap-radiograph", help="name or folder of a bundle")
    parser.add_argument("--published", type=Path, nargs="*", default=[], help="results of ikem recipes")
    parser.add_argument("--protocol", choices=("ours", "kim"), default="ours", help="how corrections are simulated")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        data, bundle = read_dataset(arguments.dataset), find_bundle(arguments.model)
        if bundle.schema.name != SCHEMA:
            raise LandmarkDetectionError(f"'{bundle.name}' is not a model of the spine; the published figures are.")
        with Progress(transient=True) as bar:
            ours = measure_ours(data, arguments.split, bundle, arguments.protocol, bar)
            others = [
                measure_published(data, arguments.split, folder, arguments.protocol, bar)
                for folder in arguments.published
            ]
    except LandmarkDetectionError as error:
        raise SystemExit(str(error)) from error
    title = f"{ours['name']} on {ours['images']} films of {data.name}, split {arguments.split}"
    show(ours, others, f"{title}, protocol {arguments.protocol}")
    machine = {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "threads": arguments.threads,
    }
    run = {"dataset": data.name, "split": arguments.split, "protocol": arguments.protocol, "machine": machine}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**run, "models": [ours, *others]}, indent=1) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
