"""The interactive pipeline from a data set to a network that is corrected, on drawn columns."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import BundleError, ImageError, LandmarkDetectionError
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.published.ikem import IkemAnnotator
from LandmarkDetectionLib.inference.published.ikem_folder import build_interactive, load_ikem
from LandmarkDetectionLib.inference.published.ikem_view import IkemPlan, gray_view, network_frame
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.training.ikem.model import IkemModel
from LandmarkDetectionLib.training.recipe import find_recipe, load_recipe
from LandmarkDetectionLib.training.run import train
from PIL import Image as Picture
from safetensors.torch import load_file


def write_columns(folder, count: int = 8) -> None:
    """Films of seventeen bright boxes, two of a study; the first one's uppermost vertebra is named last."""
    (folder / "images").mkdir()
    names, rows = load_schema("spine-ap").ids, []
    rng = np.random.default_rng(0)
    for number in range(count + 2):
        width, height = int(rng.integers(50, 70)), int(rng.integers(150, 180))
        film = rng.uniform(20, 60, (height, width))
        points = []
        for level in range(17):
            y, x = 0.05 * height + level * 0.053 * height, width / 2 + 5 * np.sin(level / 4 + number)
            box = np.array([[x - 6, y], [x + 6, y], [x - 6, y + 5], [x + 6, y + 5]])
            film[round(y) : round(y + 5) + 1, round(x - 6) : round(x + 6) + 1] = 220
            points += [box]
        points = np.concatenate(points if number else [*points[1:], points[0]])
        split = "train" if number < count else "val"
        row = {"image": f"{number}.png", "split": split, "study": f"s{number // 2}"}
        for name, (x, y) in zip(names, points, strict=True):
            row |= {f"{name}_x": f"{x:.2f}", f"{name}_y": f"{y:.2f}"}
        rows.append(row)
        # Nothing but their rows is there of films to be reported on: opening one would fail.
        if split == "train":
            Picture.fromarray(film.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    with (folder / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "dataset.json").write_text(json.dumps({"name": "columns", "landmarks": names}), encoding="utf-8")


def small_recipe(name: str, path, epochs: int = 1, **changes: str):
    """A recipe that trains a tiny network of its kind on tiny films."""
    text = find_recipe(name).read_text(encoding="utf-8")
    text = re.sub(r"(?m)^folds = \d+", "folds = 2", text)
    text = re.sub(r"(?m)^size = .*$", "size = [32, 64]", text)
    text = re.sub(r"(?m)^hint_deviation = \S+", "hint_deviation = 2.0", text)
    text = re.sub(r"(?m)^batch = \d+", "batch = 2", text)
    text = re.sub(r"(?m)^epochs = \d+", f"epochs = {epochs}", text)
    tiny = {
        "ikem-unet": "width = 4\ndepth = 2\ngate_width = 8",
        "ikem-hrnet": "width = 4\nstem = 4\nmodules = [1, 1]\nblocks = 1\ngate_width = 8\ncontext = 8",
    }[name]
    text = re.sub(r"(?m)^width = \d+(\ndepth = \d+)?", tiny, text)
    for old, new in changes.items():
        text, count = re.subn(rf"(?m)^{old} = \S+", f"{old} = {new}", text)
        assert count, old
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    write_columns(folder)
    return folder


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    """The UNet's recipe: one epoch without hints, then two with."""
    folder = tmp_path_factory.mktemp("unet")
    path = folder / "small.toml"
    text = small_recipe("ikem-unet", path, networks="2").read_text()
    path.write_text(re.sub(r"(?s)(\[schedule\].*?epochs = )1", r"\g<1>2", text), encoding="utf-8")
    return train(path, data, folder / "out")


def assert_same(one, other) -> None:
    one, other = load_file(one), load_file(other)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Training


@pytest.mark.parametrize(("name", "count"), [("ikem-hrnet", 32_942_889), ("ikem-unet", 32_548_261)])
def test_recipes_describe_the_published_networks(name, count, tmp_path):
    model = IkemModel(load_recipe(name), tmp_path, tmp_path)
    assert sum(parameter.numel() for parameter in model.untrained().parameters()) == count
    assert model.plan == IkemPlan() and model.interaction.counts == {"ikem-hrnet": "kim", "ikem-unet": "student"}[name]


@pytest.mark.parametrize("name", ["ikem-hrnet", "ikem-unet"])
def test_short_recipes_differ_in_their_schedules_only(name):
    whole, short = (load_recipe(recipe).sections for recipe in (name, f"{name}-short"))
    assert whole.keys() == short.keys()
    assert {section for section in whole if whole[section] != short[section]} <= {"schedule", "without_hints"}


def test_a_run_that_was_stopped_ends_like_one_that_was_not(result, data, tmp_path):
    whole = (result.parent.parent / "small.toml").read_text()
    path = tmp_path / "short.toml"
    path.write_text(re.sub(r"(?s)(\[schedule\].*?epochs = )2", r"\g<1>1", whole), encoding="utf-8")
    train(path, data, tmp_path / "out")
    path.write_text(whole, encoding="utf-8")
    resumed = train(path, data, tmp_path / "out", resume=True)
    for fold in range(2):
        assert_same(result / f"network-{fold}.safetensors", resumed / f"network-{fold}.safetensors")
    assert (result / "figures.json").read_text() == (resumed / "figures.json").read_text()


def test_networks_start_from_those_that_learnt_without_hints(result):
    """The first phase never shows a hint: what weighs them stays as it began."""
    model = IkemModel(load_recipe(result / "recipe.toml"), result, result)
    hints = "stem.fusion.layers.0.weight"
    for fold in range(2):
        torch.manual_seed(model.recipe.seed + fold)
        begun = model.untrained().state_dict()
        before = load_file(result.parent / "without_hints" / f"fold{fold}" / "weights.safetensors")
        after = load_file(result / f"network-{fold}.safetensors")
        assert before.keys() == after.keys()
        assert torch.equal(begun[hints], before[hints]) and not torch.equal(before[hints], after[hints])
        assert not torch.equal(begun["stem.image.0.weight"], before["stem.image.0.weight"])
        with (result.parent / "network" / f"fold{fold}" / "log.csv").open(newline="") as file:
            assert all(float(row["validation"]) > 0 for row in csv.DictReader(file))
    with (result.parent / "without_hints" / "fold0" / "log.csv").open(newline="") as file:
        assert [row["validation"] for row in csv.DictReader(file)] == [""]


def test_no_study_is_learnt_from_and_chosen_by(data, tmp_path):
    model = IkemModel(load_recipe(small_recipe("ikem-unet", tmp_path / "r.toml")), data, tmp_path)
    assert len(model.films) == 8 and len(set(model.films.groups)) == 4
    objective, schedule = model.objective(0, "schedule", 1)
    learns, chooses = set(objective.films.groups), set(objective.kept_out.groups)
    assert learns and chooses and not learns & chooses and learns | chooses == set(model.films.groups)
    assert schedule.steps == 2 and schedule.patience == 36


def test_films_hold_their_landmarks_in_order(data, tmp_path):
    """Vertebrae named out of order are re-sorted; corners lie on the boxes' edges, whatever the film's size."""
    films = IkemModel(load_recipe(small_recipe("ikem-unet", tmp_path / "r.toml")), data, tmp_path).films
    heights = films.points.view(-1, 17, 4, 2)[..., 1].mean(-1)
    assert (heights.diff(dim=1) > 0).all()
    for number, name in enumerate(films.names):
        with Picture.open(data / "images" / name) as picture:
            torch.testing.assert_close(films.scales[number], torch.tensor(picture.size) / torch.tensor([32.0, 64.0]))
        middles = films.points[number].view(17, 4, 2).mean(1).round().long()
        assert (films.images[number, 0, middles[:, 1], middles[:, 0]] > 150).all()


def test_labels_as_they_are_when_asked_for(data, tmp_path):
    path = small_recipe("ikem-unet", tmp_path / "r.toml", resort_vertebrae="false")
    films = IkemModel(load_recipe(path), data, tmp_path).films
    heights = films.points.view(-1, 17, 4, 2)[..., 1].mean(-1)
    assert ((heights.diff(dim=1) > 0).all(dim=1)).tolist() == [False] + [True] * 7


def test_figures_count_each_film_kept_out_once(result):
    figures = json.loads((result / "figures.json").read_text())
    assert figures["films"] == 8 and len(figures["mean_by_clicks"]) == len(figures["median_by_clicks"]) == 6
    assert all(np.isfinite(figures["mean_by_clicks"]))


def test_the_other_recipe_trains_with_morphology_and_its_auxiliary_output(data, tmp_path):
    path = small_recipe("ikem-hrnet", tmp_path / "r.toml", swap_mirror_pairs="false", fit='"letterbox"')
    model = IkemModel(load_recipe(path), data, tmp_path)
    objective, _ = model.objective(0, "schedule", 1)
    assert objective.criterion.auxiliary and objective.criterion.morphology.pairs.shape == (70, 2)
    assert objective.criterion.morphology.triplets.shape == (70, 3)
    assert objective.augmentation.keep_proportions and not objective.augmentation.swap_mirror_pairs
    trained = load_ikem(train(path, data, tmp_path / "out"))
    assert trained.decoding == "argmax" and trained.plan.fit == "letterbox" and len(trained.networks) == 1


def test_the_hourglass_learns_by_the_same_recipe(data, tmp_path):
    """Heatmaps and hints lie on a quarter of the resolution there."""
    path = small_recipe("ikem-unet", tmp_path / "r.toml")
    section = """kind = "hourglass"\nin_channels = 3\nout_channels = 68\nwidth = 4\ndepth = 2\nhint_channels = 136\n"""
    text = re.sub(r"(?s)kind = \"hint_unet\".*?\n\n", section + "\n", path.read_text())
    path.write_text(text, encoding="utf-8")
    annotator = load_ikem(train(path, data, tmp_path / "out")).annotator(read_image(data / "images" / "3.png"))
    before = annotator.positions
    assert before.shape == (68, 2) and np.abs(annotator.correct(5, (20.0, 40.0)) - before).max() > 0
    path.write_text(text.replace("hint_channels = 136", "hint_channels = 68"), encoding="utf-8")
    with pytest.raises(LandmarkDetectionError, match="takes 68, but two for each landmark are needed: 136"):
        IkemModel(load_recipe(path), data, tmp_path).untrained()
    with pytest.raises(BundleError, match="'resnet' takes no hints"):
        build_interactive({"kind": "resnet"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"networks": "3"}, "4 groups of films cannot be cross-validated in 2 folds with 3 networks"),
        ({"out_channels": "16"}, "68 landmarks; the recipe's network 16"),
        ({"auxiliary": "true"}, "no auxiliary output"),
        ({"counts": '"kin"'}, "'kin' is not one of kim, student"),
        ({"fit": '"crop"'}, "'crop' is not one of stretch, letterbox"),
    ],
)
def test_recipes_that_cannot_be_followed_say_why(changes, sentence, data, tmp_path):
    path = small_recipe("ikem-unet", tmp_path / "r.toml", **changes)
    with pytest.raises(LandmarkDetectionError, match=sentence):
        train(path, data, tmp_path / "out")


# In use


def test_the_result_is_corrected(result, data):
    """The image is encoded once; what the user says stays as it was said; the rest is predicted again."""
    trained = load_ikem(result)
    image = read_image(data / "images" / "3.png")
    network, encoded = trained.networks[1], []
    hook = network.stem.image.register_forward_hook(lambda *_: encoded.append(1))
    annotator = trained.annotator(image, member=1)
    before = annotator.positions
    assert before.shape == (68, 2) and np.isfinite(before).all() and not annotator.corrected.any()
    first = annotator.correct(5, (20.25, 40.5))
    second = annotator.correct(9, (30.0, 60.0))
    hook.remove()
    assert len(encoded) == 1
    assert first[5].tolist() == second[5].tolist() == [20.25, 40.5] and second[9].tolist() == [30.0, 60.0]
    assert np.flatnonzero(annotator.corrected).tolist() == [5, 9]
    free = [row for row in range(68) if row not in (5, 9)]
    assert np.abs(first - before)[free].max() > 0
    fresh = trained.annotator(image, member=1)
    np.testing.assert_array_equal(fresh.positions, before)


@pytest.mark.parametrize(("row", "position"), [(68, (1.0, 1.0)), (-1, (1.0, 1.0)), (0, (np.nan, 1.0)), (0, (1.0,))])
def test_corrections_that_say_nothing_are_refused(row, position, result, data):
    annotator = load_ikem(result).annotator(read_image(data / "images" / "3.png"))
    before = annotator.positions
    with pytest.raises(LandmarkDetectionError, match="from 0 to 67 and 2 finite"):
        annotator.correct(row, position)
    np.testing.assert_array_equal(annotator.positions, before)


def test_changed_weights_are_refused(result, tmp_path):
    for path in result.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "network-1.safetensors").write_bytes(b"something else")
    with pytest.raises(BundleError, match="network-1"):
        load_ikem(tmp_path)
    with pytest.raises(BundleError, match="no interactive network"):
        load_ikem(tmp_path / "nothing")


class Neighbor(torch.nn.Module):
    """Answers each hint at the landmark after it, in the middle where there is none, and keeps what it was shown."""

    hint_channels, hint_stride = 6, 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def decode(self, encoded: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
        self.seen.append(hints)
        return 12 * hints[:, 3:].roll(1, dims=1) - 6


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("decoding", ["argmax", "local"])
def test_positions_go_to_the_network_and_back(fit, decoding):
    """A film of other size and proportions: an answer lies where the hint was given, to half a pixel of the input."""
    film = Image.from_array(np.random.default_rng(1).integers(0, 255, (300, 90)).astype(np.uint8))
    plan = IkemPlan(size=(64, 96), fit=fit, channels=1, hint_deviation=4.0)
    annotator = IkemAnnotator(Neighbor(), film, "none", decoding, plan)
    found = annotator.correct(0, (41.0, 172.0))
    half = 0.5 * np.array(network_frame(film.frame, plan).spacing)
    assert found[0].tolist() == [41.0, 172.0]
    assert (np.abs(found[1] - (41.0, 172.0)) <= half + 1e-6).all()


@pytest.mark.parametrize("policy", ["hinted", "all", "none"])
def test_the_annotator_keeps_to_its_policy(policy):
    film = Image.from_array(np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.uint8))
    network = Neighbor()
    annotator = IkemAnnotator(network, film, policy, "argmax", IkemPlan(size=(32, 32), channels=1, hint_deviation=3.0))
    annotator.correct(0, (20.0, 30.0))
    annotator.correct(1, (40.0, 10.0))
    assert [(maps[:, :3] != 0).flatten(2).any(-1)[0].tolist() for maps in network.seen] == {
        "hinted": [[False] * 3, [True, False, False], [True, True, False]],
        "all": [[False] * 3, [True] * 3, [True] * 3],
        "none": [[False] * 3] * 3,
    }[policy]
    assert (network.seen[0] == 0).all() and (network.seen[2][0, 3:].amax((1, 2)) > 0.9).tolist() == [True, True, False]


def test_views_fill_the_input_or_keep_proportions():
    film = Image.from_array(np.random.default_rng(1).integers(0, 255, (300, 90)).astype(np.uint8))
    stretched = network_frame(film.frame, IkemPlan(size=(64, 128)))
    np.testing.assert_allclose(stretched.spacing, (90 / 64, 300 / 128))
    boxed = network_frame(film.frame, IkemPlan(size=(64, 128), fit="letterbox"))
    np.testing.assert_allclose(boxed.spacing, 300 / 128)
    middle = film.frame.to_physical((np.array(film.frame.size) - 1) / 2)
    np.testing.assert_allclose(boxed.to_index(middle), (31.5, 63.5), atol=1e-9)
    wide = Image.from_array(np.random.default_rng(1).integers(0, 255, (90, 300)).astype(np.uint8))
    np.testing.assert_allclose(network_frame(wide.frame, IkemPlan(size=(64, 128), fit="letterbox")).spacing, 300 / 64)
    gray, _ = gray_view(film, IkemPlan(size=(90, 300)))
    np.testing.assert_allclose(gray, (film.array - film.array.min()) * (255 / np.ptp(film.array)), atol=1e-2)


def test_what_does_not_fit_is_refused():
    film = Image.from_array(np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.uint8))
    for options, sentence in (
        ({"previous": "last"}, "hinted, all, none"),
        ({"decoding": "mean"}, "argmax, expectation"),
    ):
        with pytest.raises(LandmarkDetectionError, match=sentence):
            IkemAnnotator(Neighbor(), film, **options)
    with pytest.raises(ImageError, match="an image of 3 axes, not one of 2"):
        IkemAnnotator(Neighbor(), film, plan=IkemPlan(size=(16, 16, 16)))
