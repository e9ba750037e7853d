"""The model ``spine-ap-radiograph`` on phantoms, on real films, and on films that it must not read."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from half_cases import check_half
from LandmarkDetectionLib.errors import NotThisAnatomyError
from LandmarkDetectionLib.evaluation.dataset import read_dataset
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.levels import level_rows
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.phantoms.knee import make_knee
from LandmarkDetectionLib.phantoms.spine import make_spine

SEED = 7000
"""First seed of the phantoms here; training and samples have others."""


@functools.cache
def detector() -> Detector:
    return Detector(find_bundle("spine-ap-radiograph"), device="cpu")


@functools.cache
def phantom(field: str, seed: int = SEED):
    return make_spine(seed, field=field)


def errors(detection, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(detection.landmarks.positions - truth, axis=1)


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_phantoms_are_read(seed):
    drawn = phantom("column", seed)
    detection = detector().detect(drawn.image())
    assert detection.side is None and detection.side_probability is None
    assert detection.landmarks.statuses.count("absent") == 0
    assert np.median(errors(detection, drawn.landmarks)) < 0.01 * drawn.pixels.shape[0]
    assert (detection.landmarks.expected_errors > 0).all()
    assert detection.heatmaps.logits.shape[0] == 68


@pytest.mark.parametrize("field", ["upper", "lower"])
def test_what_a_cut_off_column_does_not_show_is_absent(field):
    drawn = phantom(field)
    visible = np.isfinite(drawn.landmarks).all(axis=1)
    # A film that shows few vertebrae well can be refused; who knows what it shows goes on.
    detection = detector().detect(drawn.image(), force=True)
    rows = level_rows(detection.landmarks.schema)
    absent = np.array([status == "absent" for status in detection.landmarks.statuses])
    assert absent.any()
    # One level more or less may be called visible at the edge of the film or after a shift of levels.
    assert abs(int(absent[rows].all(axis=1).sum()) - int((~visible[rows]).all(axis=1).sum())) <= 2
    assert any("Not in the image" in note for note in detection.notes)
    outside = detection.landmarks.positions[~absent]
    assert (outside > -1.5).all() and (outside < np.array(drawn.pixels.shape[::-1]) + 0.5).all()


def test_other_films_are_refused():
    knee = Image.from_array(make_knee(SEED, "right", (300, 300)).pixels, name="knee.png")
    others = [phantom("lateral").image(), knee]
    for image in others:
        with pytest.raises(NotThisAnatomyError, match="does not look like"):
            detector().detect(image)


def test_real_knees_and_heads_are_refused(landmark_data):
    films = [*sorted((landmark_data / "knee_xray" / "images").glob("*.png"))[:6]]
    films += sorted((landmark_data / "cephalogram" / "images").glob("*.jpg"))[-6:]
    for film in films:
        with pytest.raises(NotThisAnatomyError):
            detector().detect(read_image(film))


def test_real_films_are_read_and_one_drag_moves_all_levels(landmark_data):
    cases = read_dataset(landmark_data / "spine_xray").split("val")[:8]
    medians = []
    for case in cases:
        detection = detector().detect(read_image(case.path))
        medians.append(np.nanmedian(errors(detection, case.truth)))
    assert np.median(medians) < 40
    session = Session(detection)
    before, ids = session.landmarks.positions.copy(), detection.landmarks.schema.ids
    session.move("T9_TL", before[ids.index("T10_TL")])
    rows = level_rows(detection.landmarks.schema)
    middle = before[rows[4:15]] - session.landmarks.positions[rows[3:14]]
    height = np.linalg.norm(before[rows[10, 2]] - before[rows[10, 0]])
    assert np.median(np.linalg.norm(middle, axis=-1)) < 0.25 * height and "levels" in session.message
    assert np.array_equal(session.undo().positions, before, equal_nan=True)


def test_half_the_resolution_gives_the_same_points_and_flags():
    check_half(detector(), phantom("column").image().array)


def test_a_real_film_and_its_half_give_the_same_points(landmark_data):
    case = read_dataset(landmark_data / "spine_xray").split("val")[0]
    check_half(detector(), read_image(case.path).array)


def test_a_hint_is_answered_by_the_network():
    """Not only by the error model: what it sees changes where it is told that it was wrong."""
    drawn = phantom("column")
    detection = detector().detect(drawn.image())
    row = detection.landmarks.schema.index("T8_TL")
    told = detection.landmarks.positions[row] + [20.0, 12.0]
    seen = detection.repredict({row: told}, detection.landmarks).landmarks
    moved = np.linalg.norm(seen.positions - detection.landmarks.positions, axis=1)
    assert moved[row] > 0.2 and np.nanmedian(moved) < moved[row]
    again = detection.repredict({}, detection.landmarks).landmarks
    np.testing.assert_allclose(again.positions, detection.landmarks.positions, atol=1e-6)


def test_a_film_forced_on_the_model_ends_in_landmarks_or_absent_ones():
    """Whoever insists gets an answer without a traceback, however little there is to see."""
    gray = np.full((600, 300), 90, dtype=np.uint8)
    gray[:, 150:] = 110
    for image in (Image.from_array(gray, name="steps.png"), phantom("lateral").image()):
        detection = detector().detect(image, force=True)
        known = np.isfinite(detection.landmarks.positions).all(axis=1)
        absent = np.array([status == "absent" for status in detection.landmarks.statuses])
        np.testing.assert_array_equal(known, ~absent)
        session = Session(detection)
        session.move("T8_TL", np.array([120.0, 300.0]))
        assert np.array_equal(session.undo().positions, detection.landmarks.positions, equal_nan=True)
