"""Anatomical priors in volumes: windows about landmarks, label maps from other volumes, from a data set to figures."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.phantoms.volume_dataset import write_knee_volumes
from LandmarkDetectionLib.priors.anatomical import AnatomySettings
from LandmarkDetectionLib.priors.anatomy_folder import DESCRIPTION, load_anatomy
from LandmarkDetectionLib.priors.anatomy_segmentation import Segmentation
from LandmarkDetectionLib.priors.anatomy_statistics import Appearance
from LandmarkDetectionLib.priors.anatomy_view import AnatomyView
from LandmarkDetectionLib.priors.anatomy_volume_view import VolumeView, view_of
from LandmarkDetectionLib.training.anatomy.labels import Poses
from LandmarkDetectionLib.training.anatomy.samples import random_pose, turn
from LandmarkDetectionLib.training.anatomy.volume_figures import (
    about,
    measure_volumes,
    structure_dice,
    summary,
    within,
)
from LandmarkDetectionLib.training.anatomy.volumes import (
    VolumeLabels,
    located_volumes,
    nearest_labels,
    read_structures,
)
from LandmarkDetectionLib.training.run import train
from small_recipes import small_recipe

STRUCTURES = ("femur", "tibia", "fibula", "patella")
VIEW = VolumeView((24, 24, 24), 1.6, ("FLC", "FMC", "TLP", "TMP"), ("TLM", "TMM"))
STILL = Poses(rotation=0.0, scale=0.0, shift=(0.0, 0.0, 0.0))
POSES = Poses(rotation=3.0, scale=0.05, shift=(0.03, 0.04, 0.05))
SMALLER = {
    "views": "2",
    "kept_out": "1",
    "atlas_maps": "12",
    "size": "[16, 16, 16]",
    "widths": "[4, 6, 6]",
    "latent": "4",
    "steps": "2",
    "epochs": "2",
    "batch": "2",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three groups of seeds; the first has no voxels, the second no label maps: nothing may ask for them."""
    folder = tmp_path_factory.mktemp("volumes")
    for split, seed, part in (("labels", 60, "images"), ("images", 70, "labels"), ("test", 80, None)):
        write_knee_volumes(folder, 2, seed=seed, fields=("wide",), spacing=5.0, split=split)
        for volume in located_volumes(folder, split):
            if part is not None:
                (folder / part / volume.path.name).unlink()
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return small_recipe("anatomy-knee-ct", tmp_path_factory.mktemp("recipe"), SMALLER)


@pytest.fixture(scope="module")
def result(recipe, data, tmp_path_factory):
    return train(recipe, data, tmp_path_factory.mktemp("run"))


def knee(side: float = 1.0) -> dict[str, np.ndarray]:
    """Landmarks of a right knee about (30, -20, 400), mirrored at the middle plane of the body for side -1."""
    offsets = {
        "FLC": (-24, 0, 5), "FMC": (24, 0, 3), "TLP": (-24, 3, -3), "TMP": (24, -3, -5),
        "TLM": (-36, 0, -4), "TMM": (36, 0, -4),
    }  # fmt: skip
    return {name: (np.array(offset) + [30.0, -20.0, 400.0]) * [side, 1, 1] for name, offset in offsets.items()}


def body_frame(size=(100, 90, 80), spacing=1.5, centre=(30.0, -20.0, 400.0)) -> Frame:
    steps = np.eye(3) * spacing
    return Frame(size, np.array(centre) - steps @ ((np.array(size) - 1) / 2), steps, "calibrated")


# Windows


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_window_shows_either_knee_in_the_standard_pose(side):
    frame = body_frame(centre=(30.0 * side, -20.0, 400.0))
    window = VIEW.window_about(frame, knee(side), mirrored=side < 0)
    seen = {name: window.to_index(point) for name, point in knee(side).items()}
    assert np.mean([seen[name] for name in VIEW.middle], axis=0) == pytest.approx([11.5, 11.5, 11.5])
    assert seen["TMM"] - seen["TLM"] == pytest.approx([24 / 1.6, 0, 0]), "lateral first, on both sides of the body"
    assert seen["FLC"][2] > seen["TLP"][2], "up is up"


def test_the_order_of_the_axes_of_a_volume_does_not_matter():
    frame = body_frame()
    sagittal = frame.permuted([1, 2, 0]).flipped(1)
    first, second = (VIEW.window_about(one, knee()) for one in (frame, sagittal))
    assert np.allclose(first.steps, second.steps) and np.allclose(first.origin, second.origin)
    array = np.random.default_rng(0).integers(0, 500, frame.size[::-1]).astype(np.int16)
    turned = np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1])
    # Array axes run from the last index axis to the first.
    assert turned.shape == sagittal.size[::-1]
    grays = [VIEW.gray(Image(a, f, "knee"), w) for a, f, w in ((array, frame, first), (turned, sagittal, second))]
    assert np.allclose(*grays, atol=1e-5)


def test_landmarks_out_of_view_are_named():
    points = knee()
    with pytest.raises(LandmarkDetectionError, match="TMM"):
        VIEW.window_about(body_frame(), {name: point for name, point in points.items() if name != "TMM"})
    with pytest.raises(LandmarkDetectionError, match="FLC"):
        VIEW.window_about(body_frame(), points | {"FLC": np.full(3, np.nan)})


def test_gray_values_are_cut_off_before_they_are_averaged():
    frame = body_frame((20, 20, 20))
    array = np.zeros((20, 20, 20), dtype=np.int16)
    dense, denser = array.copy(), array.copy()
    dense[10, 10, 10], denser[10, 10, 10] = 500, 3000
    window = frame.resampled(size=(10, 10, 10))
    bone, metal = (VIEW.gray(Image(a, frame, "knee"), window) for a in (dense, denser))
    assert bone.dtype == np.float32 and np.array_equal(bone, metal)
    assert -1.0 < bone.max() < 1.0 and bone.min() == -1.0
    assert VIEW.gray(Image(array + 250, frame, "knee"), window) == pytest.approx(np.zeros((10, 10, 10)), abs=1e-6)


def test_views_are_told_apart_by_their_size():
    assert isinstance(view_of({"size": (112, 80), "extent": 1.28}), AnatomyView)
    assert view_of(vars(VIEW)) == VIEW and VIEW.dims == 3


def test_a_volume_is_seen_once():
    appearance = Appearance((0, 1))
    assert AnatomySettings(VIEW, appearance, passes=1).passes == 1
    with pytest.raises(LandmarkDetectionError, match="passes"):
        AnatomySettings(VIEW, appearance)


# Poses


def test_random_poses_in_space_have_the_spread_they_were_given():
    rng = np.random.default_rng(0)
    drawn = [random_pose(VIEW, POSES, rng) for _ in range(3000)]
    rotations = np.stack([pose.rotation for pose in drawn])
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotations), 1)
    assert np.log([pose.scale for pose in drawn]).std() == pytest.approx(0.05, rel=0.1)
    angles = np.degrees(np.arccos(np.clip((rotations.trace(axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(3.0 * np.sqrt(3), rel=0.1)
    middle = np.full(3, 11.5)
    moved = np.stack([pose.apply(middle) for pose in drawn]) - middle
    assert moved.std(axis=0) == pytest.approx(np.array([0.03, 0.04, 0.05]) * 24 / 1.6, rel=0.1)


def test_turns_in_the_plane_and_about_an_axis_in_space_agree():
    assert turn(np.array([0.0, 0.0, 0.3]))[:2, :2] == pytest.approx(turn(np.array([0.3])))


# Label maps


def test_labels_of_a_window_are_those_of_the_nearest_voxels():
    frame = body_frame((12, 10, 8))
    array = np.arange(960, dtype=np.int64).reshape(8, 10, 12)
    labels = Image(array, frame, "labels")
    assert np.array_equal(nearest_labels(labels, frame), array)
    shifted = frame.cropped((3.4, -0.4, 1.2), (4, 5, 6))
    assert np.array_equal(nearest_labels(labels, shifted), array[1:7, 0:5, 3:7])
    beyond = nearest_labels(labels, frame.cropped((-3, 0, 0), (5, 10, 8)))
    assert (beyond[:, :, :3] == array[:, :, :1]).all(), "outside, the edge goes on"


def test_label_maps_of_a_volume_come_back_on_its_own_voxels():
    frame = body_frame((40, 36, 32), spacing=2.0)
    z, y, x = np.indices((32, 36, 40))
    truth = ((x - 20) ** 2 + (y - 17) ** 2 + (z - 15) ** 2 < 100).astype(np.uint8)
    truth[z < 8] = 2
    window = frame.cropped((5, 4, 3), (28, 28, 26))
    pose = random_pose(VolumeView(window.size, 1.6, (), ()), POSES, np.random.default_rng(1))
    window = VolumeView(window.size, 1.6, (), ()).moved_window(window, pose)
    cells = nearest_labels(Image(truth, frame, "labels"), window)
    found = Segmentation(window, np.eye(3)[cells].transpose(3, 0, 1, 2)).on(frame)
    inside = within(frame, window)
    assert 0.2 < inside.mean() < 0.6
    scores = structure_dice(found[inside], truth[inside], ("ball", "slab"))
    assert min(scores.values()) > 0.93
    part = about(frame, window)
    assert within(part, window).sum() == inside.sum(), "the part of the frame holds all that the window reaches"
    assert max(np.subtract(part.size, window.size)) < 8
    far = Frame(frame.size, frame.origin + [300.0, 0, 0], frame.steps, "calibrated")
    assert not Segmentation(window, np.eye(3)[cells].transpose(3, 0, 1, 2)).on(far).any()
    assert not within(far, window).any()


def test_label_maps_are_read_by_name(data):
    volume = located_volumes(data, "test")[0]
    read = read_structures(volume, data, STRUCTURES)
    plain = read_image(volume.label_path).array
    assert set(np.unique(read.array)) == {0, 1, 2, 3, 4}
    assert np.array_equal(read.array == 2, plain == 3) and np.array_equal(read.array == 4, plain == 5)
    turned = read_structures(volume, data, ("patella", "femur"))
    assert np.array_equal(turned.array == 1, plain == 5) and np.array_equal(turned.array == 2, plain == 2)


def test_what_a_data_set_lacks_is_named(data):
    with pytest.raises(LandmarkDetectionError, match="'elbows'"):
        located_volumes(data, "elbows")
    with pytest.raises(LandmarkDetectionError, match="'ulna'"):
        read_structures(located_volumes(data, "test")[0], data, ("femur", "ulna"))
    with pytest.raises(LandmarkDetectionError, match="missing"):
        read_structures(located_volumes(data, "images")[0], data, STRUCTURES)


def test_draws_depend_on_the_generator_alone_and_show_the_femur_above(data):
    volumes = located_volumes(data, "labels")
    assert sorted(volume.mirrored for volume in volumes) == [False, True]
    labels = VolumeLabels(data, volumes, STRUCTURES, VIEW, POSES)
    first, again, other = (labels.draw(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (5, 24, 24, 24) and first.dtype == torch.int64
    assert torch.equal(first, again) and not torch.equal(first, other)
    level = torch.arange(24.0)[:, None, None]
    femur, tibia = ((level * (first == label)).sum((1, 2, 3)) / (first == label).sum((1, 2, 3)) for label in (1, 2))
    assert (femur > tibia + 4).all()
    column = torch.arange(24.0)
    still = VolumeLabels(data, volumes, STRUCTURES, VIEW, STILL).draw(8, torch.Generator().manual_seed(0))
    fibula, tibia = ((column * (still == label)).sum((1, 2, 3)) / (still == label).sum((1, 2, 3)) for label in (3, 2))
    assert (fibula < tibia).all(), "lateral comes first in right and left knees"


# From a data set to figures


def test_the_folder_segments_a_volume_in_its_window(result, data):
    folder = load_anatomy(result)
    assert folder.label_names == ("outside", *STRUCTURES)
    volume = located_volumes(data, "test")[0]
    image = read_image(volume.path)
    window = volume.first_window(folder.prior.settings.view, image.frame)
    found = folder.prior.segment(image, window=window)
    assert found.window == window and found.probabilities.shape == (5, 16, 16, 16)
    assert np.allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.isfinite([found.fit, found.divergence]).all()
    bare = folder.prior.segment(image, window=window, bare=True)
    assert not np.allclose(found.probabilities, bare.probabilities)
    assert found.on(image.frame).shape == image.array.shape
    with pytest.raises(LandmarkDetectionError, match="landmarks"):
        folder.prior.segment(image)


def test_the_figures_name_every_method_twice(result):
    description = json.loads((result / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["sae"] is None and description["network"]["labels"] == 5
    figures = json.loads((result / "figures.json").read_text(encoding="utf-8"))
    assert figures["learnt_from"] == {"label maps": 2, "volumes": 2}
    exact, moved = figures["test"], figures["test, pose off"]
    assert set(exact) == set(moved) >= {"learned prior, posterior", "EM + static atlas", "prior only"}
    assert all(values["volumes"] == 2 for values in exact.values())
    assert exact["prior only"]["dice"] != moved["prior only"]["dice"]


def test_a_changed_prior_is_refused_whatever_its_dimensions(result, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(result, folder)
    text = (folder / DESCRIPTION).read_text(encoding="utf-8")
    (folder / DESCRIPTION).write_text(text.replace('"across"', '"along"'), encoding="utf-8")
    with pytest.raises(LandmarkDetectionError, match="damaged"):
        load_anatomy(folder)


def test_the_truth_has_nearly_all_its_dice_and_nothing_has_none(result, data):
    folder = load_anatomy(result)
    truths = iter([read_structures(volume, data, STRUCTURES) for volume in located_volumes(data, "test")])
    cell = np.zeros((5, 1, 1, 1))
    cell[0] = 1.0

    def exact(image: Image, window: Frame) -> Segmentation:
        return Segmentation(image.frame, np.eye(5)[next(truths).array].transpose(3, 0, 1, 2))

    chosen = {"exact": exact, "nothing": lambda image, window: Segmentation(window, cell * np.ones((1, 16, 16, 16)))}
    figures = measure_volumes(folder, data, "test", chosen=chosen)
    assert all(
        values == {"mean": 1, "median": 1, "smallest": 1, "volumes": 2} for values in figures["exact"]["dice"].values()
    )
    assert all(values["mean"] == 0 for values in figures["nothing"]["dice"].values())


def test_a_structure_that_is_not_there_does_not_count():
    labels, truth = np.array([1, 1, 0, 2]), np.array([1, 0, 1, 0])
    scores = structure_dice(labels, truth, ("femur", "patella"))
    assert scores["femur"] == 0.5 and np.isnan(scores["patella"])
    other = {"seconds": 3.0, "dice": {"femur": 0.9, "patella": 0.8}}
    result = summary([{"seconds": 1.0, "dice": scores}, other], ("femur", "patella"))
    assert result["dice"]["femur"]["mean"] == pytest.approx(0.7) and result["dice"]["femur"]["smallest"] == 0.5
    assert result["dice"]["patella"] == {"mean": 0.8, "median": 0.8, "smallest": 0.8, "volumes": 1}
    assert result["seconds"] == 2.0 and result["volumes"] == 2
