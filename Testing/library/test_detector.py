"""One click on whole films: sides, sizes, fields of view, and films that show something else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from LandmarkDetectionLib.errors import Cancelled, ImageError, NotThisAnatomyError, SideError
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.phantoms.knee import make_knee
from PIL import Image as Picture


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(find_bundle("knee-ap-radiograph"), "cpu")


def film(array: np.ndarray, name: str = "film") -> Image:
    return Image.from_array(array, name=name)


def apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first - second, axis=1)


def sample_truth(repository: Path, name: str) -> np.ndarray:
    with (repository / "Resources" / "Samples" / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["image"] == name]
    ids = [f"T{k}" for k in range(9)] + [f"F{k}" for k in range(7)]
    return np.array([[float(row[f"{id}_{axis}"]) for axis in "xy"] for id in ids])


@pytest.mark.parametrize(("name", "side"), [("knee-right.dcm", "right"), ("knee-left.png", "left")])
def test_samples_are_found_on_the_right_side(detector, repository, name, side):
    image = read_image(repository / "Resources" / "Samples" / name)
    detection = detector.detect(image)
    assert detection.side == side and detection.side_probability > 0.9 and detection.presence > 0.5
    truth = sample_truth(repository, name)
    width = np.linalg.norm(truth[0] - truth[8])
    errors = apart(detection.landmarks.positions, truth)
    assert errors.mean() < 0.04 * width
    assert detection.landmarks.frame == image.frame
    assert (detection.landmarks.expected_errors > 0).all()
    assert detection.plausibility > 0.5
    assert detection.landmarks.frame.has_millimetres == (side == "right")


def test_mirrored_film_is_the_other_side(detector):
    pixels = make_knee(77, "right").pixels
    found = detector.detect(film(pixels))
    mirrored = detector.detect(film(pixels[:, ::-1]))
    assert (found.side, mirrored.side) == ("right", "left")
    expected = found.landmarks.positions * [-1, 1] + [pixels.shape[1] - 1, 0]
    np.testing.assert_allclose(mirrored.landmarks.positions, expected, atol=0.02)
    np.testing.assert_allclose(mirrored.landmarks.expected_errors, found.landmarks.expected_errors, rtol=0.02)


def test_half_the_resolution_gives_the_same_points(detector):
    pixels = make_knee(78, "left", size=(896, 896)).pixels
    half = pixels.reshape(448, 2, 448, 2).mean(axis=(1, 3))
    whole = detector.detect(film(pixels))
    halved = detector.detect(film(half))
    assert halved.side == whole.side
    back = 2 * halved.landmarks.positions + 0.5
    assert apart(back, whole.landmarks.positions).mean() < 0.5


def test_film_is_found_wherever_it_lies(detector):
    pixels = make_knee(79, "right").pixels.astype(np.float32)
    alone = detector.detect(film(pixels)).landmarks.positions
    canvas = np.full((700, 620), float(pixels.min()), dtype=np.float32)
    canvas[330:554, 60:284] = pixels
    found = detector.detect(film(canvas)).landmarks.positions - [60, 330]
    assert apart(found, alone).mean() < 2.0


def test_both_knees_are_found_by_their_side(detector):
    phantom = make_knee(80, size=(640, 560), field="bilateral")
    for side in ("right", "left"):
        found = detector.detect(film(phantom.pixels), side=side)
        assert found.side == side
        width = np.linalg.norm(phantom.landmarks[side][0] - phantom.landmarks[side][8])
        assert apart(found.landmarks.positions, phantom.landmarks[side]).mean() < 0.08 * width


def test_spacing_is_carried_through(detector):
    pixels = make_knee(81, "right").pixels
    plain = detector.detect(film(pixels))
    spaced = detector.detect(Image.from_array(pixels, spacing=0.4))
    np.testing.assert_allclose(spaced.landmarks.positions, plain.landmarks.positions, atol=1e-3)
    np.testing.assert_allclose(spaced.landmarks.expected_errors_mm(), 0.4 * plain.landmarks.expected_errors, rtol=1e-3)
    assert plain.landmarks.expected_errors_mm() is None


def test_declared_side_that_contradicts_is_refused_and_can_be_forced(detector):
    image = film(make_knee(82, "right").pixels, "knee.png")
    with pytest.raises(SideError, match=r"'knee.png' shows a right knee.*left"):
        detector.detect(image, side="left")
    assert detector.detect(image, side="left", force=True).side == "left"


def test_header_that_contradicts_is_noted(detector):
    image = film(make_knee(82, "right").pixels)
    image = Image(image.array, image.frame, image.name, view_side="left")
    assert any("says left" in note for note in detector.detect(image).notes)


def test_progress_rises_and_cancelling_stops(detector):
    image = film(make_knee(83, "right").pixels)
    heard = []
    detector.detect(image, progress=lambda share, sentence: heard.append((share, sentence)))
    assert [share for share, _ in heard] == sorted(share for share, _ in heard) and all(text for _, text in heard)
    asked = []
    with pytest.raises(Cancelled):
        detector.detect(image, cancelled=lambda: asked.append(1) or len(asked) > 4)


def test_image_is_not_changed(detector):
    pixels = make_knee(84, "left").pixels
    image = film(pixels)
    before = image.array.copy()
    detector.detect(image)
    np.testing.assert_array_equal(image.array, before)


def test_noise_and_gradients_are_not_knees(detector):
    rng = np.random.default_rng(5)
    ramp = np.add.outer(np.arange(300.0), np.arange(260.0))
    for array in (rng.normal(size=(300, 260)), ramp, ramp.T % 97):
        with pytest.raises(NotThisAnatomyError, match="does not look like"):
            detector.detect(film(array.astype(np.float32)))


def test_volume_is_refused(detector):
    from LandmarkDetectionLib.geometry import Frame

    frame = Frame((40, 40, 40), np.zeros(3), np.eye(3), "calibrated")
    volume = Image(np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32), frame, "ct.nii.gz")
    with pytest.raises(ImageError, match=r"'ct.nii.gz' is a volume"):
        detector.detect(volume)


def other_films(data: Path) -> list[Path]:
    """Chest and leg films, and films of the spine and the skull that no training saw."""
    films = [data / "dicom" / f"{name}.dcm" for name in ("RG1_J2KI", "RG3_J2KI", "RG3_J2KR")]
    for folder, split in (("spine_xray", "val"), ("cephalogram", "test1")):
        with (data / folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
            names = sorted({row["image"] for row in csv.DictReader(file) if row["split"] == split})
        films += [data / folder / "images" / name for name in names[:12]]
    return films


def test_films_of_other_anatomy_are_refused(detector, landmark_data):
    accepted = []
    for path in other_films(landmark_data):
        try:
            detector.detect(read_image(path))
            accepted.append(path.name)
        except NotThisAnatomyError as error:
            assert path.name in str(error)
    assert not accepted


def test_real_films_keep_their_points_at_half_resolution(detector, landmark_data):
    folder = landmark_data / "knee_xray" / "images"
    distances = []
    for path in sorted(folder.glob("*.png"))[:6]:
        large = Picture.open(path).convert("L").resize((896, 896), Picture.Resampling.BICUBIC)
        whole = np.asarray(large, dtype=np.float32)
        half = whole.reshape(448, 2, 448, 2).mean(axis=(1, 3))
        found = [detector.detect(film(array)).landmarks.positions for array in (whole, half)]
        distances.append(apart(2 * found[1] + 0.5, found[0]).mean())
    assert max(distances) < 0.5
