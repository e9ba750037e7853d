"""The spine phantoms: corners lie on the edges that films show, curves have the angles asked for, seeds decide all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.phantoms import samples, spine_dimensions, tubes, vertebrae, volume
from LandmarkDetectionLib.phantoms import spine as spines
from LandmarkDetectionLib.phantoms.__main__ import main
from LandmarkDetectionLib.phantoms.curves import Curve, draw_curves
from LandmarkDetectionLib.phantoms.spine import make_spine
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, map_coordinates

LEVELS = spine_dimensions.LANDMARK_LEVELS
SMALL = (240, 600)
DOUBLE = (Curve("T5", "T11", 48.0, "left"), Curve("T11", "L4", 35.0, "right"))
STANCES = [
    (),
    (Curve("T6", "T12", 25.0, "right"),),
    (Curve("T10", "L3", 62.0, "left"),),
    DOUBLE,
    (Curve("T1", "T5", 22.0, "right"), Curve("T5", "T11", 55.0, "left"), Curve("T12", "L5", 40.0, "right")),
]


@pytest.fixture(scope="module")
def films() -> list:
    """Four small films of the column, curves drawn."""
    return [make_spine(seed, SMALL) for seed in range(4)]


@pytest.fixture(scope="module")
def sample_films() -> dict:
    """The two samples, made afresh."""
    return {samples.STRAIGHT_NAME: samples.straight_spine(), samples.SCOLIOSIS_NAME: samples.bent_spine()}


def column_of(seed: int, curves=(), **changes) -> vertebrae.Column:
    """A column of drawn sizes."""
    dimensions = spine_dimensions.draw_spine_dimensions(np.random.default_rng(seed))
    return vertebrae.build_column(replace(dimensions, **changes), curves)


def angle_between(points: np.ndarray, upper: str, lower: str) -> float:
    """Cobb angle in degrees from (17, 4, 2) corners, by the scalar product of two endplate lines."""
    first = points[LEVELS.index(upper), 1] - points[LEVELS.index(upper), 0]
    second = points[LEVELS.index(lower), 3] - points[LEVELS.index(lower), 2]
    return float(np.degrees(np.arccos(min(first @ second / np.linalg.norm(first) / np.linalg.norm(second), 1.0))))


def test_corners_are_those_of_the_schema():
    assert load_schema("spine-ap").ids == spine_dimensions.LANDMARKS
    pairs = {frozenset(pair) for pair in load_schema("spine-ap").mirror_pairs}
    names = spine_dimensions.LANDMARKS
    assert {frozenset((names[i], names[j])) for i, j in enumerate(spines.MIRRORED)} == pairs


def test_same_seed_same_bytes_and_other_seed_another_film(films):
    again = make_spine(3, SMALL)
    assert again.pixels.tobytes() == films[3].pixels.tobytes()
    assert np.array_equal(again.landmarks, films[3].landmarks) and again.curves == films[3].curves
    assert not np.array_equal(films[2].landmarks, films[3].landmarks)


def test_film_shows_the_whole_column_in_order(films):
    for film in films:
        assert film.pixels.dtype == np.uint16 and film.pixels.shape == SMALL[::-1]
        assert film.pixels.max() <= 4095 and film.pixels.std() > 200
        points = film.landmarks.reshape(17, 4, 2)
        assert (points >= 0).all() and (points <= np.array(SMALL) - 1).all()
        assert (points[:, 0, 0] < points[:, 1, 0]).all() and (points[:, 2, 0] < points[:, 3, 0]).all()
        middles = np.column_stack([points[:, :2, 1].mean(axis=1), points[:, 2:, 1].mean(axis=1)]).ravel()
        assert (np.diff(middles) > 0).all()  # endplate follows endplate from T1 to L5


@pytest.mark.parametrize("curves", STANCES, ids=len)
@pytest.mark.parametrize("seed", [1, 2])
def test_curves_have_the_angles_asked_for(curves, seed):
    column = column_of(seed, curves)
    points = spines.film_corners(column).reshape(17, 4, 2)
    for curve in curves:
        assert angle_between(points, curve.upper, curve.lower) == pytest.approx(curve.degrees, abs=0.5)
        assert column.cobb_angle(curve.upper, curve.lower) == pytest.approx(curve.degrees, abs=0.5)
        middles = points[LEVELS.index(curve.upper) : LEVELS.index(curve.lower) + 1].mean(axis=1)
        share = np.linspace(0, 1, len(middles))[:, None]
        bulge = (middles - (1 - share) * middles[0] - share * middles[-1])[:, 0]
        assert (bulge.sum() > 0) == (curve.convex == "right")
    tilts = [angle_between(points, upper, lower) for upper in LEVELS for lower in LEVELS]
    assert max(tilts) == pytest.approx(max((curve.degrees for curve in curves), default=0.0), abs=0.5)


def test_films_tell_the_angles_that_their_corners_have(films):
    for film in films:
        for curve in film.curves:
            angle = angle_between(film.landmarks.reshape(17, 4, 2), curve.upper, curve.lower)
            assert angle == pytest.approx(curve.degrees, abs=1e-6)
        assert film.cobb == max((curve.degrees for curve in film.curves), default=0.0)


def test_spine_stands_over_the_sacrum():
    for seed in range(5):
        column = column_of(seed, draw_curves(np.random.default_rng(seed)))
        x, _, z = column["C7"].body.pose.shift
        assert abs(x) < 45 and 330 < z < 640


def test_corners_are_where_the_shadow_of_a_body_ends():
    """On rays through the depth of each body, cast afresh: inside just within a corner, outside just beyond it."""
    for seed, curves in ((1, ()), (2, DOUBLE)):
        # Without lean every ray runs along the endplates, so that the shadow's corner is the endplate's.
        column = column_of(seed, curves, leans=np.zeros(22), sacral_lean=0.0, dish=0.0)
        for level in LEVELS:
            body = column[level].body
            depth = body.pose.shift[1] + np.arange(-30, 30, 0.1)
            corners = np.vstack([body.corners(True), body.corners(False)])
            inward = corners.mean(axis=0) - corners
            across = np.sign(inward[:, :1]) * (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
            along = inward - np.sum(inward * across, axis=1, keepdims=True) * across
            along /= np.linalg.norm(along, axis=1, keepdims=True)
            for way, sign in ((along, 1), (across, 1), (along, -1), (across, -1)):
                # Half a millimetre to each side of an edge, well away from the rounded corner.
                other = across if way is along else along
                probe = corners + sign * 0.5 * way + 2.4 * other
                reach = body.distance(probe[:, 0, None], depth[None], probe[:, 1, None]).min(axis=1)
                assert ((reach < 0) == (sign > 0)).all(), (level, sign, reach)


def test_attenuation_changes_at_the_endplates():
    """The steepest place of the projected attenuation across the middle of each endplate is the line of its corners."""
    column = column_of(4, DOUBLE, leans=np.zeros(22), sacral_lean=0.0, dish=0.0)
    step = 0.25
    for level in LEVELS:
        body = column[level].body
        corners = np.vstack([body.corners(True), body.corners(False)])
        x = np.arange(corners[:, 0].min() - 8, corners[:, 0].max() + 8, step)
        z = np.arange(corners[:, 1].max() + 8, corners[:, 1].min() - 8, -step)
        part = volume.project(body, x, z, np.random.default_rng(0))
        shadow = np.zeros((len(z), len(x)))
        shadow[part.window()] = volume.COMPACT_BONE * part.compact + volume.TRABECULAR_BONE * part.trabecular
        shadow = gaussian_filter(shadow, 1.0)
        for left, right, outward in ((*corners[:2], 1), (*corners[2:], -1)):
            normal = outward * np.array([-(right - left)[1], (right - left)[0]]) / np.linalg.norm(right - left)
            offsets = np.arange(-2, 2.01, 0.05)
            spots = left + np.linspace(0.3, 0.7, 9)[:, None] * (right - left)
            ray = spots[:, None] + offsets[None, :, None] * normal
            index = [(z[0] - ray[..., 1]) / step, (ray[..., 0] - x[0]) / step]
            profile = map_coordinates(shadow, index, order=1).mean(axis=0)
            assert abs(offsets[np.gradient(profile).argmin()]) < 0.35, level


def test_corners_stand_at_edges_of_the_finished_films(sample_films):
    """From T8 to L5, averaged over all corners, gray values fall fastest where the endplates' lines leave the bone."""
    offsets, steepness = np.arange(-6, 6.01, 0.25), 0.0
    for film in sample_films.values():
        points = film.landmarks.reshape(17, 4, 2)[7:]
        gray = gaussian_filter(film.pixels.astype(float), 1.0)
        for inner, outer in ((1, 0), (0, 1), (3, 2), (2, 3)):
            outward = points[:, outer] - points[:, inner]
            outward /= np.linalg.norm(outward, axis=1, keepdims=True)
            ray = points[:, outer, None] + offsets[None, :, None] / film.spacing * outward[:, None]
            profile = map_coordinates(gray, [ray[..., 1], ray[..., 0]], order=1)
            steepness = steepness - (np.gradient(profile, axis=1) / profile.std(axis=1, keepdims=True)).sum(axis=0)
    assert abs(offsets[steepness.argmax()]) <= 1.0


def test_points_follow_the_spacing_of_the_film():
    """One column on two films looks at the same places, and a film given its spacing keeps its middle."""
    column = column_of(5, DOUBLE)
    positions = spines.film_corners(column)
    coarse = spines.to_index(positions, 0.8, (100.0, 500.0))
    fine = spines.to_index(positions, 0.2, (400.0, 2000.0))
    assert np.allclose((coarse - (100, 500)) * 0.8, (fine - (400, 2000)) * 0.2, atol=1e-9)
    far = make_spine(5, (120, 300), spacing=2.2)
    assert far.spacing == 2.2 and np.isfinite(far.landmarks).all()


def test_mirrored_spine_has_mirrored_landmarks(films):
    names = spine_dimensions.LANDMARKS
    film, flipped = films[2], films[2].mirrored()
    assert np.array_equal(flipped.pixels, film.pixels[:, ::-1])
    assert flipped.landmarks[names.index("T4_TL"), 0] == SMALL[0] - 1 - film.landmarks[names.index("T4_TR"), 0]
    assert flipped.landmarks[names.index("L2_BR"), 1] == film.landmarks[names.index("L2_BL"), 1]
    twice = flipped.mirrored()
    assert np.allclose(twice.landmarks, film.landmarks) and twice.curves == film.curves
    # The model agrees: the column with its curves to the other side is the mirror image.
    other = tuple(replace(each, convex="left" if each.convex == "right" else "right") for each in DOUBLE)
    first, second = (spines.film_corners(column_of(6, curves)) for curves in (DOUBLE, other))
    assert np.allclose(first[list(spines.MIRRORED)] * (-1, 1), second, atol=1e-3)


@pytest.mark.parametrize("field", ["upper", "lower", "lateral", "wide"])
def test_absent_corners_are_nan(field):
    film = make_spine(7, (160, 280), field=field)
    absent = np.isnan(film.landmarks).any(axis=1)
    seen = film.landmarks[~absent]
    assert np.isnan(film.landmarks[absent]).all()
    assert (seen >= -0.5).all() and (seen <= np.array(film.pixels.shape[::-1]) - 0.5).all()
    if field == "lateral":
        assert absent.all() and film.curves == ()
    elif field == "wide":
        assert not absent.any() and seen[:, 1].min() > 28 and seen[:, 1].max() < 252
    else:
        gone = absent.reshape(17, 4).all(axis=1)
        assert gone[-1 if field == "upper" else 0] and not gone[0 if field == "upper" else -1]
        assert 3 <= gone.sum() <= 12


def test_tubes_are_one_with_their_distance():
    """What is laid down point by point is what a walk through the depth of the same solid finds."""
    rib = tubes.tube("rib", [(0, 0, 0), (18, 12, 4), (40, 10, 0), (55, -12, -9)], 3.5, [4.0, 6.0, 6.0, 5.0], 1.5)
    x, z = np.arange(-8, 66, 0.5), np.arange(14, -22, -0.5)
    compact, trabecular = tubes.project_tubes([rib], x, z)
    part = volume.project(rib, x, z, np.random.default_rng(0), depth_step=0.4)
    walked = np.zeros((len(z), len(x)))
    walked[part.window()] = part.compact + part.trabecular
    laid = compact + trabecular
    assert laid.sum() == pytest.approx(walked.sum(), rel=0.05)
    assert np.corrcoef(laid.ravel(), walked.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ([Curve("C5", "T4", 20.0, "left")], "C5"),
        ([Curve("T5", "T6", 20.0, "left")], "span"),
        ([Curve("T5", "T11", 120.0, "left")], "Cobb"),
        ([Curve("T5", "T11", 20.0, "left"), Curve("T11", "L4", 20.0, "left")], "opposite"),
        ([Curve("T5", "T11", 20.0, "left"), Curve("T9", "L4", 20.0, "right")], "start"),
    ],
)
def test_impossible_curves_are_refused(curves, words):
    with pytest.raises(ValueError, match=words):
        make_spine(0, SMALL, curves)


def test_unknown_field_is_refused():
    with pytest.raises(ValueError, match="oblique"):
        make_spine(0, SMALL, field="oblique")


def test_command_writes_a_data_set(tmp_path):
    from LandmarkDetectionLib.evaluation.dataset import read_dataset

    arguments = ["--anatomy", "spine", "--field", "upper", "--count", "1", "--seed", "41", "--size", "120", "220"]
    main([str(tmp_path), *arguments, "--split", "val"])
    (row,) = table_of(tmp_path / "landmarks.csv")
    description = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert tuple(description["landmarks"]) == spine_dimensions.LANDMARKS and description["group"] == "study"
    phantom = make_spine(41, (120, 220), field="upper")
    assert np.isnan(phantom.landmarks).any()
    (case,) = read_dataset(tmp_path).cases
    assert np.allclose(case.truth[:, :2], phantom.landmarks, atol=0.001, equal_nan=True)
    assert float(row["cobb"]) == pytest.approx(phantom.cobb, abs=0.06) and row["study"] == "phantom-000041"
    stored = np.asarray(Picture.open(tmp_path / "images" / row["image"]))
    assert np.abs(stored / 255 - phantom.pixels / 4095).max() < 0.003


def test_command_refuses_a_field_of_the_other_anatomy(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--anatomy", "spine", "--field", "crop"])
    assert "column" in capsys.readouterr().err


def test_samples_are_what_the_generator_makes(repository, sample_films):
    """Pixels may differ by a few levels between processors, whose exponentials round differently; nothing else."""
    kept = repository / "Resources" / "Samples"
    assert (kept / samples.SCOLIOSIS_NAME).stat().st_size < 1_200_000
    assert (kept / samples.STRAIGHT_NAME).stat().st_size < 2_000_000
    rows = {row["image"]: row for row in table_of(kept / samples.SPINE_TABLE_NAME)}
    assert list(rows) == [samples.STRAIGHT_NAME, samples.SCOLIOSIS_NAME]
    straight, bent = sample_films.values()
    pixels = np.asarray(Picture.open(kept / samples.SCOLIOSIS_NAME)).astype(int)
    assert np.abs(pixels - samples.to_gray8(bent)).max() <= 1
    pydicom = pytest.importorskip("pydicom")
    film = pydicom.dcmread(kept / samples.STRAIGHT_NAME)
    assert np.abs(film.pixel_array.astype(int) - straight.pixels).max() <= 3
    for phantom, name in ((bent, samples.SCOLIOSIS_NAME), (straight, samples.STRAIGHT_NAME)):
        points = [[float(rows[name][f"{id}_{axis}"]) for axis in "xy"] for id in spine_dimensions.LANDMARKS]
        assert np.allclose(points, phantom.landmarks, atol=0.02)
        assert float(rows[name]["cobb"]) == pytest.approx(phantom.cobb, abs=0.1)


def test_library_reads_the_samples(repository, sample_films):
    kept = repository / "Resources" / "Samples"
    straight, bent = (read_image(kept / name) for name in (samples.STRAIGHT_NAME, samples.SCOLIOSIS_NAME))
    assert straight.frame.spacing_source == "calibrated" and straight.view_side is None
    assert np.allclose(straight.frame.spacing, sample_films[samples.STRAIGHT_NAME].spacing, atol=1e-4)
    assert not bent.frame.has_millimetres


def table_of(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
