"""Films that are not the right way up: phantoms and real films, turned and mirrored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from LandmarkDetectionLib.errors import NotThisAnatomyError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.orientation import HALF, MIRRORED, OVER, SIDEWAYS, best_turn, overview, turned
from LandmarkDetectionLib.phantoms.knee import make_knee
from LandmarkDetectionLib.phantoms.spine import make_spine

SEED = 62000


@pytest.fixture(scope="module")
def knees() -> Detector:
    return Detector(find_bundle("knee-ap-radiograph"), "cpu")


@pytest.fixture(scope="module")
def spines() -> Detector:
    return Detector(find_bundle("spine-ap-radiograph"), "cpu")


def val_films(data: Path, folder: str, count: int) -> list[Image]:
    with (data / folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        names = sorted({row["image"] for row in csv.DictReader(file) if row["split"] == "val"})
    return [read_image(data / folder / "images" / name) for name in names[:count]]


def test_a_turn_undoes_what_was_done_to_the_film():
    array = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)
    for done, turn in (
        (array[::-1, ::-1], HALF),
        (np.rot90(array, -1), SIDEWAYS[0]),
        (np.rot90(array), SIDEWAYS[1]),
        (array[:, ::-1], MIRRORED),
        (array[::-1], OVER),
    ):
        np.testing.assert_array_equal(turned(Image.from_array(done), turn).array, array)


def test_the_overview_is_small_and_has_square_pixels():
    frame = Frame.film((3000, 1600), (0.1, 0.2), "given")
    small = overview(Image(np.random.default_rng(0).random((1600, 3000), dtype=np.float32), frame, "large"))
    assert max(small.frame.size) == 1024
    assert small.frame.spacing[0] == pytest.approx(small.frame.spacing[1], rel=0.01)
    little = Image.from_array(np.random.default_rng(0).random((64, 48)))
    np.testing.assert_allclose(overview(little).array, little.array, rtol=1e-6)


def test_the_best_turn_is_the_one_that_fits_best():
    image = Image.from_array(np.arange(64.0 * 48).reshape(64, 48))
    fit = lambda film: float(film.array[0, 0] + film.frame.size[0])  # noqa: E731
    value, turn = best_turn(image, fit, (HALF, *SIDEWAYS, MIRRORED))
    assert turn is HALF and value == pytest.approx(64 * 48 - 1 + 48)


def expect(detector: Detector, pixels: np.ndarray, words: str) -> None:
    with pytest.raises(NotThisAnatomyError, match=words) as caught:
        detector.detect(Image.from_array(np.ascontiguousarray(pixels), name="film.png"))
    assert caught.value.score < 0.5


def test_turned_knees_are_refused_with_the_way_back(knees):
    for seed in (SEED, SEED + 3):
        pixels = make_knee(seed).pixels
        assert knees.detect(Image.from_array(pixels)).fitness > 0.9
        expect(knees, pixels[::-1, ::-1], "upside down: turn it by 180")
    expect(knees, np.rot90(pixels), "degrees clockwise")
    expect(knees, np.rot90(pixels, -1), "degrees counterclockwise")


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_side_of_phantoms_is_read(knees, side):
    films = [make_knee(SEED + seed, side) for seed in range(10, 16)]
    assert [knees.detect(film.image()).side for film in films] == [side] * len(films)


def test_a_turned_spine_is_refused_with_the_way_back(spines):
    pixels = make_spine(SEED).pixels
    upright = spines.detect(Image.from_array(pixels))
    assert upright.fitness > 0.5
    expect(spines, pixels[::-1, ::-1], "upside down: turn it by 180")
    expect(spines, np.rot90(pixels), "does not look like")


def test_a_mirrored_spine_is_read_since_it_looks_like_any_other(spines):
    assert spines.detect(Image.from_array(np.ascontiguousarray(make_spine(SEED).pixels[:, ::-1]))).fitness > 0.5


@pytest.mark.parametrize(("folder", "name"), [("knee_xray", "knees"), ("spine_xray", "spines")])
def test_real_films_upside_down_are_refused_and_upright_ones_read(landmark_data, folder, name, request):
    detector = request.getfixturevalue(name)
    for image in val_films(landmark_data, folder, 3):
        assert detector.detect(image).fitness > 0.5
        expect(detector, image.array[::-1, ::-1], "upside down")


def test_what_a_cut_off_knee_does_not_show_is_absent(knees):
    phantom = make_knee(SEED + 2, "right", size=(448, 448))
    truth = phantom.landmarks["right"]
    for axis, far in ((0, True), (0, False)):
        at = int(np.quantile(truth[:, axis], 0.7 if far else 0.3))
        part, start = (phantom.pixels[:, :at], 0) if far else (phantom.pixels[:, at:], at)
        # Half of a knee does not tell its side, which is another matter.
        detection = knees.detect(Image.from_array(np.ascontiguousarray(part)), side="right", force=True)
        places = truth[:, 0] - start
        margin = 0.04 * np.ptp(truth[:, 0])
        absent = np.array([status == "absent" for status in detection.landmarks.statuses])
        beyond = (places < -margin) | (places > part.shape[1] + margin)
        inside = (places > margin) & (places < part.shape[1] - margin)
        assert absent[beyond].mean() > 0.7 and absent[inside].mean() < 0.2
