"""The knee phantoms: the same seed gives the same film, and the landmarks lie on the edges that the film shows."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from LandmarkDetectionLib.phantoms import bones, dimensions, make_knee, samples, volume
from LandmarkDetectionLib.phantoms import knee as knees
from LandmarkDetectionLib.phantoms.__main__ import main
from LandmarkDetectionLib.phantoms.outline import landmarks as outline_landmarks
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, map_coordinates

CHAINS = {"tibia": slice(0, 9), "femur": slice(9, 16)}


@pytest.fixture(scope="module")
def crops() -> list:
    """Twelve crops, right and left in turn."""
    return [make_knee(seed, "left" if seed % 2 else "right") for seed in range(12)]


def chain_normals(points: np.ndarray) -> np.ndarray:
    """Unit normals (16, 2) of the chord between the neighbours of each point of its bone."""
    normals = np.empty_like(points)
    for chain in CHAINS.values():
        tangent = np.gradient(points[chain], axis=0)
        normals[chain] = np.column_stack([-tangent[:, 1], tangent[:, 0]])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def test_same_seed_same_bytes_and_other_seed_another_film(crops):
    again = make_knee(0, "right")
    assert again.pixels.tobytes() == crops[0].pixels.tobytes()
    assert np.array_equal(again.landmarks["right"], crops[0].landmarks["right"])
    assert not np.array_equal(make_knee(2, "right").landmarks["right"], again.landmarks["right"])


def test_film_is_twelve_bit_and_shows_something(crops):
    for crop in crops:
        assert crop.pixels.dtype == np.uint16 and crop.pixels.shape == (224, 224)
        assert crop.pixels.max() <= 4095 and crop.pixels.std() > 100


def test_points_lie_on_the_silhouette_of_the_model():
    """Each landmark is on the zero set of its bone's smallest distance over the depth, evaluated afresh, finely."""
    rng = np.random.default_rng(5)
    for _ in range(4):
        sizes = dimensions.draw_dimensions(rng)
        model = bones.build(sizes, dimensions.draw_stance(rng, sizes))
        x, z = np.arange(-52, 52.1, 0.5), np.arange(52, -52.1, -0.5)
        silhouettes = {}
        for solid in (model.tibia, model.femur):
            part = volume.project(solid, x, z, rng)
            silhouettes[solid.name] = np.full((len(z), len(x)), 10.0)
            silhouettes[solid.name][part.window()] = part.silhouette
        points = outline_landmarks(model, silhouettes, x, z)
        depth = np.arange(-60, 45, 0.25)[:, None]
        for name, chain in CHAINS.items():
            distance = getattr(model, name).distance(points[chain, 0][None], depth, points[chain, 1][None]).min(axis=0)
            assert np.abs(distance).max() < 0.06, f"{name}: {distance}"


def test_points_lie_on_an_edge_of_the_image(crops):
    """Averaged over films, gray values change fastest within 1.5 px of each point along the normal of its chain."""
    offsets = np.arange(-4, 4.01, 0.25)
    steepness = np.zeros((16, len(offsets)))
    for crop in crops:
        points = crop.landmarks[crop.side]
        film = gaussian_filter(crop.pixels.astype(float), 0.7)
        along = points[:, :, None] + chain_normals(points)[:, :, None] * offsets
        profile = map_coordinates(film, [along[:, 1], along[:, 0]], order=1)
        slope = np.abs(np.gradient(profile, axis=1))
        steepness += slope / slope.max(axis=1, keepdims=True)
    best = offsets[steepness.argmax(axis=1)]
    assert np.abs(best).max() <= 1.5, dict(zip(knees.LANDMARKS, best, strict=True))
    near = steepness[:, np.abs(offsets) <= 1.5].max(axis=1)
    far = steepness[:, np.abs(offsets) >= 3].mean(axis=1)
    assert (near > 1.5 * far).all(), dict(zip(knees.LANDMARKS, near / far, strict=True))


def test_order_is_lateral_to_medial_and_framing_is_that_of_a_crop(crops):
    for crop in crops:
        points = crop.landmarks[crop.side]
        towards_medial = 1 if crop.side == "right" else -1
        for chain in CHAINS.values():
            assert (np.diff(points[chain, 0]) * towards_medial > 0).all()
        assert (points >= 0).all() and (points <= 223).all()
        assert 140 < abs(points[8, 0] - points[0, 0]) < 195
        assert points[9:, 1].mean() < points[:9, 1].mean()  # the femur is above the tibia
        assert points[12, 1] < min(points[3, 1], points[5, 1])  # the notch is above the spines


def test_left_knee_is_the_mirrored_right_knee():
    """The same model on the same film, once as it is and once flipped, has flipped landmarks in the same order."""
    sizes = dimensions.draw_dimensions(np.random.default_rng(1))
    model = bones.build(sizes, dimensions.draw_stance(np.random.default_rng(2), sizes))
    _, points = knees.shadow_of(model, (160, 160), 0.7, (70, 80), np.random.default_rng(3))
    assert points[0, 0] < points[8, 0]
    left, right = make_knee(4, "left"), make_knee(4, "right")
    assert left.landmarks["left"][0, 0] > left.landmarks["left"][8, 0]
    assert right.landmarks["right"][0, 0] < right.landmarks["right"][8, 0]


def test_fibula_is_on_the_lateral_side():
    """Below the joint, beside the tibia, the lateral half of the film is brighter than the medial half."""
    for side in ("right", "left"):
        crop = make_knee(20, side)
        points = crop.landmarks[side]
        lateral, medial, width = points[0], points[8], abs(points[8, 0] - points[0, 0])
        row = int(max(lateral[1], medial[1]) + 0.42 * width)
        inward = np.sign(medial[0] - lateral[0])

        def brightness(column: float, row=row, film=crop.pixels) -> float:
            return float(film[row - 4 : row + 4, int(column) - 3 : int(column) + 4].mean())

        assert brightness(lateral[0] + 0.01 * inward * width) > 1.05 * brightness(medial[0] - 0.01 * inward * width)


def test_both_knees_on_one_film():
    film = make_knee(3, size=(480, 360), field="bilateral")
    right, left = film.landmarks["right"], film.landmarks["left"]
    assert list(film.landmarks) == ["right", "left"]
    assert right[:, 0].max() < 240 < left[:, 0].min()
    assert right[0, 0] < right[8, 0] < left[8, 0] < left[0, 0]  # lateral outside on both
    for points in (right, left):
        assert (points >= 0).all() and (points < (480, 360)).all()


def test_points_follow_the_spacing_of_the_film():
    """One model on films of two resolutions has the same points to within 0.1 mm."""
    sizes = dimensions.draw_dimensions(np.random.default_rng(8))
    model = bones.build(sizes, dimensions.draw_stance(np.random.default_rng(9), sizes))
    coarse = knees.shadow_of(model, (140, 140), 0.75, (70, 70), np.random.default_rng(0))[1]
    fine = knees.shadow_of(model, (350, 350), 0.3, (175, 175), np.random.default_rng(0))[1]
    assert np.abs((coarse - 70) * 0.75 - (fine - 175) * 0.3).max() < 0.1


def test_volume_and_film_show_the_same_bones():
    """Labels summed over depth cover what the projection's silhouettes cover; attenuation is highest in bone."""
    rng = np.random.default_rng(11)
    sizes = dimensions.draw_dimensions(rng)
    model = bones.build(sizes, dimensions.draw_stance(rng, sizes))
    x, y, z = np.arange(-60, 60, 1.5), np.arange(-70, 70, 1.5), np.arange(-60, 60, 1.5)
    labels, attenuation = volume.rasterise(model, x, y, z, rng)
    assert labels.shape == attenuation.shape == (len(z), len(y), len(x))
    assert set(np.unique(labels)) == set(volume.LABELS.values())
    for solid in (model.tibia, model.femur):
        part = volume.project(solid, x, z[::-1], rng)
        shown = np.zeros((len(z), len(x)), bool)
        shown[part.window()] = part.silhouette < 0
        covered = (labels == volume.LABELS[solid.name]).any(axis=1)[::-1]
        later = (labels > volume.LABELS[solid.name]).any(axis=1)[::-1]  # a later bone may overwrite the label
        assert (shown ^ covered)[~later].mean() < 0.03
    bone = labels >= volume.LABELS["femur"]
    assert attenuation[bone].mean() > 1.2 * attenuation[labels == volume.LABELS["leg"]].mean()
    assert attenuation[labels == 0].max() < volume.SOFT_TISSUE


def test_wrong_side_and_field_are_refused():
    with pytest.raises(ValueError, match="front"):
        make_knee(0, side="front")
    with pytest.raises(ValueError, match="lateral"):
        make_knee(0, field="lateral")


def test_command_writes_a_data_set(tmp_path):
    main([str(tmp_path), "--count", "2", "--seed", "40", "--size", "128", "128", "--split", "val"])
    with open(tmp_path / "landmarks.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    description = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert [row["image"][-5] for row in rows] == ["R", "L"] and {row["split"] for row in rows} == {"val"}
    for row, seed, side in zip(rows, (40, 41), ("right", "left"), strict=True):
        phantom = make_knee(seed, side, (128, 128))
        points = [[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in description["landmarks"]]
        assert np.allclose(points, phantom.landmarks[side], atol=0.001)
        stored = np.asarray(Picture.open(tmp_path / "images" / row["image"]))
        assert np.abs(stored / 255 - phantom.pixels / 4095).max() < 0.003


def test_samples_are_what_the_generator_makes(tmp_path, repository):
    """Pixels may differ by a level or two between processors, whose exponentials round differently; nothing else."""
    kept = repository / "Resources" / "Samples"
    samples.write_samples(tmp_path)
    for name in (samples.RIGHT_NAME, samples.LEFT_NAME, samples.TABLE_NAME):
        assert (kept / name).stat().st_size < 600_000
    for name, limit in ((samples.LEFT_NAME, 1), (samples.RIGHT_NAME, 3)):
        mine, theirs = pixels_of(tmp_path / name), pixels_of(kept / name)
        assert mine.shape == theirs.shape and np.abs(mine - theirs).max() <= limit
    mine, theirs = table_of(tmp_path / samples.TABLE_NAME), table_of(kept / samples.TABLE_NAME)
    assert [row.keys() for row in mine] == [row.keys() for row in theirs]
    for new, old in zip(mine, theirs, strict=True):
        assert all(abs(float(new[key]) - float(old[key])) < 0.02 for key in new if key.endswith(("_x", "_y")))
        assert all(new[key] == old[key] for key in ("image", "split", "side"))


def test_writing_the_samples_twice_gives_the_same_bytes(tmp_path):
    for folder in ("first", "second"):
        samples.write_samples(tmp_path / folder)
    for name in (samples.RIGHT_NAME, samples.LEFT_NAME, samples.TABLE_NAME):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_dicom_sample_tells_spacing_and_side(repository):
    pydicom = pytest.importorskip("pydicom")
    film = pydicom.dcmread(repository / "Resources" / "Samples" / samples.RIGHT_NAME)
    assert [float(value) for value in film.PixelSpacing] == [0.3, 0.3]
    assert [float(value) for value in film.ImagerPixelSpacing] == [0.315, 0.315]
    assert (film.ImageLaterality, film.PhotometricInterpretation, film.Modality) == ("R", "MONOCHROME2", "DX")
    assert film.PatientName == "Phantom^Knee" and film.SOPInstanceUID.is_valid
    assert (
        np.array_equal(film.pixel_array, samples.right_knee().pixels)
        or np.abs(film.pixel_array.astype(int) - samples.right_knee().pixels).max() <= 3
    )


def test_library_reads_the_samples(repository):
    """The project's own reader finds the spacing and side of the DICOM film and none in the PNG."""
    from LandmarkDetectionLib.images import read_image

    right = read_image(repository / "Resources" / "Samples" / samples.RIGHT_NAME)
    left = read_image(repository / "Resources" / "Samples" / samples.LEFT_NAME)
    assert right.frame.spacing_source == "calibrated" and np.allclose(right.frame.spacing, 0.3)
    assert right.view_side == "right"
    assert not left.frame.has_millimetres


def pixels_of(path) -> np.ndarray:
    """Gray values of a DICOM or PNG file as signed integers."""
    if path.suffix == ".dcm":
        return pytest.importorskip("pydicom").dcmread(path).pixel_array.astype(int)
    return np.asarray(Picture.open(path)).astype(int)


def table_of(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
