"""The model ``cephalogram-lateral`` on real films, and on films that it must not read."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from half_cases import check_half, halved
from LandmarkDetectionLib.errors import NotThisAnatomyError
from LandmarkDetectionLib.evaluation.dataset import read_dataset
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.phantoms.knee import make_knee
from LandmarkDetectionLib.phantoms.spine import make_spine
from LandmarkDetectionLib.uncertainty.regions import truth_mass
from PIL import Image as Picture

NAMES = ("151.jpg", "173.jpg", "204.jpg", "251.jpg", "300.jpg")


@functools.cache
def detector() -> Detector:
    return Detector(find_bundle("cephalogram-lateral"), device="cpu")


@pytest.fixture(scope="module")
def heads(landmark_data) -> dict[str, tuple[Image, np.ndarray]]:
    """Films of the split that no network has learnt from, with their truth."""
    dataset = read_dataset(landmark_data / "cephalogram")
    cases = [case for case in dataset.split("test1") if case.name in NAMES]
    return {case.name: (read_image(case.path, spacing=dataset.spacing_mm), case.truth) for case in cases}


def test_real_heads_are_read_within_two_millimeters(heads):
    errors, inside = [], []
    for image, truth in heads.values():
        detection = detector().detect(image)
        landmarks, heatmaps = detection.landmarks, detection.heatmaps
        assert detection.side is None and "absent" not in landmarks.statuses
        errors.append(0.2 * np.linalg.norm(landmarks.positions - truth, axis=1))
        masses = truth_mass(heatmaps.logits, heatmaps.cells(landmarks.frame.to_physical(truth)))
        inside.append(masses <= detection.certainty.masses)
        np.testing.assert_allclose(landmarks.expected_errors_mm(), 0.2 * landmarks.expected_errors)
    assert len(errors) == len(NAMES)
    assert np.mean(errors) < 1.6 and np.median(errors) < 1.3
    assert np.mean(inside) > 0.85


def test_half_the_resolution_gives_the_same_points_and_flags(heads):
    """From 0.1 to 0.2 mm; the finer film is made from one of 0.2 mm, with noise of its own."""
    image, _ = next(iter(heads.values()))
    size = tuple(2 * n for n in image.frame.size)
    fine = np.asarray(Picture.fromarray(image.array).resize(size, Picture.Resampling.BICUBIC))
    fine = fine + np.random.default_rng(0).normal(scale=6, size=fine.shape).astype(np.float32)
    other = Picture.fromarray(fine).resize(image.frame.size, Picture.Resampling.LANCZOS)
    whole, half, another = (
        detector().detect(Image.from_array(pixels, name="head")).landmarks
        for pixels in (fine, halved(fine), np.asarray(other))
    )
    np.testing.assert_allclose(2 * half.positions + 0.5, whole.positions, atol=1e-3)
    np.testing.assert_allclose(2 * half.expected_errors, whole.expected_errors, rtol=1e-3)
    assert half.statuses == another.statuses == whole.statuses
    assert np.linalg.norm(2 * another.positions + 0.5 - whole.positions, axis=1).max() < 0.5, "halved otherwise"


def test_half_the_resolution_gives_the_same_points_from_0_2_to_0_4_mm(heads):
    check_half(detector(), next(iter(heads.values()))[0].array)


def test_a_correction_is_followed_and_undone(heads):
    image, truth = next(iter(heads.values()))
    session = Session(detector().detect(image))
    before = session.landmarks
    row = int(np.linalg.norm(before.positions - truth, axis=1).argmax())
    after = session.move(before.schema.ids[row], truth[row])
    assert np.array_equal(after.positions[row], truth[row]) and after.statuses[row] == "moved"
    assert session.undo().positions is before.positions


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (lambda array: array[::-1, ::-1], "turn it by 180 degrees"),
        (lambda array: array[:, ::-1], "flip it left to right"),
        (np.rot90, "on its side"),
    ],
)
def test_a_head_that_lies_wrong_is_refused_with_what_to_do(heads, turned, words):
    image, _ = next(iter(heads.values()))
    with pytest.raises(NotThisAnatomyError, match=words) as caught:
        detector().detect(Image.from_array(np.ascontiguousarray(turned(image.array)), name="head"))
    assert caught.value.score < 0.5


def test_a_film_cut_off_below_the_nose_has_no_chin(heads):
    image, truth = next(iter(heads.values()))
    end = int(truth[4, 1])  # subspinale
    detection = detector().detect(Image.from_array(image.array[:end], name="upper"), force=True)
    absent = np.array([status == "absent" for status in detection.landmarks.statuses])
    assert absent[[5, 6, 7, 8]].all(), "supramentale, pogonion, menton and gnathion lie far below the border"
    assert not absent[[0, 1]].any(), "sella and nasion are in the film"


def test_other_anatomy_is_refused():
    for image in (make_knee(7100, "right").image(), make_spine(7100, field="column").image()):
        with pytest.raises(NotThisAnatomyError, match="lateral cephalogram"):
            detector().detect(image)
