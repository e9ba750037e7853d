"""Does the drawn bone help to find wrong landmarks? Expected errors alone, and with what the segmentation says.

    python benchmarks/contour_flags.py DATA TRAINING [--val]

DATA is the data set ``knee_xray``, TRAINING the output folder of the recipe ``knee-ap-radiograph``, whose teachers
speak for the films of ``train`` that they have not learnt from. Everything is fitted on four fifths of the subjects and
judged on the fifth that is left, five times. With ``--val`` the split ``val`` is judged by what all of ``train`` says.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.bone_model import BoneModel, find_bone_model
from LandmarkDetectionLib.inference.bundle import Bundle, find_bundle
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.segmentation import edge_distances, segment
from LandmarkDetectionLib.training.anatomy.publishing import contour_limits
from LandmarkDetectionLib.training.calibration.bundle_writing import halve
from LandmarkDetectionLib.training.calibration.evidence import detections, evidence, uncalibrated, with_members
from LandmarkDetectionLib.training.calibration.figures import FOLDS, SEED, judged
from LandmarkDetectionLib.training.calibration.fitting import ERRONEOUS, Evidence, fit
from LandmarkDetectionLib.training.data.films import read_groups, read_labels, subject_folds
from LandmarkDetectionLib.training.joint.export import teacher_file
from LandmarkDetectionLib.training.joint.model import FilmModel
from LandmarkDetectionLib.training.recipe import load_recipe
from LandmarkDetectionLib.uncertainty.review import area_under_curve
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

MODEL = "knee-ap-radiograph"
FLOOR = 0.01
"""Distances from the edge below this share of the centroid size are all alike."""

DRAWS = 2000
SIGNALS = {
    "expected error alone": (),
    "+ distance from the edge": ("distance",),
    "+ fit of the gray values": ("fit",),
    "+ how unusual the shape is": ("divergence",),
    "+ all three": ("distance", "fit", "divergence"),
}


@dataclass(frozen=True, eq=False)
class Films:
    """What is known of m films of one split, lengths as shares of the centroid size."""

    evidence: Evidence
    expected: np.ndarray
    signals: dict[str, np.ndarray]
    truth_distances: np.ndarray
    subjects: np.ndarray

    def select(self, rows: np.ndarray) -> Films:
        """Some of the films."""
        signals = {name: values[rows] for name, values in self.signals.items()}
        return Films(
            self.evidence.select(rows), self.expected[rows], signals, self.truth_distances[rows], self.subjects[rows]
        )


def look(found: dict[str, Detection], data: Path, model: BoneModel, learnt: Evidence | None = None) -> Films:
    """Segment every film about its detection, and measure the landmarks found and the true ones."""
    points, groups = read_labels(data)[0], read_groups(data)
    seen = evidence(list(found.items()), points, groups, own_spread=False)
    rows: dict[str, list] = {"distance": [], "fit": [], "divergence": [], "truth": []}
    for (name, detection), size in zip(found.items(), seen.size, strict=True):
        image = read_image(data / "images" / name)
        bones = segment(detection, image, model)
        rows["distance"].append(np.log(bones.distances / size + FLOOR))
        rows["fit"].append(np.full(len(bones.distances), -bones.drawn.fit))
        rows["divergence"].append(np.full(len(bones.distances), bones.drawn.divergence))
        rows["truth"].append(edge_distances(bones.drawn, image.frame.to_physical(points[name])) / size)
    truth = np.array(rows.pop("truth"))
    expected = held_out_expected(seen) if learnt is None else expected_by(learnt, seen)
    return Films(seen, expected, {key: np.array(values) for key, values in rows.items()}, truth, np.array(seen.groups))


def out_of_fold(data: Path, training: Path, folder: Path) -> dict[str, dict[str, Detection]]:
    """Detections by split: of ``train`` by the teacher that has not seen the film, of ``val`` by the model itself."""
    teachers = FilmModel(load_recipe(MODEL), data, training)
    shutil.copytree(find_bundle(MODEL).folder, folder, dirs_exist_ok=True)
    for fold in range(teachers.recipe.folds):
        halve(teachers.trained_teacher(fold), folder / teacher_file(fold))
    bundle, found = uncalibrated(Bundle.load(folder)), {"train": {}}
    for fold in range(teachers.recipe.folds):
        names = [name for name, own in zip(teachers.films.names, teachers.folds, strict=True) if own == fold]
        found["train"] |= detections(with_members(bundle, landmarks=[teacher_file(fold)]), data, names)
    splits = read_labels(data)[1]
    found["val"] = dict(detections(bundle, data, [name for name, split in splits.items() if split == "val"]))
    return found


def held_out_expected(seen: Evidence) -> np.ndarray:
    """Expected errors (m, n) as shares of the centroid size, of each fold by the calibration that the others give."""
    folds, expected = subject_folds(seen.groups, FOLDS, SEED), np.empty(seen.errors.shape)
    for fold in range(FOLDS):
        rows = np.flatnonzero(folds == fold)
        expected[rows] = expected_by(seen.select(np.flatnonzero(folds != fold)), seen.select(rows))
    return expected


def expected_by(learnt: Evidence, seen: Evidence) -> np.ndarray:
    """Expected errors of some films by the calibration that others give."""
    return judged(seen, fit(learnt))["expected"] / seen.size[:, None]


def judge(learnt: Films, judged_on: Films) -> dict[str, np.ndarray]:
    """Expected errors (m, n) of some films by each set of signals, as others teach them, and which are wrong."""
    result = {"wrong": judged_on.evidence.errors > ERRONEOUS}
    for title, names in SIGNALS.items():
        change = fitted_change(learnt.expected, learnt.evidence.errors, learnt, judged_on, names)
        result[title] = judged_on.expected * change
    return result


def fitted_change(
    expected: np.ndarray, errors: np.ndarray, learnt: Films, judged_on: Films, names: tuple[str, ...]
) -> np.ndarray:
    """Factor ``exp(sum_k b_k s_k)`` on expected errors, s standardized, b what makes exponential errors likeliest."""
    if not names:
        return np.ones(judged_on.evidence.errors.shape)
    # Each landmark by its own mean: margins are farther from the drawn edge than the rest.
    centers = [learnt.signals[name].mean(axis=0) for name in names]
    scales = [(learnt.signals[name] - center).std() for name, center in zip(names, centers, strict=True)]

    def standard(films: Films) -> np.ndarray:
        parts = zip(names, centers, scales, strict=True)
        return np.stack([(films.signals[name] - center) / scale for name, center, scale in parts])

    inside = standard(learnt)

    def cost(weights: np.ndarray) -> float:
        said = np.log(expected) + weights[0] + np.tensordot(weights[1:], inside, axes=1)
        return float(np.mean(said + errors * np.exp(-said)))

    weights = minimize(cost, np.zeros(len(names) + 1)).x
    return np.exp(np.tensordot(weights[1:], standard(judged_on), axes=1))


def cross_validated(films: Films) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`judge` for every film by the other folds, and which landmarks their limits point out."""
    folds = subject_folds(list(films.subjects), FOLDS, SEED)
    parts, shape = [], films.evidence.errors.shape
    joined, flags = {}, {name: np.zeros(shape, dtype=bool) for name in ("found", "truth")}
    for fold in range(FOLDS):
        inner, outer = films.select(np.flatnonzero(folds != fold)), films.select(np.flatnonzero(folds == fold))
        parts.append((np.flatnonzero(folds == fold), judge(inner, outer)))
        flags_of(flags, np.flatnonzero(folds == fold), inner, outer)
    for name in parts[0][1]:
        joined[name] = np.empty(shape)
        for rows, values in parts:
            joined[name][rows] = values[name]
    return joined, flags


def flags_of(flags: dict[str, np.ndarray], rows: np.ndarray, learnt: Films, judged_on: Films) -> None:
    """Write which landmarks, found and true, lie beyond the limits that other films give."""
    limits = contour_limits(learnt.truth_distances)
    flags["found"][rows] = np.exp(judged_on.signals["distance"]) - FLOOR > limits
    flags["truth"][rows] = judged_on.truth_distances > limits


def gain_interval(values: dict[str, np.ndarray], title: str, subjects: np.ndarray) -> tuple[float, float]:
    """95 % of the gains in area over the expected error alone when subjects are drawn anew."""
    rng, unique = np.random.default_rng(SEED), np.unique(subjects)
    rows_of = {subject: np.flatnonzero(subjects == subject) for subject in unique}
    gains = []
    for _ in range(DRAWS):
        rows = np.concatenate([rows_of[subject] for subject in rng.choice(unique, len(unique))])
        wrong = values["wrong"][rows].astype(float)
        both = [area_under_curve(values[name][rows], wrong, 0.5) for name in (title, "expected error alone")]
        if None not in both:
            gains.append(both[0] - both[1])
    return tuple(np.quantile(gains, (0.025, 0.975)))


def report(console: Console, split: str, films: Films, values: dict, flags: dict) -> None:
    """Areas under the curve, and what the limits point out."""
    table = Table(title=f"{split}: {len(films.subjects)} films, {values['wrong'].mean():.1%} of the landmarks wrong")
    for heading in ("review by", "area under the curve", "gain (95 % interval)"):
        table.add_column(heading, justify="left" if heading == "review by" else "right")
    wrong, base = values["wrong"].astype(float), None
    for title in SIGNALS:
        area = area_under_curve(values[title], wrong, 0.5)
        base = area if base is None else base
        low, high = gain_interval(values, title, films.subjects)
        table.add_row(title, f"{area:.3f}", f"{area - base:+.3f} ({low:+.3f} to {high:+.3f})" if area != base else "")
    table.add_row("distance from the edge alone", f"{area_under_curve(films.signals['distance'], wrong, 0.5):.3f}", "")
    console.print(table)
    found, is_wrong = flags["found"], values["wrong"].astype(bool)
    console.print(
        f"Beyond the limits: {found.sum()} landmarks found, {(found & is_wrong).sum()} of them wrong, of "
        f"{is_wrong.sum()} wrong ones; true landmarks on {flags['truth'].any(axis=1).mean():.1%} of the films "
        f"(limits are made for 5 %). Median distance of the true ones: {np.median(films.truth_distances):.3f} "
        "of the centroid size."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("training", type=Path)
    parser.add_argument("--val", action="store_true", help="judge the split val, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console, model = Console(width=110), find_bone_model("knee-ap")
    with tempfile.TemporaryDirectory() as folder:
        found = out_of_fold(arguments.data, arguments.training, Path(folder))
    train = look(found["train"], arguments.data, model)
    report(console, "train, cross-validated", train, *cross_validated(train))
    if arguments.val:
        val = look(found["val"], arguments.data, model, train.evidence)
        flags = {name: np.zeros(val.evidence.errors.shape, dtype=bool) for name in ("found", "truth")}
        flags_of(flags, np.arange(len(val.subjects)), train, val)
        report(console, "val", val, judge(train, val), flags)


if __name__ == "__main__":
    main()
