"""The command line as a person uses it, with the shipped model on the sample films."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from LandmarkDetectionLib.cli import app
from LandmarkDetectionLib.landmarks import load_schema
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "Resources" / "Samples"
RIGHT, LEFT = SAMPLES / "knee-right.dcm", SAMPLES / "knee-left.png"
BUNDLE = ROOT / "LandmarkDetection" / "Resources" / "Models" / "knee-ap-radiograph"
MODEL = ("--model", "knee-ap-radiograph")
COLUMNS = [
    *("image", "model", "landmark", "status", "x_px", "y_px", "z_px", "r_mm", "a_mm", "s_mm"),
    *("expected_error", "error_unit", "review"),
]


def run(*arguments: object, status: int = 0):
    """Call the command and hold it to its exit status."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "landmarks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    return rows


def sample_truth() -> dict[str, dict[str, str]]:
    with (SAMPLES / "landmarks.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    """Both samples, detected once, with what was printed."""
    folder = tmp_path_factory.mktemp("detect") / "Ergebnisse für Zoë"
    result = run("detect", RIGHT, LEFT, *MODEL, "--out", folder, "--overlay", "--device", "cpu")
    return folder, result.output


def test_detect_writes_a_row_for_each_landmark(detected):
    folder, _ = detected
    rows = rows_of(folder)
    ids = load_schema("knee-ap").ids
    for name in (RIGHT.name, LEFT.name):
        own = [row for row in rows if row["image"] == name]
        assert [row["landmark"] for row in own] == list(ids)
        assert {row["model"] for row in own} == {"knee-ap-radiograph"}
        assert {row["status"] for row in own} <= {"predicted", "review", "absent"}
        assert all(row["z_px"] == "" and row["review"] in ("true", "false") for row in own)
        assert all(float(row["expected_error"]) > 0 for row in own if row["status"] != "absent")


def test_detect_gives_millimetres_only_where_they_are_known(detected):
    folder, _ = detected
    for row in rows_of(folder):
        known = row["image"] == RIGHT.name
        assert row["error_unit"] == ("mm" if known else "px")
        assert all((row[column] != "") == known for column in ("r_mm", "a_mm", "s_mm"))


def test_detect_finds_the_landmarks_of_the_samples(detected):
    folder, _ = detected
    truth = sample_truth()
    for name in (RIGHT.name, LEFT.name):
        own = {row["landmark"]: row for row in rows_of(folder) if row["image"] == name}
        ids = load_schema("knee-ap").ids
        x = [float(own[id]["x_px"]) - float(truth[name][f"{id}_x"]) for id in ids]
        y = [float(own[id]["y_px"]) - float(truth[name][f"{id}_y"]) for id in ids]
        width = abs(float(truth[name]["T0_x"]) - float(truth[name]["T8_x"]))
        mean = sum((a * a + b * b) ** 0.5 for a, b in zip(x, y, strict=True)) / len(ids)
        assert mean < 0.06 * width, f"{name}: {mean:.1f} px at a tibia {width:.0f} px wide"


def test_detect_writes_markups_and_pictures(detected):
    folder, printed = detected
    for path in (RIGHT, LEFT):
        document = json.loads((folder / f"{path.stem}.mrk.json").read_text(encoding="utf-8"))
        assert len(document["markups"][0]["controlPoints"]) == 16
        assert (folder / f"{path.stem}.png").stat().st_size > 1000
    own = [row for row in rows_of(folder) if row["image"] == LEFT.name]
    points = json.loads((folder / "knee-left.mrk.json").read_text(encoding="utf-8"))["markups"][0]["controlPoints"]
    for row, point in zip(own, points, strict=True):
        if row["status"] != "absent":
            assert point["position"] == pytest.approx([float(row["x_px"]), float(row["y_px"]), 0], abs=1e-3)
    assert "Terms of use" in printed
    assert "Computing on cpu" in printed
    assert "right side" in printed and "left side" in printed


def test_markups_stay_on_the_film_when_a_spacing_is_given(tmp_path):
    run("detect", LEFT, *MODEL, "--out", tmp_path, "--spacing", 0.25)
    rows = rows_of(tmp_path)
    points = json.loads((tmp_path / "knee-left.mrk.json").read_text(encoding="utf-8"))["markups"][0]["controlPoints"]
    for row, point in zip(rows, points, strict=True):
        assert row["error_unit"] == "mm"
        assert float(row["r_mm"]) == pytest.approx(-0.25 * float(row["x_px"]), abs=1e-3)
        assert float(row["a_mm"]) == pytest.approx(-0.25 * float(row["y_px"]), abs=1e-3)
        assert point["position"][0] == pytest.approx(float(row["x_px"]), abs=1e-3)


def test_a_refused_image_is_named_and_the_others_finish(tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(LEFT.read_bytes()[:200])
    out = tmp_path / "out"
    result = run("detect", damaged, tmp_path / "missing.dcm", LEFT, *MODEL, "--out", out, status=2)
    rows = rows_of(out)
    refused = [row for row in rows if row["status"] == "refused"]
    assert [row["image"] for row in refused] == ["damaged.png", "missing.dcm"]
    assert all(row[column] == "" for row in refused for column in COLUMNS if column not in ("image", "status"))
    assert sum(row["image"] == LEFT.name for row in rows) == 16
    assert "damaged.png: " in result.stderr
    assert "missing.dcm: " in result.stderr
    assert "Traceback" not in result.output


def test_two_images_of_one_name_do_not_overwrite_each_other(tmp_path):
    twin = tmp_path / "other" / LEFT.name
    twin.parent.mkdir()
    shutil.copy(LEFT, twin)
    result = run("detect", LEFT, twin, *MODEL, "--out", tmp_path / "out", status=2)
    assert "knee-left" in result.stderr
    assert sum(row["status"] == "refused" for row in rows_of(tmp_path / "out")) == 1


def test_a_declared_side_that_contradicts_the_film(tmp_path):
    result = run("detect", LEFT, *MODEL, "--out", tmp_path, "--side", "right", status=2)
    assert "left" in result.stderr
    run("detect", LEFT, *MODEL, "--out", tmp_path, "--side", "right", "--force")
    assert len(rows_of(tmp_path)) == 16
    run("detect", LEFT, *MODEL, "--out", tmp_path, "--side", "left")


def test_the_picture_never_replaces_the_film(tmp_path):
    film = tmp_path / LEFT.name
    shutil.copy(LEFT, film)
    run("detect", film, *MODEL, "--out", tmp_path, "--overlay", status=2)
    assert film.read_bytes() == LEFT.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [("detect", LEFT, *MODEL), ("evaluate", "{data}", *MODEL)],
    ids=["detect", "evaluate"],
)
def test_an_output_folder_that_cannot_be_written(tmp_path, arguments):
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    data = sample_dataset(tmp_path / "data")
    arguments = [data if argument == "{data}" else argument for argument in arguments]
    result = run(*arguments, "--out", blocked / "out", status=2)
    assert "cannot be written" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_unknown_names_are_one_sentence(tmp_path):
    for arguments, words in (
        (("detect", LEFT, "--model", "no-such-model", "--out", tmp_path / "a"), "no-such-model"),
        (("calibrate", "no-such-model", "--data", tmp_path), "no-such-model"),
        (("models", "verify", "no-such-model"), "no-such-model"),
        (("train", "no-such-recipe", "--data", tmp_path, "--out", tmp_path / "b"), "no-such-recipe"),
        (("evaluate", tmp_path, *MODEL, "--out", tmp_path / "c"), "dataset.json"),
    ):
        result = run(*arguments, status=2)
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def sample_dataset(folder: Path) -> Path:
    """The two samples as a data set."""
    (folder / "images").mkdir(parents=True)
    ids = load_schema("knee-ap").ids
    columns = [f"{id}_{axis}" for id in ids for axis in "xy"]
    with (folder / "landmarks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", "side", *columns])
        for path, side in ((RIGHT, "right"), (LEFT, "left")):
            shutil.copy(path, folder / "images")
            writer.writerow([path.name, "val", side, *(sample_truth()[path.name][column] for column in columns)])
    description = {"name": "samples", "spacing_mm": None, "landmarks": ids, "terms": "made by the project"}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def test_evaluate_writes_figures_and_a_report(tmp_path):
    data = sample_dataset(tmp_path / "data")
    out = tmp_path / "out"
    run("evaluate", data, *MODEL, "--split", "val", "--clicks", 3, "--out", out)
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (figures["images"], figures["refused"], figures["missed"]) == (2, 0, 0)
    assert figures["side_accuracy"] == 1.0
    assert set(figures["radial_error_px"]) == {"mean", "median", "p95", "ci95"}
    assert 0 < figures["radial_error_normal_px"]["mean"] < figures["radial_error_px"]["mean"]
    assert set(figures["within_px"]) == {"1", "2", "3", "4", "5", "10"}
    assert len(figures["by_clicks"]) == len(figures["manual_by_clicks"]) == 4
    assert figures["by_clicks"][0] == pytest.approx(figures["radial_error_px"]["mean"])
    assert figures["by_clicks"][3] < figures["by_clicks"][0]
    assert {"20"} <= figures["noc"].keys() and {"20"} <= figures["failure_rate"].keys()
    assert {"ece", "ere_correlation", "coverage", "region_area", "pck_bone", "within_mm"} <= figures.keys()
    assert set(figures["auc"]) == {"2", "4"}
    report = (out / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64,") == 10  # of errors two, certainty four, corrections two; two films
    assert "src=\"http" not in report and "href=" not in report


def test_evaluate_names_a_refused_image_and_finishes(tmp_path):
    data = sample_dataset(tmp_path / "data")
    (data / "images" / RIGHT.name).write_bytes(b"not an image")
    result = run("evaluate", data, *MODEL, "--out", tmp_path / "out", status=2)
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert (figures["images"], figures["refused"]) == (2, 1)
    assert f"{RIGHT.name}: " in result.stderr
    assert RIGHT.name in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_models_are_listed_and_verified(tmp_path):
    assert "knee-ap-radiograph" in run("models", "list").output
    assert "SHA-256" in run("models", "verify", "knee-ap-radiograph").output
    tampered = tmp_path / "knee-ap-radiograph"
    shutil.copytree(BUNDLE, tampered)
    weights = next(tampered.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = run("models", "verify", tampered, status=2)
    assert weights.name in result.stderr
