"""What training sees: folds and splits that never leak, and landmarks that stay on what they mark."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from LandmarkDetectionLib.networks.hourglass import Hourglass
from LandmarkDetectionLib.preprocessing.oriented import sample_at
from LandmarkDetectionLib.training.data.crops import CropGeometry, random_crops
from LandmarkDetectionLib.training.data.films import read_films, read_labels, subject_folds, subject_of
from LandmarkDetectionLib.training.joint.model import FilmModel, placed
from LandmarkDetectionLib.training.joint.wide_films import WideGeometry, knee_films
from LandmarkDetectionLib.training.recipe import load_recipe
from PIL import Image

# Sixteen points about as a knee's lie in a crop of 224 pixels, from lateral to medial.
KNEE = torch.tensor(
    [[62, 128], [78, 130], [94, 126], [106, 114], [114, 117], [122, 112], [132, 125], [150, 130], [168, 127]]
    + [[65, 117], [82, 119], [98, 112], [113, 100], [131, 113], [149, 122], [166, 118]],
    dtype=torch.float32,
)


@settings(max_examples=80, deadline=None)
@given(
    subjects=st.lists(st.sampled_from([f"s{n}" for n in range(25)]), min_size=1, max_size=60),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_films_of_a_subject_share_a_fold(subjects, folds, seed):
    chosen = subject_folds(subjects, folds, seed)
    fold_of = dict(zip(subjects, chosen, strict=True))
    assert all(fold_of[subject] == fold for subject, fold in zip(subjects, chosen, strict=True))
    sizes = [list(fold_of.values()).count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    # The order of the films does not matter, so a folder listed in another order is split alike.
    assert fold_of == dict(zip(subjects[::-1], subject_folds(subjects[::-1], folds, seed), strict=True))


@pytest.fixture(scope="module")
def film_model(landmark_data, tmp_path_factory) -> FilmModel:
    data = landmark_data / "knee_xray"
    if not (data / "landmarks.csv").is_file():
        pytest.skip(f"no knee films at {data}")
    recipe = load_recipe("knee-ap-radiograph")
    open_gate = {"spread": math.inf, "distance": math.inf, "margin": 0.0}
    recipe = replace(recipe, sections=recipe.sections | {"landmarks": recipe["landmarks"] | {"gate": open_gate}})
    return FilmModel(recipe, data, tmp_path_factory.mktemp("film_model"))


@pytest.fixture(scope="module")
def kept_out(film_model) -> set[str]:
    """Subjects of the films to report on, by image or by shape."""
    _, splits = read_labels(film_model.data)
    subjects = {subject_of(name) for name, split in splits.items() if split == "val"}
    with (film_model.data / "kneel_shapes.csv").open(newline="") as file:
        subjects |= {row["subject_id"] for row in csv.DictReader(file) if row["split"] == "val"}
    assert len(subjects) >= 15
    return subjects


def test_no_film_and_no_shape_of_a_val_subject_is_learnt_from(film_model, kept_out):
    for films in (film_model.films, film_model.named):
        assert len(films) > 50 and not kept_out & set(films.subjects)
        assert films.subjects == tuple(subject_of(name) for name in films.names)
    assert not kept_out & set(film_model.shapes.subjects) and len(film_model.shapes) > 500
    # The films whose other knee is kept out are there to be found, so the rule above has something to do.
    files = {subject_of(path.name) for path in (film_model.data / "images").glob("*.png")}
    assert kept_out <= files
    assert set(film_model.films.names).isdisjoint(film_model.named.names)


def teachers(*seeds: int) -> list[Hourglass]:
    """Networks that have learnt nothing, each otherwise."""
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(Hourglass(1, 16, width=8, depth=1).eval())
    return networks


def test_a_teacher_has_not_seen_the_subjects_of_its_fold(film_model):
    for fold in range(film_model.recipe.folds):
        subjects = film_model.subjects_of(fold)
        assert subjects and not subjects & set(film_model.films_without(fold).subjects)


def test_labels_are_the_mean_of_all_teachers_where_they_agree(film_model, monkeypatch):
    films = film_model.named.select([row < 3 for row in range(len(film_model.named))])
    both = teachers(0, 1)
    monkeypatch.setitem(vars(film_model), "teachers", both)
    labelled = film_model.labels_of(films, film_model.gate)
    assert labelled.names == films.names and labelled.sides == films.sides
    alone = []
    for teacher in both:
        monkeypatch.setitem(vars(film_model), "teachers", [teacher])
        alone.append(film_model.labels_of(films, film_model.gate).points)
    torch.testing.assert_close(labelled.points, (alone[0] + alone[1]) / 2, atol=1e-3, rtol=0)
    apart = (alone[0] - alone[1]).norm(dim=-1).mean(1) / 2
    assert apart.min() > 0.1
    monkeypatch.setitem(vars(film_model), "teachers", both)
    assert len(film_model.labels_of(films, replace(film_model.gate, spread=1e-6))) == 0


def test_every_film_shows_lateral_on_the_left(film_model):
    films = film_model.films
    assert {"left", "right"} == set(films.sides)
    assert (films.points[:, 0, 0] < films.points[:, 8, 0]).all()


def dots(points: torch.Tensor, sigma: float = 3.0, size: int = 224) -> torch.Tensor:
    """One film ``(1, size, size)`` for each point, with a Gaussian dot on it."""
    axis = torch.arange(float(size))
    columns, rows = (axis - points[:, :1]) ** 2, (axis - points[:, 1:]) ** 2
    return torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * sigma**2))[:, None]


def centers(images: torch.Tensor) -> torch.Tensor:
    """Centers of mass ``(B, 2)`` of images ``(B, 1, h, w)``."""
    images = images[:, 0].double()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in images.shape[-2:])
    mass = images.sum((1, 2))
    return torch.stack([images.sum(1) @ columns / mass, images.sum(2) @ rows / mass], dim=-1)


def upright(deformation: float) -> CropGeometry:
    return CropGeometry((224, 128), 4.2, 12.0, 0.15, 0.2, deformation)


def test_crops_keep_every_landmark_on_its_dot():
    """Rotated, scaled and shifted, one landmark painted in each of sixteen films."""
    generator = torch.Generator().manual_seed(2)
    points = KNEE.expand(16, 16, 2)
    crops, targets = random_crops(dots(KNEE, sigma=2.0), points, points, upright(0.0), generator)
    own = targets[torch.arange(16), torch.arange(16)]
    inside = ((own > 12) & (own < torch.tensor([211.0, 115.0]))).all(-1)
    assert inside.sum() >= 12
    assert (centers(crops) - own)[inside].norm(dim=-1).max() < 0.2


def test_bent_crops_show_at_each_landmark_what_the_film_showed_there():
    """Films that are ramps tell where each crop pixel comes from, which a dot that is bent itself would not."""
    generator = torch.Generator().manual_seed(3)
    points = KNEE.expand(12, 16, 2)
    centered = points - points.mean(1, keepdim=True)
    bend = 0.3 * torch.randn((12, 2, 3), generator=generator) * torch.tensor([20.0, 20.0, 12.0])
    u, v = centered[..., 0] / 60, centered[..., 1] / 60
    waves = torch.stack([u * u, u * v, torch.sin(4 * u)], dim=-1)
    shapes = points + waves @ bend.transpose(1, 2)
    axis = torch.arange(224.0) / 223
    ramps = [axis.expand(224, 224), axis[:, None].expand(224, 224)]
    seen, moved = [], 0.0
    for ramp in ramps:
        generator = torch.Generator().manual_seed(4)
        crops, targets = random_crops(ramp.expand(12, 1, 224, 224), points, shapes, upright(1.0), generator)
        seen.append(sample_at(crops, targets[:, :, None])[:, 0, :, 0] * 223)
        moved = (targets - targets.mean(1, keepdim=True)).norm(dim=-1)
    inside = ((targets > 1) & (targets < torch.tensor([222.0, 126.0]))).all(-1)
    errors = (torch.stack(seen, dim=-1) - points).norm(dim=-1)[inside]
    assert inside.float().mean() > 0.9 and errors.max() < 0.45
    # They were bent: the outlines of no two films are the same but for scale.
    assert (moved / moved.mean(1, keepdim=True)).std(0).max() > 0.03


def test_wide_films_keep_landmarks_on_their_dots():
    """The same film with and without dots, from the same chance: what differs lies on the landmarks."""
    geometry = WideGeometry()
    points = KNEE.expand(48, 16, 2)
    marked = torch.arange(48) % 16
    painted = dots(KNEE[marked], sigma=4.0)
    films, presence = [], torch.zeros(0)
    for images in (painted, torch.zeros_like(painted)):
        generator = torch.Generator().manual_seed(7)
        film, landmarks, presence = knee_films(images, points, images * 0, points, geometry, generator)
        films.append(torch.where(presence[:, None, None, None] > 0, film, film.flip(-1)))
    difference = films[0] - films[1]
    own = landmarks[torch.arange(48), marked]
    scale = torch.linalg.vector_norm(landmarks[:, 8] - landmarks[:, 0], dim=-1) / torch.dist(KNEE[8], KNEE[0])
    # Bars of repeated edge may hide or smear a dot; such films, and dots of under two pixels, tell nothing.
    whole = (difference.sum((1, 2, 3)) / (2 * math.pi * (4 * scale) ** 2) - 1).abs() < 0.003
    scored = whole & (scale > 0.25)
    assert scored.sum() >= 15 and 0 < presence.mean() < 1
    assert (centers(difference)[scored] - own[scored]).norm(dim=-1).max() < 0.1


def test_a_large_oblong_film_is_fitted_into_the_square_with_its_landmarks(tmp_path):
    for name in ("aR.png", "aL.png"):
        columns, rows = numpy.meshgrid(numpy.arange(300), numpy.arange(520))
        spot = 255 * numpy.exp(-((columns - 81.4) ** 2 + (rows - 333.8) ** 2) / (2 * 9**2))
        Image.fromarray(numpy.round(spot).astype(numpy.uint8)).save(tmp_path / name)
    points = {name: numpy.array([[81.4, 333.8]]) for name in ("aR.png", "aL.png")}
    films = read_films(tmp_path, list(points), points, {}, size=208)
    assert films.subjects == ("a", "a") and films.sides == ("right", "left")
    images, targets = films.batch(torch.arange(2))
    assert (centers(images) - targets[:, 0]).norm(dim=-1).max() < 0.05
    assert targets[0, 0, 0] + targets[1, 0, 0] == pytest.approx(207, abs=1e-4)


def test_shapes_are_placed_by_scale_and_shift_alone():
    generator = torch.Generator().manual_seed(4)
    shapes = 50 * torch.randn(3, 16, 2, generator=generator)
    scale, shift = torch.tensor([0.5, 1.3, 2.0])[:, None, None], 30 * torch.randn(3, 1, 2, generator=generator)
    fitted, misfit = placed(shapes, scale * shapes + shift)
    torch.testing.assert_close(fitted, scale * shapes + shift, atol=1e-3, rtol=0)
    assert misfit.max() < 1e-5
    _, misfit = placed(shapes, shapes.flip(-1))
    assert misfit.min() > 0.3


def test_known_shapes_come_back_on_films_without_labels(film_model, monkeypatch):
    """A shape that is annotated but not placed keeps its form; only films that the teachers recognize are kept."""
    monkeypatch.setitem(vars(film_model), "teachers", teachers(0, 1))
    assert len(film_model.films_of_shapes) == 0
    del film_model.films_of_shapes  # kept once it is made
    monkeypatch.setitem(film_model.recipe["landmarks"], "misfit", math.inf)
    films = film_model.films_of_shapes
    assert len(films) >= 30 and not set(films.names) & set(film_model.films.names)
    table = film_model.shapes
    rows = {f"{s}{side}": row for row, (s, side) in enumerate(zip(table.subjects, table.sides, strict=True))}
    for name, points in zip(films.names[:5], films.points[:5], strict=True):
        shape = torch.tensor(table.shapes[rows[name.removesuffix(".png")]], dtype=torch.float32)
        assert placed(shape[None], points[None])[1] < 1e-4
