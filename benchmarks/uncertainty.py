"""Prediction regions of 95 % by several methods on the same points, each judged on films that it was not calibrated on.

    python benchmarks/uncertainty.py DATA_FOLDER --model cephalogram-lateral --split test1

The films of the split, which the model must not have learnt from, are divided into five parts; what judges one part was
calibrated on the other four. All methods share the detections, so they differ only in what they say of the errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.evaluation.dataset import Case, read_dataset
from LandmarkDetectionLib.inference.bundle import Bundle, find_bundle
from LandmarkDetectionLib.training.calibration.figures import FOLDS, SEED
from LandmarkDetectionLib.training.calibration.fitting import LEVEL
from LandmarkDetectionLib.training.data.films import subject_folds
from LandmarkDetectionLib.uncertainty.reliability import CHH_EDGES, calibration_error, heatmap_confidence
from LandmarkDetectionLib.uncertainty.review import area_under_curve, grouped_correlation
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from uncertainty_films import DROPOUT, PASSES, SCALE, SHIFT, Looks, look_at, partners
from uncertainty_methods import METHODS, Fold, Judgement

RADII = (2, 4)
DRAWS = 1000
"""Of landmarks by chance, for what even perfect regions and confidences would seem to lack."""

DIVISIONS = 5
"""Other divisions into parts by which the shipped method is judged."""

SHIPPED = "3 conformal highest density"

BINS = {"bins of the paper": CHH_EDGES, "ten of equal width": "fixed", "ten of equal counts": "adaptive"}


def chosen(cases: tuple[Case, ...], most: int | None) -> tuple[Case, ...]:
    """Up to so many of them, spread over all."""
    count = len(cases) if most is None else min(most, len(cases))
    return tuple(cases[k] for k in np.unique(np.linspace(0, len(cases) - 1, count).astype(int)))


def check_model(bundle: Bundle) -> None:
    """Raises a LandmarkDetectionError for a model that works in another way."""
    if bundle.kind != "patch" or bundle.stages["landmarks"].network["kind"] != "resnet_unet":
        raise LandmarkDetectionError(
            f"'{bundle.name}' does not look at single patches with a residual UNet; choose a model that does."
        )


def cross_validated(
    looks: Looks, bar: Progress, methods: Mapping[str, Callable[[Fold], Judgement]], seed: int = SEED
) -> tuple[np.ndarray, dict[str, Judgement], list[np.ndarray]]:
    """Rows of the films in the order in which they were judged, the judgements, and the temperatures for each film.

    Raises:
        LandmarkDetectionError: there are too few films to divide.
    """
    groups = looks.evidence.groups
    if len(set(groups)) < FOLDS:
        raise LandmarkDetectionError(f"Only {len(set(groups))} groups of films are left; {FOLDS} are needed at least.")
    folds = subject_folds(groups, FOLDS, seed)
    rows, parts, temperatures = [], {name: [] for name in methods}, []
    task = bar.add_task("folds", total=FOLDS * len(methods))
    for number in range(FOLDS):
        kept_out = np.flatnonzero(folds == number)
        fold = Fold.make(looks.select(np.flatnonzero(folds != number)), looks.select(kept_out))
        for name, method in methods.items():
            parts[name].append(method(fold))
            bar.advance(task)
        rows.append(kept_out)
        temperatures.append(np.tile(fold.values["temperature"], (len(kept_out), 1)))
    return np.concatenate(rows), {name: Judgement.joined(some) for name, some in parts.items()}, temperatures


def figures(looks: Looks, judgement: Judgement, pixel: float) -> dict[str, float | None]:
    """Figures of one method over all films; lengths in units of which a pixel has ``pixel``."""
    seen = looks.evidence
    known = np.isfinite(seen.errors)
    counted, cell = known.any(axis=0), seen.cell[:, None] * pixel
    errors, expected = (seen.errors * seen.size[:, None] * pixel)[known], (judgement.expected * cell)[known]
    by_landmark = (judgement.inside & known).sum(axis=0)[counted] / known.sum(axis=0)[counted]
    return {
        "coverage": judgement.inside[known].mean(),
        "least": by_landmark.min(),
        "joint": (judgement.joint | ~known).all(axis=1)[known.any(axis=1)].mean(),
        "area": np.median((judgement.area * cell**2)[known]),
        "correlation": grouped_correlation(expected, errors),
        **{f"beyond {radius}": area_under_curve(expected, errors, radius) for radius in RADII},
        "milliseconds": np.median(judgement.milliseconds),
    }


def by_division(looks: Looks, bar: Progress, pixel: float) -> str:
    """How much the figures of the expected errors owe to which films happen to be in which part."""
    divisions = []
    for seed in range(DIVISIONS):
        rows, judgements, _ = cross_validated(looks, bar, {SHIPPED: METHODS[SHIPPED]}, seed)
        divisions.append(figures(looks.select(rows), judgements[SHIPPED], pixel))
    said = []
    for name in ("correlation", *(f"beyond {radius}" for radius in RADII)):
        values = [figure for division in divisions if (figure := division[name]) is not None]
        words = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "-"
        said.append(f"{name} {words}")
    return f"{SHIPPED}, {DIVISIONS} other divisions: " + ", ".join(said)


def methods_table(looks: Looks, judgements: dict[str, Judgement], pixel: float, unit: str, title: str) -> Table:
    """One line for each method."""
    table = Table(title=title)
    columns = ("coverage", "least of a\nlandmark", "joint", f"median\narea, {unit}²", "r, groups\nof 36")
    for heading in ("method", *columns, *(f"AUC\n> {radius} {unit}" for radius in RADII), "ms a film"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    forms = ("{:.1%}", "{:.1%}", "{:.1%}", "{:.2f}", "{:.3f}", "{:.3f}", "{:.3f}", "{:.0f}")
    for name, judgement in judgements.items():
        values = figures(looks, judgement, pixel).values()
        cells = ["-" if value is None else form.format(value) for value, form in zip(values, forms, strict=True)]
        table.add_row(name, *cells)
    return table


def confidences(looks: Looks, temperatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) confidence in the best cells of all heatmaps, and whether they hold the truth."""
    films = zip(looks.evidence.logits, temperatures, looks.evidence.truth.numpy(), strict=True)
    found = [heatmap_confidence(maps.float().numpy() / own[:, None, None], truth) for maps, own, truth in films]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def ece_table(looks: Looks, temperatures: np.ndarray) -> Table:
    """Calibration errors, and what they would be if every confidence were true (mean and 95 % of the draws)."""
    rng = np.random.default_rng(SEED)
    table = Table(title="Expected calibration error, per cent: measured / if perfectly calibrated (95 % of the draws)")
    for heading in ("confidence", *BINS):
        table.add_column(heading, justify="left" if heading == "confidence" else "right")
    for name, own in {"as it is": np.ones_like(temperatures), "temperature": temperatures}.items():
        confidence, correct = confidences(looks, own)
        drawn = rng.random((DRAWS, len(confidence))) < confidence
        cells = []
        for edges in BINS.values():
            floor = [calibration_error(confidence, draw, edges) for draw in drawn]
            measured = calibration_error(confidence, correct, edges)
            cells.append(f"{measured:.2f} / {np.mean(floor):.2f} ({np.quantile(floor, 0.95):.2f})")
        table.add_row(name, *cells)
    return table


def notes(bundle: Bundle, looks: Looks, judgements: dict[str, Judgement], refused: int) -> list[str]:
    """What has to be known to read the table."""
    known = np.isfinite(looks.evidence.errors).sum(axis=0)
    by_chance = np.random.default_rng(SEED).binomial(known[known > 0], LEVEL, (DRAWS, (known > 0).sum()))
    least = (by_chance / known[known > 0]).min(axis=1)
    shares = {name: part.weight.mean() for name, part in judgements.items() if np.isfinite(part.weight).all()}
    mirror = (
        "beside them one flipped, each point read as its partner"
        if partners(bundle.schema) is not None
        else f"no flip: '{bundle.schema.title}' has no mirror pairs, so flip averaging is not defined for it"
    )
    return [
        f"{len(looks.evidence)} films, {refused} refused; mean error {error_words(looks)}.",
        f"Least of a landmark if all were covered at {LEVEL:.0%}: {least.mean():.1%} on average over draws.",
        "1 and 2 take the heatmap at its word, for single landmarks and jointly; the others are conformal for both.",
        "3 and 4: errors are expected as in a detection, by the heatmap and by where the other landmarks put each one.",
        "5 to 8: errors are expected as the root of the covariance's trace, scaled for each landmark where calibrated.",
        "6 to 8: the scatter of the points, brought to the size of the constant covariance and mixed with it; its "
        "share is the one with the smallest regions where calibrated: "
        + ", ".join(f"{name.split()[0]}: {share:.2f}" for name, share in shares.items())
        + " (mean of the folds).",
        f"7: {PASSES} passes of one member with {DROPOUT:.0%} of the channels before its head dropped; it was trained "
        "without dropout, so this is a perturbation and no sample of a posterior.",
        f"8: {PASSES} views by one member, patches moved by {SHIFT} centroid sizes and scaled by {SCALE} and its "
        f"inverse; {mirror}.",
        "ms a film: median processor time of one thread that a method adds to the detection, which takes "
        f"{np.median(looks.milliseconds['detection']):.0f} ms; for 6 the members are part of the detection.",
    ]


def error_words(looks: Looks) -> str:
    """Mean error in pixels."""
    figures_px = looks.evidence.figures()["radial_error_px"]
    return f"{figures_px['mean']:.2f} px, median {figures_px['median']:.2f} px"


def main() -> None:
    """Looks at the films, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with images/, landmarks.csv and dataset.json")
    parser.add_argument("--model", default="cephalogram-lateral", help="name or folder of a bundle of kind patch")
    parser.add_argument("--split", default="test1", help="films that no network has learnt from")
    parser.add_argument("--films", type=int, help="most films, spread over the split; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    try:
        bundle, data = find_bundle(arguments.model), read_dataset(arguments.data)
        check_model(bundle)
        cases = chosen(data.split(arguments.split), arguments.films)
        pixel, unit = (1.0, "px") if data.spacing_mm is None else (data.spacing_mm, "mm")
        with Progress(transient=True) as bar:
            looks, refused = look_at(bundle, arguments.data, cases, data.spacing_mm, bar)
            rows, judgements, temperatures = cross_validated(looks, bar, METHODS)
            others = by_division(looks, bar, pixel)
    except LandmarkDetectionError as error:
        raise SystemExit(str(error)) from error
    judged = looks.select(rows)
    console = Console(width=120)
    title = f"{bundle.name} {bundle.version} on {data.name}, split {arguments.split}: regions of {LEVEL:.0%}"
    console.print(methods_table(judged, judgements, pixel, unit, title))
    console.print("\n".join([*notes(bundle, judged, judgements, refused), others]), highlight=False)
    console.print(ece_table(judged, np.concatenate(temperatures)))


if __name__ == "__main__":
    main()
