"""Calibration of volume models: landmarks come and go, voxels have any shape, and the promises hold all the same."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.bundle import Calibration
from LandmarkDetectionLib.training.calibration.corrected_regions import correction_scales
from LandmarkDetectionLib.training.calibration.evidence import evidence
from LandmarkDetectionLib.training.calibration.figures import kept_out_figures
from LandmarkDetectionLib.training.calibration.fitting import LEVEL, Evidence, fit
from LandmarkDetectionLib.training.data.films import read_groups, read_labels
from LandmarkDetectionLib.uncertainty.temperature import fit_temperatures
from volume_detection_cases import CELL, bundle_of, detected, detection_of, scan

KNEES = 36


def evidence_of(anatomy: str, numbers: range, **how) -> Evidence:
    scans = [scan(anatomy, number) for number in numbers]
    bundle = bundle_of(anatomy)
    found = ((case.name, detected(bundle, case, number, **how)) for number, case in zip(numbers, scans, strict=True))
    names = [case.name for case in scans]
    return evidence(found, {case.name: case.truth for case in scans}, dict(zip(names, names, strict=True)), False)


@pytest.fixture(scope="module")
def knees() -> Evidence:
    """Heatmaps as wide as 2 mm, and errors as large as 3."""
    return evidence_of("knee", range(KNEES), error=3.0, said=2.0)


def test_errors_are_millimetres_whatever_the_voxels(knees):
    assert knees.dims == 3 and knees.logits.dtype == torch.float16
    np.testing.assert_allclose(knees.cell, CELL / 3)
    errors = knees.errors * knees.size[:, None]
    mean = 3.0 * np.sqrt(8 / np.pi)
    for kind in range(3):
        assert np.nanmean(errors[kind::3]) == pytest.approx(mean, rel=0.1)
    assert np.isnan(errors).mean() > 0.02, "some landmarks are out of view"
    np.testing.assert_allclose(knees.size, knees.size.mean(), rtol=0.25)


def test_temperatures_and_scales_widen_what_is_too_sure(knees):
    """Deviations of 2 mm that should be 3: a temperature of 9 / 4."""
    values = fit(knees)
    assert np.mean(values["temperature"]) == pytest.approx(2.25, rel=0.15)
    assert 0.8 < np.mean(values["covariance_scale"]) < 1.5
    assert Calibration.from_dict({"presence_threshold": 0.0} | plain(values), 15).certainty.level == LEVEL


def plain(values: dict) -> dict:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()} | {
        "certainty": values["certainty"].to_dict()
    }


def test_figures_of_volumes_kept_out_keep_the_promise(knees):
    figures = kept_out_figures(knees)
    assert figures["coverage"] == pytest.approx(LEVEL, abs=0.03)
    assert figures["coverage_ellipses"] == pytest.approx(LEVEL, abs=0.03)
    assert figures["coverage_joint"] > 0.85
    # The exact region of a Gaussian of 3 mm: a ball whose squared radius is that of chi squared with 3 degrees. Few
    # volumes make it larger: of 28 the 98 % quantile stands for 95 %, a ball of 1.4 times the size.
    ball = 4 / 3 * np.pi * (7.815**0.5 * 3.0) ** 3
    assert 0.9 * ball < figures["median_volume_mm3"] < 1.7 * ball
    assert 0.9 * ball < figures["median_volume_ellipsoids_mm3"] < 1.7 * ball
    assert figures["radial_error_mm"]["mean"] == pytest.approx(3.0 * np.sqrt(8 / np.pi), rel=0.05)
    assert figures["volumes"] == KNEES and figures["present_found"] > 0.98 and figures["absent_reported"] == 1.0


def test_a_landmark_missed_and_one_invented_are_counted_and_left_out():
    bundle, case = bundle_of("knee"), scan("knee", 0)
    gone = np.isnan(case.truth).any(axis=1)
    truth = case.truth.copy()
    missed, invented = np.flatnonzero(~gone)[:2]
    truth[invented] = np.nan
    gone[missed] = True
    found = detection_of(bundle, case.image(), case.places, gone, 1)
    names = [str(number) for number in range(12)]
    seen = evidence(
        [(name, found) for name in names], dict.fromkeys(names, truth), dict(zip(names, names, strict=True)), False
    )
    assert np.isnan(seen.errors[:, [missed, invented]]).all()
    assert np.isnan(seen.needed(torch.ones(15))[:, [missed, invented]]).all()
    figures = kept_out_figures(seen)
    there = np.isfinite(truth).all(axis=1).sum()
    assert figures["present_found"] == pytest.approx(1 - 1 / there)
    assert figures["absent_reported"] == pytest.approx(1 - 1 / (15 - there))


def test_a_truth_beyond_its_heatmap_is_in_no_region(knees):
    truth = knees.truth.clone()
    truth[0, :, 2] += 40.0
    needed = replace(knees, truth=truth).needed(torch.ones(15))
    known = np.isfinite(needed[0])
    assert known.any() and (needed[0, known] == 1).all() and np.nanmean(needed[1:] == 1) < 0.05


def test_landmarks_on_another_level_can_be_left_out(knees):
    reach = float(np.nanmedian(knees.errors))
    near = knees.within(reach)
    kept = np.isfinite(near.errors)
    assert np.array_equal(kept, knees.errors < reach)
    assert 0 < kept.sum() < np.isfinite(knees.errors).sum()
    assert np.array_equal(near.errors[kept], knees.errors[kept])


def test_columns_are_calibrated_from_what_each_volume_shows():
    """Of 154 landmarks a volume shows some dozens; those that hardly any volume shows are taken as all together are."""
    seen = evidence_of("spine", range(14), error=2.0)
    seen.truth[:, :7] = torch.nan
    counts = np.isfinite(seen.errors).sum(axis=0)
    rare = counts < 5
    assert 10 < rare.sum() < 154 and counts.min() == 0
    values = fit(seen, 0.1)
    for name in ("temperature", "error_temperature", "error_scale", "shape_scale", "covariance_scale"):
        assert np.isfinite(values[name]).all() and len(values[name]) == 154
    for own in (values["temperature"], values["covariance_scale"], values["certainty"].masses):
        assert np.ptp(np.asarray(own)[rare]) == 0.0
    assert np.ptp(np.asarray(values["error_scale"])[counts == 0]) < 1e-9
    # The size is that of the whole column, whatever part of it is shown.
    np.testing.assert_allclose(seen.size, np.median(seen.size), rtol=0.35)


def test_corrections_in_volumes_scale_the_regions_of_the_others():
    scans = [scan("knee", number) for number in range(10)]
    bundle = bundle_of("knee")
    found = ((case.name, detected(bundle, case, number)) for number, case in enumerate(scans))
    scales = correction_scales(found, {case.name: case.truth for case in scans}, LEVEL)
    assert len(scales) == 5 and all(0.1 < scale < 10 for scale in scales)


def test_too_few_landmarks_say_nothing_of_corrections():
    case, bundle = scan("knee", 0), bundle_of("knee")
    truth = np.full_like(case.truth, np.nan)
    row = np.flatnonzero(np.isfinite(case.truth).all(axis=1))[0]
    truth[row] = case.truth[row]
    assert correction_scales([("one", detected(bundle, case))], {"one": truth}, LEVEL) == ()


def test_volumes_without_a_known_landmark_are_refused():
    case, bundle = scan("knee", 0), bundle_of("knee")
    truth = np.full_like(case.truth, np.nan)
    seen = evidence([("one", detected(bundle, case))], {"one": truth}, {"one": "one"}, False)
    with pytest.raises(LandmarkDetectionError, match="No landmark with a known place"):
        fit(seen)


def test_labels_of_volumes_have_three_coordinates(tmp_path):
    """Two readers, of whom one leaves a landmark out; a third landmark has no place at all."""
    (tmp_path / "dataset.json").write_text(
        json.dumps({"name": "v", "landmarks": ["A", "B", "C"], "group": "seed"}), encoding="utf-8"
    )
    columns = ["image", "split", "seed", *(f"{name}_{axis}" for name in "ABC" for axis in "xyz")]
    with (tmp_path / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerow(["1.nii.gz", "val", "7", 1, 2, 3, 4, 5, 6, "", "", ""])
        table.writerow(["1.nii.gz", "val", "7", 3, 2, 5, "", "", "", "", "", ""])
    points, splits = read_labels(tmp_path)
    np.testing.assert_array_equal(points["1.nii.gz"], [[2, 2, 4], [4, 5, 6], [np.nan] * 3])
    assert splits == {"1.nii.gz": "val"} and read_groups(tmp_path) == {"1.nii.gz": "7"}


def test_one_truth_has_one_error_in_all_frames():
    """The same points in voxels of two shapes, one left-handed: the same evidence but for rounding."""
    bundle, case = bundle_of("knee"), scan("knee", 0)
    turned = Frame((300, 90, 60), case.frame.origin, case.frame.direction() * [0.7, 2.0, 3.0], "calibrated").flipped(1)
    everywhere = np.zeros(15, dtype=bool)
    values = []
    for frame in (case.frame, turned):
        inside = replace(case, frame=frame)
        shifted = detection_of(bundle, inside.image(), case.places, everywhere, 3)
        seen = evidence([("one", shifted)], {"one": frame.to_index(case.places)}, {"one": "one"}, False)
        both = np.isfinite(seen.errors)
        values.append((both, np.where(both, seen.errors, 0), np.where(both, seen.strange, 0), seen.size))
    both = values[0][0] & values[1][0]
    assert both.sum() >= 8
    np.testing.assert_allclose(values[0][1][both], values[1][1][both], rtol=1e-4)
    np.testing.assert_allclose(values[0][3], values[1][3], rtol=1e-6)


def test_temperatures_of_few_volumes_are_drawn_together(knees):
    """All landmarks are alike here, so what their own temperatures differ by is chance."""
    alone, shared = (fit_temperatures(knees.logits, knees.truth.round(), weight).log() for weight in (0.0, 20.0))
    assert 0.2 * float(alone.std()) < float(shared.std()) < 0.8 * float(alone.std())
    assert float(shared.mean()) == pytest.approx(float(alone.mean()), abs=0.05)
