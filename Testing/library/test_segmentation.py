"""Bones of a film on request: the shipped model, its hash check, the label map, landmarks off the edge."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from LandmarkDetectionLib.errors import BundleError, LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bone_model import BONES, BoneModel, find_bone_model
from LandmarkDetectionLib.inference.bundle import BUNDLED_MODELS, find_bundle, list_bundles
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.segmentation import LABELS, expected_positions, label_map, segment
from LandmarkDetectionLib.priors.anatomy_segmentation import Segmentation
from LandmarkDetectionLib.priors.anatomy_view import FEMUR, OUTSIDE, TIBIA
from LandmarkDetectionLib.training.anatomy.publishing import contour_limits, labelled_shares
from LandmarkDetectionLib.training.data.films import read_labels
from LandmarkDetectionLib.uncertainty.conformal import conformal_quantile

FOLDER = BUNDLED_MODELS / BONES["knee-ap"]


@pytest.fixture(scope="module")
def image(repository):
    return read_image(repository / "Resources" / "Samples" / "knee-right.dcm")


@pytest.fixture(scope="module")
def detection(image):
    return Detector(find_bundle("knee-ap-radiograph"), "cpu").detect(image)


@pytest.fixture(scope="module")
def model():
    return find_bone_model("knee-ap")


@pytest.fixture(scope="module")
def found(detection, image, model):
    return segment(detection, image, model)


def moved(detection, name: str, by) -> object:
    positions = detection.landmarks.positions.copy()
    positions[detection.landmarks.schema.index(name)] += by
    return replace(detection, landmarks=replace(detection.landmarks, positions=positions))


def middle(labels: np.ndarray, value: int) -> np.ndarray:
    y, x = np.nonzero(labels == value)
    return np.array([x.mean(), y.mean()])


# The shipped model


def test_model_is_small_documented_and_no_landmark_model():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2 * 2**20
    assert FOLDER.name not in list_bundles()
    content = json.loads((FOLDER / "anatomy.json").read_text(encoding="utf-8"))
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert content["version"] in card and "non-commercial" in content["licence"]
    assert set(content["sha256"]) == {path.name for path in FOLDER.glob("*.safetensors")}


@pytest.mark.parametrize("file", ["encoder.safetensors", "decoder.safetensors", "atlas.safetensors"])
def test_altered_weights_are_refused(tmp_path, file):
    copy = tmp_path / "model"
    shutil.copytree(FOLDER, copy)
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(BundleError, match=f"'{file}'.*changed"):
        BoneModel.load(copy)


def test_description_without_limits_is_refused(tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(FOLDER, copy)
    content = json.loads((copy / "anatomy.json").read_text(encoding="utf-8"))
    del content["contour_limits"]
    (copy / "anatomy.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match="contour_limits"):
        BoneModel.load(copy)


def test_users_own_model_comes_first_and_other_anatomy_has_none(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / FOLDER.name)
    content = json.loads((tmp_path / FOLDER.name / "anatomy.json").read_text(encoding="utf-8"))
    content["version"] = "9.9.9"
    (tmp_path / FOLDER.name / "anatomy.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("LANDMARK_MODELS", str(tmp_path))
    assert find_bone_model("knee-ap").version == "9.9.9"
    with pytest.raises(BundleError, match="No model draws the bones about landmarks of 'spine-ap'"):
        find_bone_model("spine-ap")


# The label map


def test_bones_lie_above_and_below_the_joint_on_the_grid_of_the_film(found, image, detection):
    assert found.labels.shape == image.array.shape and found.labels.dtype == np.uint8
    assert found.frame == image.frame
    assert set(np.unique(found.labels)) == {0, *LABELS.values()}
    joint = detection.landmarks.positions.mean(axis=0)
    assert middle(found.labels, LABELS["femur"])[1] < joint[1] < middle(found.labels, LABELS["tibia"])[1]
    # Between the bones nothing is labeled: the columns of T2 and T6 hold a gap.
    for name in ("T2", "T6"):
        column = found.labels[:, round(detection.landmarks.positions[detection.landmarks.schema.index(name), 0])]
        rows = [np.flatnonzero(column == value) for value in (LABELS["femur"], LABELS["tibia"])]
        assert rows[0].max() < rows[1].min()


def test_finer_and_coarser_films_give_the_same_bones(found, image, detection, model):
    other = image.frame.resampled(size=[2 * n for n in image.frame.size])
    finer = Image(np.kron(image.array, np.ones((2, 2), dtype=image.array.dtype)), other, "finer")
    landmarks = detection.landmarks
    positions = other.to_index(image.frame.to_physical(landmarks.positions))
    twice = replace(detection, landmarks=replace(landmarks, frame=other, positions=positions))
    again = segment(twice, finer, model)
    coarse = again.labels[::2, ::2]
    for value in LABELS.values():
        both = ((coarse == value) & (found.labels == value)).sum()
        assert 2 * both / ((coarse == value).sum() + (found.labels == value).sum()) > 0.95
    np.testing.assert_allclose(again.distances / 2, found.distances, atol=1.5)


def test_mirrored_film_gives_mirrored_bones(found, image, detection, model):
    mirrored = Image(np.ascontiguousarray(image.array[:, ::-1]), image.frame, "mirrored")
    last = image.frame.size[0] - 1
    positions = detection.landmarks.positions * [-1, 1] + [last, 0]
    landmarks = replace(detection.landmarks, positions=positions)
    side = "left" if detection.side == "right" else "right"
    other = replace(detection, landmarks=landmarks, side=side, prior=detection.prior.mirrored())
    again = segment(other, mirrored, model)
    assert (again.labels[:, ::-1] != found.labels).mean() < 1e-3
    np.testing.assert_allclose(again.distances, found.distances, atol=1.0)


def test_label_map_follows_a_turned_window_and_ends_with_it():
    probabilities = np.zeros((6, 20, 30))
    probabilities[OUTSIDE] = 1.0
    probabilities[:, :10], probabilities[FEMUR, :10] = 0.0, 1.0
    probabilities[:, 12:], probabilities[TIBIA, 12:] = 0.0, 1.0
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)], [0.0, 0.0]])
    window = Frame((30, 20), np.array([40.0, 30.0, 0.0]), 2.0 * turn)
    frame = Frame.film((120, 110))
    labels = label_map(Segmentation(window, probabilities), frame)
    y, x = np.indices(labels.shape)
    cells = frame.index_map(window) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    cx, cy = cells.reshape(2, *labels.shape)
    inside = (cx > 0) & (cx < 29)
    assert (labels[inside & (cy > 0) & (cy < 9)] == LABELS["femur"]).all()
    assert (labels[inside & (cy > 12) & (cy < 19)] == LABELS["tibia"]).all()
    assert (labels[(cx < -1) | (cx > 30) | (cy < -1) | (cy > 20) | ((cy > 10) & (cy < 11))] == 0).all()
    assert not label_map(Segmentation(window, probabilities), Frame.film((30, 20))).any()


# Landmarks and the edge


def test_landmark_far_from_the_edge_is_flagged_with_its_distance(found, image, detection, model):
    row = detection.landmarks.schema.index("T2")
    assert "T2" not in found.flagged
    away = 1.5 * found.limits[row]
    again = segment(moved(detection, "T2", (0.0, away)), image, model)
    assert "T2" in again.flagged
    assert again.distances[row] == pytest.approx(away, rel=0.35)
    sentence = again.notes[-1]
    unit = "mm" if image.frame.has_millimetres else "px"
    assert "T2 (" in sentence and unit in sentence and "look at these landmarks" in sentence
    others = np.arange(len(found.distances)) != row
    # The window follows the points, so where two edges are about as far, another one may be the nearest.
    changes = np.abs(again.distances - found.distances)[others]
    assert np.median(changes) < 0.1 * away and changes.max() < 0.4 * away


def test_absent_landmarks_have_no_distance_and_too_few_are_refused(found, image, detection, model):
    positions = detection.landmarks.positions.copy()
    positions[[0, 9]] = np.nan
    partly = replace(detection, landmarks=replace(detection.landmarks, positions=positions))
    again = segment(partly, image, model)
    assert np.isnan(again.distances[[0, 9]]).all() and np.isfinite(again.distances[1:9]).all()
    assert not {"T0", "F0"} & set(again.flagged)
    positions[:12] = np.nan
    nearly_none = replace(detection, landmarks=replace(detection.landmarks, positions=positions))
    with pytest.raises(LandmarkDetectionError, match="at least 6"):
        segment(nearly_none, image, model)


def test_mean_shape_is_laid_over_known_points_exactly(detection):
    mean = detection.prior.mean
    points = 40.0 * mean @ np.array([[0.96, 0.28], [-0.28, 0.96]]) + [100.0, 80.0]
    some = points.copy()
    some[[1, 5, 12]] = np.nan
    np.testing.assert_allclose(expected_positions(some, detection.prior), points, atol=1e-9)


def test_other_landmarks_volumes_and_other_images_are_refused(image, detection, model):
    volume = Image(
        np.arange(40.0**3, dtype=np.float32).reshape(40, 40, 40), Frame((40,) * 3, np.zeros(3), np.eye(3)), "v"
    )
    with pytest.raises(LandmarkDetectionError, match="volume"):
        segment(detection, volume, model)
    smaller = Image(image.array[:-1], image.frame.cropped((0, 0), (image.frame.size[0], image.frame.size[1] - 1)), "b")
    with pytest.raises(LandmarkDetectionError, match="do not belong to 'b'"):
        segment(detection, smaller, model)
    with pytest.raises(LandmarkDetectionError, match="needs landmarks of 'spine-ap'"):
        segment(detection, image, replace(model, schema="spine-ap"))


def test_limits_keep_their_promise_for_whole_films():
    random = np.random.default_rng(5)
    scale = random.uniform(0.01, 0.2, 16)
    films = np.abs(random.standard_t(4, (4000, 16))) * scale * random.lognormal(0, 0.3, (4000, 1))
    parts = [(films[100 * k : 100 * k + 100], films[2000:]) for k in range(20)]
    kept = [(new <= contour_limits(old)).all(axis=1) for old, new in parts]
    assert np.mean(kept) == pytest.approx(0.95, abs=0.025)
    limits = contour_limits(films)
    assert conformal_quantile((films / limits).max(axis=1), 0.95) == pytest.approx(1.0)


def test_real_films_have_their_edge_where_it_was_labeled(landmark_data, model):
    names = [name for name, split in read_labels(landmark_data / "knee_xray")[1].items() if split == "val"][:6]
    shares = labelled_shares(model.prior, landmark_data / "knee_xray", names)
    assert np.median(shares) < 0.05
    assert (shares <= model.limits).mean() > 0.95
