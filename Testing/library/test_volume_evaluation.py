"""A data set of volumes from detection to report: millimeters, presence, corrections, pictures and the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from LandmarkDetectionLib.cli import evaluate as evaluate_command
from LandmarkDetectionLib.cli.detect import _sentence, landmark_rows, stem_of
from LandmarkDetectionLib.evaluation.dataset import read_dataset
from LandmarkDetectionLib.evaluation.evaluate import evaluate
from LandmarkDetectionLib.evaluation.level_sentences import level_sentences
from LandmarkDetectionLib.evaluation.report import write_click_plot, write_report
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.markups_file import markups_document
from LandmarkDetectionLib.overlay.slices import GAP, draw_slices
from LandmarkDetectionLib.phantoms.volume_dataset import write_volume
from LandmarkDetectionLib.phantoms.volumes import make_knee_volume
from volume_detection_cases import PhantomDetector, bundle_of, detected, detection_of, scan

ERROR = 2.0


def write_dataset(folder, anatomy: str, numbers: range) -> None:
    """Volumes of noise in coarse voxels with the landmarks of phantoms; the files say how large the voxels are."""
    (folder / "images").mkdir(parents=True)
    ids = bundle_of(anatomy).schema.ids
    with (folder / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", *(f"{id}_{axis}" for id in ids for axis in "xyz")])
        for number in numbers:
            case = scan(anatomy, number)
            coarse = case.frame.resampled(size=[n // 4 for n in case.frame.size])
            voxels = np.random.default_rng(number).integers(0, 1000, coarse.size[::-1]).astype(np.int16)
            write_volume(folder / "images" / case.name, voxels, coarse)
            truth = coarse.to_index(case.frame.to_physical(case.truth))
            values = [f"{value:.4f}" if np.isfinite(value) else "" for value in truth.ravel()]
            table.writerow([case.name, "val", *values])
    about = {"name": "v", "title": "Volumes", "spacing_mm": None, "landmarks": ids, "terms": "none"}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


@pytest.fixture(scope="module", params=["knee", "spine"])
def evaluated(request, tmp_path_factory):
    """A few volumes: landmarks in view are found 2 mm off, but one is missed and one invented in each."""
    folder = tmp_path_factory.mktemp(request.param) / "data"
    write_dataset(folder, request.param, range(5 if request.param == "knee" else 3))
    data = read_dataset(folder)
    bundle = bundle_of(request.param)
    detector = PhantomDetector(bundle, {case.name: case.truth for case in data.cases}, ERROR, confused=True)
    figures, outcomes = evaluate(data, detector, bundle.schema, clicks=2)
    return request.param, data, detector, figures, outcomes, folder.parent


def test_errors_are_in_millimetres_where_only_the_image_knows_them(evaluated):
    _, data, _, figures, outcomes, _ = evaluated
    assert data.spacing_mm is None and figures["certainty_unit"] == "mm"
    found = np.concatenate([o.millimetre_errors[~o.missed] for o in outcomes])
    assert np.nanmean(found) == pytest.approx(ERROR * np.sqrt(8 / np.pi), rel=0.15)
    for outcome in outcomes:
        frame = outcome.detection.landmarks.frame
        ratio = outcome.millimetre_errors / outcome.errors
        np.testing.assert_allclose(ratio[np.isfinite(ratio)], np.sqrt(np.mean(frame.spacing**2)))
    assert figures["radial_error_height_percent"] is None and figures["labels_out_of_order"] is None
    assert set(figures["by_landmark_mm"]) == set(figures["by_landmark_px"])


def test_presence_is_told(evaluated):
    _, _, _, figures, outcomes, _ = evaluated
    there = sum(int(np.isfinite(o.truth).all(axis=1).sum()) for o in outcomes)
    away = sum(int(np.isnan(o.truth).any(axis=1).sum()) for o in outcomes)
    # A landmark that is in view, but was found past the end of the volume, is missed as well.
    assert len(outcomes) <= figures["missed"] <= len(outcomes) + 0.03 * there
    assert figures["present_found"] == pytest.approx(1 - figures["missed"] / there)
    invented = sum(bool(np.isnan(o.truth).any()) for o in outcomes)
    assert figures["absent_reported"] == pytest.approx(1 - invented / away)


def test_levels_are_counted(evaluated):
    """Landmarks lie a few mm off, one is missed in each volume, and one made up in the middle of it."""
    anatomy, _, _, figures, outcomes, _ = evaluated
    if anatomy == "knee":
        assert figures["levels"] is None
        return
    inside, outside = figures["levels"]["in_view"], figures["levels"]["out_of_view"]
    known = np.isfinite(np.stack([o.truth for o in outcomes])).all(axis=-1).reshape(len(outcomes), 22, 7)
    assert inside["count"] == known.any(axis=2).sum() and inside["whole"] == known.all(axis=2).sum()
    lone = sum(int(seen[seen.any(axis=1)][0].sum() == 1) for seen in known)
    assert lone <= inside["missed"] <= lone + 1 and inside["on_its_level"] >= inside["count"] - 2 * len(outcomes)
    made_up = sum(not seen.any(axis=1)[np.flatnonzero(~seen.ravel())[0] // 7] for seen in known)
    assert outside["count"] == (~known.any(axis=2)).sum() and outside["reported_present"] == made_up
    assert figures["levels"]["landmarks"]["in_view_reported_absent"] == figures["missed"]
    assert sum(figures["levels"]["images"].values()) == len(outcomes)


def test_regions_are_volumes(evaluated):
    _, _, _, figures, _, _ = evaluated
    assert figures["region_kind"] == "ellipses" and figures["region_area"]["unit"] == "mm3"
    assert figures["coverage"]["all"] == pytest.approx(0.95, abs=0.06)
    # Ellipsoids of 2 mm: a squared radius of chi squared with 3 degrees of freedom, 7.8.
    assert figures["region_area"]["median"] == pytest.approx(4 / 3 * np.pi * (7.815**0.5 * 2) ** 3, rel=0.35)


def test_corrections_help_and_are_scored_in_millimetres(evaluated):
    _, _, _, figures, outcomes, _ = evaluated
    assert figures["clicks_unit"] == "mm" and len(figures["by_clicks"]) == 3
    expected = np.mean([np.nanmean(o.millimetre_errors) for o in outcomes])
    assert figures["by_clicks"][0] == pytest.approx(expected)
    assert figures["manual_by_clicks"][2] < figures["manual_by_clicks"][1] < figures["manual_by_clicks"][0]
    assert figures["by_clicks"][2] < figures["by_clicks"][0]


def test_report_shows_slices_through_the_worst_landmark(evaluated):
    anatomy, data, _, figures, outcomes, folder = evaluated
    json.dumps(figures, allow_nan=False)
    write_report(folder / "report.html", figures, outcomes, data, "phantom", "none", None)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "The volumes with the greatest errors" in html and "Mean radial error of each landmark" in html
    assert "% were found" in html and "mm³" in html
    assert ("Were the vertebrae given their levels?" in html) == (anatomy == "spine")
    for words, value in level_sentences(figures["levels"]):
        assert f"<tr><td>{words}</td><td>{value}</td></tr>" in html
    assert f"{anatomy}-0.nii.gz: " in html and "; worst " in html
    write_click_plot(folder / "clicks.png", figures)
    assert (folder / "clicks.png").stat().st_size > 1000


def test_the_command_prints_what_is_found(evaluated, capsys):
    anatomy, _, _, figures, _, folder = evaluated
    evaluate_command._print_clicks(figures, "ours")
    evaluate_command._print_summary(figures, folder)
    printed = capsys.readouterr().out
    assert "Landmarks in view that were found: " in printed and "mm3" in printed
    assert ("Vertebrae in view: " in printed and "Levels in 3 images: " in printed) == (anatomy == "spine")
    assert "of a volume (mm) by corrections" in printed


def test_regions_of_a_calibrated_model_are_those_of_the_heatmaps(tmp_path):
    ratios = np.linspace(0.1, 3.0, 21).tolist()
    certainty = {"level": 0.95, "masses": [0.95] * 15, "joint_masses": [0.999] * 15, "ratios": ratios,
                 "correction_scales": []}  # fmt: skip
    write_dataset(tmp_path / "data", "knee", range(4))
    data = read_dataset(tmp_path / "data")
    bundle = bundle_of("knee", certainty=certainty)
    detector = PhantomDetector(bundle, {case.name: case.truth for case in data.cases}, ERROR)
    figures, _ = evaluate(data, detector, bundle.schema)
    assert figures["region_kind"] == "highest density" and figures["region_area"]["unit"] == "mm3"
    assert figures["coverage"]["all"] > 0.85
    assert figures["absent_reported"] in (None, 1.0) and figures["present_found"] == 1.0


def test_rows_and_markups_have_three_coordinates():
    case, bundle = scan("knee", 1), bundle_of("knee")
    detection = detected(bundle, case)
    landmarks = detection.landmarks
    rows = list(landmark_rows("a.nii.gz", "knee-ct", landmarks))
    found = np.isfinite(landmarks.positions).all(axis=1)
    assert 0 < found.sum() < len(rows) or found.all()
    for row, position, place in zip(rows, landmarks.positions, landmarks.physical(), strict=True):
        if np.isfinite(position).all():
            assert [float(row[key]) for key in ("x_px", "y_px", "z_px")] == pytest.approx(position, abs=1e-3)
            assert [float(row[key]) for key in ("r_mm", "a_mm", "s_mm")] == pytest.approx(
                place * [-1, -1, 1], abs=1e-3
            )
            assert row["error_unit"] == "mm" and float(row["expected_error"]) > 0
        else:
            assert row["status"] == "absent" and "x_px" not in row and "expected_error" not in row
    document = markups_document(landmarks, case.frame)
    json.dumps(document, allow_nan=False)
    for point, place in zip(document["markups"][0]["controlPoints"], landmarks.physical(), strict=True):
        if np.isfinite(place).all():
            assert point["position"] == pytest.approx(place)
        else:
            assert point["positionStatus"] == "missing" and point["position"] == ""
    assert f"{found.sum()} of 15 landmarks found, mean expected error" in _sentence("a.nii.gz", detection)
    nothing = detection_of(bundle, case.image(), case.places, np.ones(15, dtype=bool))
    assert _sentence("a.nii.gz", nothing) == "a.nii.gz: no landmark was found"


@pytest.mark.parametrize(
    ("name", "stem"), [("a.nii.gz", "a"), ("a.b.nrrd", "a.b"), ("a.nii", "a"), ("film.png", "film")]
)
def test_names_lose_their_whole_ending(tmp_path, name, stem):
    assert stem_of(tmp_path / name) == stem


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 1.5, 4.0)])
def test_slices_show_what_lies_at_their_place(spacing):
    """A bright ball in an oblique, left-handed volume: a dot where the three slices meet, in all three."""
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    size = tuple(round(96 / step) for step in spacing)
    frame = Frame(size, np.array([10.0, -20.0, 30.0]), turn * spacing, "calibrated").flipped(2)
    ball = np.array(size) * [0.4, 0.6, 0.3]
    z, y, x = np.indices(size[::-1])
    apart = frame.to_physical(np.stack([x, y, z], axis=-1)) - frame.to_physical(ball)
    voxels = np.where(np.linalg.norm(apart, axis=-1) < 7.0, 1000, 0).astype(np.int16)
    case = scan("knee", 0)
    landmarks = detected(bundle_of("knee"), case).landmarks.replace(frame=frame, positions=np.full((15, 3), np.nan))
    picture = draw_slices(Image(voxels, frame, "ball"), landmarks, centre=ball, longest=240)
    gray = np.asarray(picture.convert("L"))
    low = frame.to_physical(np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in size]), -1).reshape(-1, 3))
    low, high = low.min(axis=0), low.max(axis=0)
    scale = 240 / (high - low).max()
    width, height = np.rint((high - low) * scale).astype(int)[[0, 1]]
    middle = frame.to_physical(ball)
    left, back, up = (middle - low)[0] * scale, (middle - low)[1] * scale, (high - middle)[2] * scale
    starts = (0, width + GAP, 2 * (width + GAP))
    for start, (across, down) in zip(starts, [(left, back), (left, up), (back, up)], strict=True):
        part = gray[14:, start : start + (width if start < starts[2] else height)] > 128
        rows, columns = np.nonzero(part)
        assert (columns.mean(), rows.mean() + 14) == pytest.approx((across, down), abs=3.0)


def test_landmarks_are_drawn_where_they_lie():
    """The picture with and without a landmark differs around it, in the slices through it."""
    made = make_knee_volume(3, spacing=2.0)
    bundle = bundle_of("knee")
    absent = np.isnan(made.landmarks).any(axis=1)
    places = made.frame.to_physical(made.landmarks)
    landmarks = detection_of(bundle, made.image(), places, absent, error=0.01).landmarks
    row = int(np.flatnonzero(~absent)[0])
    alone = np.full_like(landmarks.positions, np.nan)
    centre = landmarks.positions[row]
    bare = np.asarray(draw_slices(made.image(), landmarks.replace(positions=alone), centre=centre)).astype(int)
    alone[row] = centre
    drawn = np.asarray(draw_slices(made.image(), landmarks.replace(positions=alone), centre=centre)).astype(int)
    changed = np.abs(drawn - bare).sum(axis=2) > 60
    assert 60 < changed.sum() < 3000
    everything = draw_slices(made.image(), landmarks, truth=made.landmarks)
    assert everything.size == (bare.shape[1], bare.shape[0])


def test_a_volume_reads_back_in_its_frame(tmp_path):
    case = scan("knee", 1)
    frame = case.frame.resampled(size=[n // 6 for n in case.frame.size])
    voxels = np.random.default_rng(0).integers(0, 99, frame.size[::-1]).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", voxels, frame)
    read = read_image(tmp_path / "a.nii.gz")
    assert read.dims == 3 and read.frame.has_millimetres
    np.testing.assert_allclose(read.frame.steps, frame.steps, atol=1e-4)


def test_schemas_and_cases_agree():
    assert load_schema("knee-ct").dims == load_schema("spine-ct").dims == 3
