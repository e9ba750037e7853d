"""Anatomical priors from a data set to a folder that segments films, on phantoms; and what a segmentation says."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import BundleError, LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.phantoms.dataset import write_dataset
from LandmarkDetectionLib.priors.anatomy_folder import DECODER, DESCRIPTION, ENCODER, load_anatomy
from LandmarkDetectionLib.priors.anatomy_segmentation import (
    Segmentation,
    carried,
    edge_line,
    joint_pose,
    line_distances,
)
from LandmarkDetectionLib.priors.anatomy_view import FEMUR, TIBIA, AnatomyView, relative_gray
from LandmarkDetectionLib.priors.procrustes import Similarity
from LandmarkDetectionLib.training.anatomy.figures import band_dice, film_figures, measure
from LandmarkDetectionLib.training.anatomy.labels import Closure, draw_labels
from LandmarkDetectionLib.training.anatomy.model import AnatomyModel
from LandmarkDetectionLib.training.anatomy.samples import named_films
from LandmarkDetectionLib.training.data.films import read_labels, side_of, subject_of
from LandmarkDetectionLib.training.data.shapes import read_shapes
from LandmarkDetectionLib.training.recipe import load_recipe
from LandmarkDetectionLib.training.run import train
from safetensors.torch import load_file, save_file
from small_recipes import small_recipe

SMALLER = {
    "unlabelled": '"images"',
    "views": "2",
    "kept_out": "2",
    "atlas_maps": "20",
    "measured": '["train"]',
    "size": "[32, 32]",
    "widths": "[4, 8, 8]",
    "latent": "4",
    "steps": "2",
    "epochs": "2",
    "batch": "2",
}
SIDE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms: some labelled, some not, and the shapes of others in KNEEL's table."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 6, seed=40, size=(SIDE, SIDE))
    others = tmp_path_factory.mktemp("others")
    write_dataset(others, 5, seed=70, size=(SIDE, SIDE))
    for path in (others / "images").glob("*.png"):
        shutil.copyfile(path, folder / "images" / f"free{path.name}")
    points, _ = read_labels(others)
    with (folder / "kneel_shapes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_id", "side", "split", "tibia", "femur"])
        for name, values in points.items():
            values = values * [-1, 1] + [SIDE, 0] if side_of(name) == "left" else values
            tibia, femur = (",".join(map(str, part.ravel())) for part in (values[:9], values[9:]))
            writer.writerow([f"shape{subject_of(name)}", name.split(".")[0][-1], "free", tibia, femur])
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return small_recipe("anatomy-knee", tmp_path_factory.mktemp("recipe"), SMALLER)


@pytest.fixture(scope="module")
def result(recipe, data, tmp_path_factory):
    return train(recipe, data, tmp_path_factory.mktemp("run"))


def test_the_folder_segments_a_film_of_any_size_and_side(result, data):
    folder = load_anatomy(result)
    path = sorted((data / "images").glob("*L.png"))[0]
    image = read_image(path)
    found = folder.prior.segment(image, mirrored=True)
    assert found.probabilities.shape == (6, 32, 32)
    assert np.allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.isfinite([found.fit, found.divergence]).all()
    flipped = Image.from_array(np.ascontiguousarray(image.array[:, ::-1]))
    mirrored = folder.prior.segment(flipped)
    assert np.allclose(found.probabilities, mirrored.probabilities, atol=1e-3), "a left knee is a right one in a mirror"
    bare = folder.prior.segment(image, mirrored=True, bare=True)
    assert not np.allclose(found.probabilities, bare.probabilities)
    assert found.on(image.frame).shape == image.array.shape


def test_the_folder_holds_what_was_trained(result, recipe, data):
    description = json.loads((result / DESCRIPTION).read_text(encoding="utf-8"))
    assert set(description["sha256"]) == {f"{name}.safetensors" for name in ("encoder", "decoder", "atlas", "sae")}
    model = AnatomyModel(load_recipe(recipe), data, result.parent)
    folder = load_anatomy(result)
    for ours, trained in ((folder.prior.encoder, model.encoder()), (folder.prior.decoder, model.decoder())):
        pairs = zip(ours.state_dict().values(), trained.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert folder.prior.settings == model.settings
    figures = json.loads((result / "figures.json").read_text(encoding="utf-8"))
    assert figures["learnt_from"]["shapes"] == 5
    assert set(figures["train"]) >= {"learned prior, posterior", "EM + static atlas", "prior only", "SAE"}
    assert figures["train"]["prior only"]["films"] == sum(split == "train" for split in read_labels(data)[1].values())


def test_resuming_ends_with_the_same_weights(recipe, data, result, tmp_path):
    """Stopped after one epoch of each stage, then resumed: bit for bit what an undisturbed run gives."""
    model = AnatomyModel(load_recipe(recipe), data, tmp_path, resume=True)
    for stage, train_stage in (("prior", model.train_prior), ("image", model.train_encoder), ("sae", model.train_sae)):
        sections = model.recipe.sections
        kept = json.loads(json.dumps(sections))
        (sections["sae"]["training"] if stage == "sae" else sections[stage])["epochs"] = 1
        # The rate falls along the whole run, so the short one must fall along the same line.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("LandmarkDetectionLib.training.trainer.Schedule.rate_at", lambda self, step: 1e-3)
            train_stage()
            sections.clear()
            sections.update(kept)
            train_stage()
    whole = AnatomyModel(load_recipe(recipe), data, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("LandmarkDetectionLib.training.trainer.Schedule.rate_at", lambda self, step: 1e-3)
        whole.train()
    for stage in ("prior", "image", "sae_training"):
        resumed, undisturbed = (load_file(folder / stage / "weights.safetensors") for folder in (model.out, whole.out))
        assert resumed.keys() == undisturbed.keys()
        assert all(torch.equal(resumed[name], undisturbed[name]) for name in resumed), stage


def test_the_encoder_starts_from_nothing_that_saw_labels_and_leaves_the_decoder(result):
    run = result.parent
    prior, encoder = (load_file(run / stage / "weights.safetensors") for stage in ("prior", "image"))
    decoder = load_file(result / DECODER)
    assert all(torch.equal(prior[f"decoder.{name}"], value) for name, value in decoder.items())
    assert encoder["levels.0.0.weight"].shape[1] == 1


@pytest.mark.parametrize("name", [ENCODER, DECODER, "atlas.safetensors", "sae.safetensors"])
def test_changed_weights_are_refused(result, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(result, folder)
    tensors = load_file(folder / name)
    save_file({key: value + 1e-3 for key, value in tensors.items()}, folder / name)
    with pytest.raises(BundleError, match=re.escape(name)):
        load_anatomy(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match="missing or changed"):
        load_anatomy(folder)


def test_a_damaged_description_is_refused(result, tmp_path):
    with pytest.raises(BundleError, match="no anatomy.json"):
        load_anatomy(tmp_path)
    for damage in (lambda text: text[:50], lambda text: text.replace('"latent"', '"other"')):
        folder = tmp_path / "copy"
        shutil.copytree(result, folder, dirs_exist_ok=True)
        text = (folder / DESCRIPTION).read_text(encoding="utf-8")
        (folder / DESCRIPTION).write_text(damage(text), encoding="utf-8")
        with pytest.raises(BundleError, match="damaged"):
            load_anatomy(folder)


def test_a_subject_is_in_one_place_only(landmark_data):
    """Real films to learn from are of subjects without labels and without shapes, in any split."""
    folder = landmark_data / "knee_xray"
    films = named_films(folder, folder / "kneel_shapes.csv")
    subjects = {subject_of(film.path.name) for film in films}
    assert len(films) > 500
    assert not subjects & {subject_of(name) for name in read_labels(folder)[0]}
    assert not subjects & set(read_shapes(folder / "kneel_shapes.csv", excluded_splits=()).subjects)
    assert all(film.mirrored == film.path.name.endswith("L.png") for film in films)


# Segmentations


def knee_points(shift=0.0) -> np.ndarray:
    x = np.linspace(15.0, 65.0, 9)
    tibia = np.column_stack([x, 45 + shift + 2 * np.sin(x / 8)])
    x = np.linspace(15.0, 65.0, 7)
    return np.vstack([tibia, np.column_stack([x, 35 + shift + 2 * np.sin(x / 8)])])


def exact(points: np.ndarray, frame: Frame) -> Segmentation:
    labels = draw_labels(points, frame.size, Closure())
    return Segmentation(frame, np.eye(6)[labels].transpose(2, 0, 1).astype(np.float32))


def test_the_truth_has_all_its_dice_and_lies_on_its_line():
    image = Image.from_array(np.eye(80, dtype=np.uint8))
    points = knee_points()
    figures = film_figures(exact(points, image.frame), image, points, Closure(), mirrored=False)
    assert figures["dice"] == {"femur": 1.0, "tibia": 1.0}
    assert (figures["distances"] * 80 / 224 < 1.25).all()
    moved = film_figures(exact(knee_points(shift=3.0), image.frame), image, points, Closure(), mirrored=False)
    # Across a sloping line a shift of 3 along y counts for a little less.
    assert moved["distances"] * 80 / 224 == pytest.approx(np.full(16, 2.9), abs=1.25)
    assert moved["dice"]["tibia"] < 0.9


def test_a_left_knee_is_measured_in_its_own_film():
    image = Image.from_array(np.eye(80, dtype=np.uint8))
    right = knee_points()
    left = right * [-1, 1] + [79, 0]
    found = exact(right, image.frame.flipped(0))
    figures = film_figures(found, image, left, Closure(), mirrored=True)
    assert figures["dice"] == {"femur": 1.0, "tibia": 1.0}
    assert (figures["distances"] * 80 / 224 < 1.25).all()


def test_label_maps_on_a_finer_film_keep_their_place():
    coarse = Frame.film((40, 40), spacing=2.0, spacing_source="calibrated")
    fine = Frame((80, 80), coarse.to_physical([-0.25, -0.25]), coarse.steps / 2, "calibrated")
    points = knee_points()
    labels = exact(coarse.to_index(fine.to_physical(points)), coarse).on(fine)
    scores = band_dice(labels, draw_labels(points, (80, 80), Closure()))
    assert min(scores.values()) > 0.93
    far = Frame.film((10, 10), spacing=2.0, spacing_source="calibrated")
    away = Frame(far.size, far.origin + [500.0, 0, 0], far.steps, "calibrated")
    assert (exact(points, coarse).on(away) == 0).all(), "nothing is known outside the window"


def test_edges_lie_between_the_cells():
    y = np.arange(20)[:, None] * np.ones((1, 12))
    slope = 9.3 + 0.2 * np.arange(12)
    probability = 1 / (1 + np.exp(y - slope))  # above the line, one
    lower = edge_line(probability, 1)
    assert lower[:, 1] == pytest.approx(slope, abs=0.05)
    upper = edge_line(1 - probability, -1)
    assert upper[:, 1] == pytest.approx(slope, abs=0.05)
    speckled = probability.copy()
    speckled[18, 3] = 1.0
    assert edge_line(speckled, 1)[3, 1] == pytest.approx(slope[3], abs=0.05), "a speckle is not the bone"
    assert edge_line(np.zeros((5, 5)), 1).shape == (0, 2)


def test_distances_from_a_polyline():
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    points = np.array([[5.0, 2.0], [-3.0, 4.0], [12.0, 3.0], [10.0, 0.0]])
    assert line_distances(points, line) == pytest.approx([2.0, 5.0, 2.0, 0.0])
    assert np.isinf(line_distances(points, np.zeros((0, 2)))).all()
    assert line_distances(points[:1], line[:1]) == pytest.approx([np.hypot(5, 2)])


def test_landmarks_off_the_contour_are_named():
    frame = Frame.film((80, 80))
    found = exact(knee_points(), frame)
    points = frame.to_physical(knee_points())
    moved = points.copy()
    moved[4, 1] += 6.0
    flags = found.off_contour({"tibia": moved[:9], "femur": moved[9:]}, limit=3.0)
    assert flags["tibia"].tolist() == [False] * 4 + [True] + [False] * 4
    assert not flags["femur"].any()
    with pytest.raises(LandmarkDetectionError, match="patella"):
        found.off_contour({"patella": points}, 3.0)
    without = Segmentation(frame, np.eye(6)[np.zeros((80, 80), int)].transpose(2, 0, 1))
    assert np.isinf(without.distances("femur", points)).all() and without.pose() is None


def test_a_window_moved_to_the_found_pose_shows_the_standard_one():
    size = (112, 80)
    standard = joint_pose(knee_points() + [15.0, 0.0])
    move = Similarity(1.15, np.array([[0.995, -0.0998], [0.0998, 0.995]]), np.array([-4.0, 2.0]))
    found = joint_pose(move.apply(knee_points() + [15.0, 0.0]))
    view = AnatomyView(size, 1.28)
    first = Frame.film(size, spacing=1.7, spacing_source="given")
    window = view.moved_window(first, carried(standard, found))
    seen = window.to_index(first.to_physical(move.apply(knee_points() + [15.0, 0.0])))
    assert seen == pytest.approx(knee_points() + [15.0, 0.0], abs=0.05)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_about_landmarks_shows_them_in_the_standard_pose(mirrored):
    view, frame = AnatomyView((112, 80), 1.28), Frame.film((300, 400), spacing=0.7, spacing_source="given")
    angle = np.radians(9)
    points = 2.5 * knee_points() @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 60
    film = frame.flipped(0) if mirrored else frame
    window = view.window_about(frame, film.to_physical(points), mirrored)
    seen = window.to_index(film.to_physical(points))
    assert seen.mean(axis=0) == pytest.approx([55.5, 39.5])
    assert seen[8] - seen[0] == pytest.approx([112 / 1.28, 0.0], abs=1e-9)
    assert seen[9:, 1].mean() < seen[:9, 1].mean(), "the femur is above"


def test_gray_values_do_not_depend_on_exposure_or_a_smooth_field():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(60, 80))
    field = np.linspace(0, 30, 80)[None] + np.linspace(0, 20, 60)[:, None]
    plain, biased = (relative_gray(a, 5.0, 0.0, 3.0) for a in (array, 7.0 * array + field))
    assert np.corrcoef(plain.ravel(), biased.ravel())[0, 1] > 0.995
    assert np.abs(plain).max() <= 3.0


def test_real_films_with_two_methods(result, landmark_data):
    """An untrained network is no segmentation, but it is measured like one: every film counts, whatever it finds."""
    folder = load_anatomy(result)
    figures = measure(folder, landmark_data / "knee_xray", "val", {
        "prior": lambda image, mirrored: folder.prior.segment(image, mirrored),
        "nothing": lambda image, mirrored: Segmentation(image.frame, np.eye(6)[:, :1, None] * np.ones((1, 224, 224))),
    })  # fmt: skip
    assert {name: values["films"] for name, values in figures.items()} == {"prior": 19, "nothing": 19}
    assert figures["nothing"]["dice"]["mean"] == 0 and figures["nothing"]["distance_px"]["missed"] == 19 * 16
    assert {FEMUR, TIBIA} == {2, 4}
