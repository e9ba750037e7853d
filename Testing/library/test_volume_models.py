"""The shipped models of volumes on phantoms that no network has seen, however they are stored."""

from __future__ import annotations

import numpy as np
import pytest
from LandmarkDetectionLib.errors import Cancelled, ImageError, NotThisAnatomyError, SideError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.bundle import BUNDLED_MODELS, find_bundle
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.phantoms.volumes import VolumePhantom, make_knee_volume, make_spine_volume

LARGEST = 6 * 2**20
"""Bytes of a bundle."""


@pytest.fixture(scope="module")
def spine_detector() -> Detector:
    return Detector(find_bundle("spine-ct"), device="cpu")


@pytest.fixture(scope="module")
def knee_detector() -> Detector:
    return Detector(find_bundle("knee-ct"), device="cpu")


@pytest.fixture(scope="module")
def lumbar() -> VolumePhantom:
    return make_spine_volume(130_000, "ct", "lumbar", spacing=2.0, metal=False)


@pytest.fixture(scope="module")
def spine(spine_detector, lumbar) -> Detection:
    return spine_detector.detect(lumbar.image())


@pytest.fixture(scope="module")
def left_knee() -> VolumePhantom:
    return make_knee_volume(230_001, "ct", "left", "wide", spacing=2.0, metal=False)


@pytest.fixture(scope="module")
def knee(knee_detector, left_knee) -> Detection:
    return knee_detector.detect(left_knee.image())


def errors_mm(detection: Detection, phantom: VolumePhantom) -> np.ndarray:
    """(n,) distances from the truth, NaN where either says that there is no such landmark."""
    frame = detection.landmarks.frame
    return np.linalg.norm(frame.to_physical(detection.landmarks.positions) - phantom.physical(), axis=1)


@pytest.mark.parametrize("name", ["spine-ct", "knee-ct"])
def test_bundles_are_small_and_say_what_they_are(name):
    folder = BUNDLED_MODELS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "phantom" in card and "research use only, non-commercial" in card


def test_every_vertebra_is_found_on_its_level(spine, lumbar):
    missing = np.isnan(lumbar.landmarks).any(axis=1)
    absent = np.array([status == "absent" for status in spine.landmarks.statuses])
    centers = np.array([id.endswith("_C") for id in lumbar.ids])
    assert (absent == missing)[centers].all()
    assert np.nanmean(errors_mm(spine, lumbar)) < 2.0
    assert np.nanmax(errors_mm(spine, lumbar)) < 8.0


def test_a_left_knee_is_found_as_one(knee, left_knee):
    assert knee.side == "left"
    assert knee.side_probability > 0.95
    assert np.nanmean(errors_mm(knee, left_knee)) < 2.0


@pytest.mark.parametrize("which", ["spine", "knee"])
def test_expected_errors_and_ellipsoids_are_of_the_size_of_the_errors(which, request):
    detection = request.getfixturevalue(which)
    phantom = request.getfixturevalue("lumbar" if which == "spine" else "left_knee")
    errors = errors_mm(detection, phantom)
    expected = detection.landmarks.expected_errors_mm()
    known = np.isfinite(errors)
    # Those of a column hold the doubt of its levels as well.
    most = 5.0 if which == "spine" else 2.0
    assert 0.5 < np.mean(expected[known]) / np.mean(errors[known]) < most
    apart = (detection.landmarks.positions - phantom.landmarks)[known]
    squared = np.einsum("ni,nij,nj->n", apart, np.linalg.inv(detection.landmarks.covariances[known]), apart)
    assert (squared < 7.81).mean() > 0.75  # 95 % quantile of chi-squared with 3 degrees of freedom


def stored_otherwise(image: Image, order: tuple[int, int, int], axes: tuple[int, ...]) -> Image:
    """The same volume with its voxels in another order."""
    array = image.array.transpose([2 - axis for axis in order[::-1]])
    frame = image.frame.permuted(order)
    for axis in axes:
        array, frame = np.flip(array, 2 - axis), frame.flipped(axis)
    return Image(np.ascontiguousarray(array), frame, image.name)


@pytest.mark.parametrize(("order", "axes"), [((2, 0, 1), (0,)), ((1, 0, 2), ()), ((0, 1, 2), (0, 1))])
def test_the_order_of_the_voxels_changes_nothing(knee_detector, left_knee, knee, order, axes):
    again = knee_detector.detect(stored_otherwise(left_knee.image(), order, axes))
    before, after = (each.landmarks.frame.to_physical(each.landmarks.positions) for each in (knee, again))
    assert again.side == "left"
    assert np.allclose(after, before, atol=0.1)
    assert again.plausibility == pytest.approx(knee.plausibility, abs=0.05)


def test_other_anatomy_and_films_are_refused(spine_detector, knee_detector, lumbar, left_knee):
    with pytest.raises(NotThisAnatomyError, match=r"phantom\.nii\.gz"):
        spine_detector.detect(left_knee.image())
    with pytest.raises(NotThisAnatomyError, match=r"phantom\.nii\.gz"):
        knee_detector.detect(lumbar.image())
    film = Image.from_array(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8), 0.5, "film.png")
    with pytest.raises(ImageError, match=r"'film\.png' is a single picture"):
        spine_detector.detect(film)
    with pytest.raises(ImageError, match="is a volume"):
        Detector(find_bundle("knee-ap-radiograph"), device="cpu").detect(left_knee.image())


def test_a_volume_without_spacing_is_refused(knee_detector, left_knee):
    frame = Frame(left_knee.frame.size, left_knee.frame.origin, left_knee.frame.steps, "unknown")
    with pytest.raises(ImageError, match="spacing"):
        knee_detector.detect(Image(left_knee.voxels, frame, "knee.nrrd"))


def test_a_wrong_side_is_refused_unless_forced(knee_detector, left_knee):
    with pytest.raises(SideError, match="left"):
        knee_detector.detect(left_knee.image(), side="right")


@pytest.mark.parametrize("which", ["spine", "knee"])
def test_detection_stops_when_it_is_told_to(which, request):
    detector = request.getfixturevalue(f"{which}_detector")
    image = request.getfixturevalue("lumbar" if which == "spine" else "left_knee").image()
    asked = []

    def after_some() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        detector.detect(image, cancelled=after_some)


@pytest.mark.parametrize("which", ["spine", "knee"])
def test_a_true_correction_makes_nothing_worse(which, request):
    detection = request.getfixturevalue(which)
    phantom = request.getfixturevalue("lumbar" if which == "spine" else "left_knee")
    errors = errors_mm(detection, phantom)
    row = int(np.nanargmax(errors))
    session = Session(detection)
    after = session.move(phantom.ids[row], phantom.landmarks[row])
    frame = after.frame
    left = np.linalg.norm(frame.to_physical(after.positions) - phantom.physical(), axis=1)
    assert left[row] < 1e-6
    assert np.nanmean(left) < np.nanmean(errors)
    session.undo()
    assert np.array_equal(session.landmarks.positions, detection.landmarks.positions, equal_nan=True)


def test_a_point_dropped_one_level_lower_shifts_all_labels(spine, lumbar):
    session = Session(spine)
    place = spine.landmarks.positions[lumbar.ids.index("L3_C")]
    moved = session.move("L2_C", place)
    row = lumbar.ids.index("L1_C")
    assert "moved one level down" in session.message
    assert np.linalg.norm(moved.positions[row] - spine.landmarks.positions[lumbar.ids.index("L2_C")]) < 2.0


def test_endplates_of_a_vertebra_that_the_end_of_the_volume_cuts_off_are_found(spine_detector, lumbar):
    up = np.argmax(np.abs(lumbar.frame.steps[2]))
    heights = lumbar.landmarks[:, up]
    cut = round((heights[lumbar.ids.index("L4_C")] + heights[lumbar.ids.index("L4_SM")]) / 2)
    kept = slice(cut, None) if lumbar.frame.steps[2, up] > 0 else slice(0, cut + 1)
    start = np.zeros(3, dtype=int)
    start[up] = kept.start
    array = lumbar.voxels[tuple(kept if axis == 2 - up else slice(None) for axis in range(3))]
    frame = lumbar.frame.cropped(start, array.shape[::-1])
    found = spine_detector.detect(Image(np.ascontiguousarray(array), frame, "cut.nrrd")).landmarks
    apart = np.linalg.norm(frame.to_physical(found.positions) - lumbar.physical(), axis=1)
    assert apart[[lumbar.ids.index(f"L4_{point}") for point in ("SA", "SM", "SP")]].max() < 4.0
    assert found.statuses[lumbar.ids.index("L4_C")] == "absent"
    assert not np.isfinite(apart[[lumbar.ids.index(f"{level}_C") for level in ("L4", "L5")]]).any()
