"""Evaluation of models without a side on spine films: missed landmarks, labels out of order, error by height."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.evaluation.dataset import read_dataset
from LandmarkDetectionLib.evaluation.evaluate import evaluate
from LandmarkDetectionLib.evaluation.label_order import descends, names_vertebrae
from LandmarkDetectionLib.evaluation.report import write_click_plot, write_report
from LandmarkDetectionLib.inference.detection import Detection, Heatmaps
from LandmarkDetectionLib.landmarks import LandmarkSet, load_schema
from LandmarkDetectionLib.priors import ShapePrior

SPINE = load_schema("spine-ap")


class MeanColumn:
    """The simplest detector there is: the mean of the training labels, each as a share of its film's size.

    Attributes:
        absent: ids that it declares absent on every film.
    """

    def __init__(self, data) -> None:
        self.absent: tuple[str, ...] = ()
        cases = [case for case in data.split("train") if descends(case.truth, SPINE)]
        labels = np.stack([case.truth for case in cases])
        self.prior = ShapePrior.fit(labels[::10], folds=3)
        self.shares = (labels / labels.max(axis=1, keepdims=True)).mean(axis=0) * [0.8, 0.95]

    def detect(self, image) -> Detection:
        frame = image.frame
        count = len(self.shares)
        positions = self.shares * frame.size
        statuses = ["predicted"] * count
        for row in map(SPINE.index, self.absent):
            positions[row], statuses[row] = np.nan, "absent"
        grid = frame.resampled(size=(16, 32))
        cells = grid.to_index(frame.to_physical(np.nan_to_num(positions)))
        y, x = np.mgrid[:32, :16]
        squared = (x - cells[:, 0, None, None]) ** 2 + (y - cells[:, 1, None, None]) ** 2
        deviation = np.array(frame.size) / [16, 32]
        landmarks = LandmarkSet(
            SPINE,
            frame,
            positions,
            np.broadcast_to(np.diag(deviation**2), (count, 2, 2)),
            np.full(count, deviation.mean()),
            tuple(statuses),
            ("mean 1",) * count,
        )
        return Detection(
            "mean", "1", "0" * 64, image.name, landmarks, None, None, 1.0, self.prior, Heatmaps(-squared / 2, grid)
        )


@pytest.fixture(scope="module")
def spine(landmark_data):
    return read_dataset(landmark_data / "spine_xray")


@pytest.fixture(scope="module")
def some(spine):
    """Two films with labels in order and one without."""
    cases = spine.split("val")
    ordered = [case for case in cases if descends(case.truth, SPINE)][:2]
    strange = [case for case in cases if not descends(case.truth, SPINE)][:1]
    return dataclasses.replace(spine, cases=(*spine.split("train"), *ordered, *strange))


@pytest.fixture(scope="module")
def detector(spine):
    return MeanColumn(spine)


def test_labels_out_of_order_are_found(spine):
    assert names_vertebrae(SPINE)
    assert not names_vertebrae(load_schema("knee-ap"))
    strange = [case for case in spine.split("val") if not descends(case.truth, SPINE)]
    assert len(strange) == 7
    orders = [np.argsort(case.truth.reshape(17, 4, 2)[..., 1].mean(axis=1)).tolist() for case in strange]
    # The usual error: the uppermost vertebra comes last and every other one a level too early.
    assert orders.count([16, *range(16)]) == 7


def test_labels_that_are_missing_do_not_break_the_order():
    middles = np.arange(17.0)[:, None, None] * [0, 100.0]
    truth = (middles + [[-20, -30], [20, -30], [-20, 30], [20, 30]]).reshape(68, 2)
    assert descends(truth, SPINE)
    truth[20:24] = np.nan
    truth[30] = np.nan
    assert descends(truth, SPINE)
    truth[:4], truth[64:] = truth[64:].copy(), truth[:4].copy()
    assert not descends(truth, SPINE)


def test_figures_of_spine_films(some, detector, tmp_path):
    steps = []
    figures, outcomes = evaluate(
        some, detector, SPINE, "val", clicks=2, clicked=lambda done, total, name: steps.append((done, total))
    )
    assert (figures["images"], figures["refused"], figures["missed"]) == (3, 0, 0)
    assert figures["side_accuracy"] is None
    assert figures["pck_bone"] is None
    assert figures["radial_error_mm"] is None
    assert steps == [(0, 2), (1, 2), (2, 2)] * 3

    errors = np.stack([np.linalg.norm(o.detection.landmarks.positions - o.truth, axis=1) for o in outcomes])
    heights = np.array([[o.detection.landmarks.frame.size[1]] for o in outcomes])
    assert figures["radial_error_px"]["mean"] == pytest.approx(errors.mean())
    assert figures["radial_error_px"]["median"] == pytest.approx(np.median(errors))
    assert figures["radial_error_height_percent"]["mean"] == pytest.approx((100 * errors / heights).mean())
    assert figures["radial_error_found_px"] == figures["radial_error_px"]
    assert figures["by_clicks"][0] == pytest.approx(errors.mean())
    assert figures["median_by_clicks"][0] == pytest.approx(np.median(errors.mean(axis=1)))

    assert figures["labels_out_of_order"] == [outcomes[2].case.name]
    inner = figures["in_order"]
    assert inner["images"] == 2
    assert inner["radial_error_px"]["mean"] == pytest.approx(errors[:2].mean())
    assert inner["by_clicks"][0] == pytest.approx(errors[:2].mean())
    assert errors[2].mean() > errors[:2].mean()
    assert figures["levels"]["in_view"]["count"] == 51 and inner["levels"]["in_view"]["count"] == 34
    assert figures["levels"]["out_of_view"]["share"] is None and figures["present_found"] is None

    json.dumps(figures, allow_nan=False)
    write_report(tmp_path / "report.html", figures, outcomes, some, "mean 1", "none", "val")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert outcomes[2].case.name in report and "out of order" in report
    assert report.count("<td>Vertebrae in view</td>") == 2 and "Films with labels in order" in report
    write_click_plot(tmp_path / "clicks.png", figures)
    assert (tmp_path / "clicks.png").read_bytes().startswith(b"\x89PNG")


def test_landmarks_that_are_missed_do_not_leave_the_mean(some, detector, monkeypatch):
    full, outcomes = evaluate(some, detector, SPINE, "val")
    errors = np.stack([np.linalg.norm(o.detection.landmarks.positions - o.truth, axis=1) for o in outcomes])
    monkeypatch.setattr(detector, "absent", ("T1_TL", "T1_TR"))
    without, missing = evaluate(some, detector, SPINE, "val", clicks=2)
    assert (full["missed"], without["missed"]) == (0, 6)
    rows = [SPINE.index(id) for id in detector.absent]
    rest = np.delete(errors, rows, axis=1)
    assert without["radial_error_found_px"]["mean"] == pytest.approx(rest.mean())
    middles = (np.array([o.detection.landmarks.frame.size for o in missing]) - 1) / 2
    truth = np.stack([o.truth[rows] for o in missing])
    guessed = np.linalg.norm(truth - middles[:, None], axis=-1)
    assert without["radial_error_px"]["mean"] == pytest.approx(np.concatenate([rest, guessed], axis=1).mean())
    assert without["by_clicks"][0] == pytest.approx(without["radial_error_px"]["mean"])
    json.dumps(without, allow_nan=False)


def test_a_data_set_of_something_else_is_refused(some, detector):
    with pytest.raises(LandmarkDetectionError, match="none of the landmarks"):
        evaluate(some, detector, load_schema("knee-ap"), "val")
