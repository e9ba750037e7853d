"""Plan, foreground, grey values and resampling, against Pillow, scipy and SimpleITK."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from LandmarkDetectionLib.errors import ImageError, LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.preprocessing.foreground import foreground_box
from LandmarkDetectionLib.preprocessing.intensity import normalise
from LandmarkDetectionLib.preprocessing.plan import Plan
from LandmarkDetectionLib.preprocessing.resample import sample


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1000, shape).astype(np.float32)


def blob(size: tuple[int, ...], centre: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian dot painted around `centre` (x first)."""
    grids = np.meshgrid(*[np.arange(n) for n in size[::-1]], indexing="ij")[::-1]
    return np.exp(-sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) / (2 * sigma**2)).astype(np.float32)


def centroid(array: np.ndarray) -> np.ndarray:
    """Centre of mass in index coordinates, x first."""
    grids = np.meshgrid(*[np.arange(n) for n in array.shape], indexing="ij")[::-1]
    return np.array([(g * array).sum() / array.sum() for g in grids])


def rotated(size: tuple[int, int], centre: tuple[float, float], angle: float, step: float) -> Frame:
    """A film frame around `centre` turned by `angle` (radians)."""
    steps = step * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)], [0, 0]])
    origin = np.array([*centre, 0]) - steps @ ((np.array(size) - 1) / 2)
    return Frame(size, origin, steps)


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.4, 4.5),
    st.booleans(),
    st.sampled_from((0.0, 0.3, -1.1)),
)
@settings(deadline=None, max_examples=60)
def test_a_painted_dot_is_found(x: float, y: float, step: float, mirrored: bool, angle: float) -> None:
    sigma = max(2.0, 1.5 * step)
    frame = rotated((96, 80), (251.3, 252.1), angle, step)
    if mirrored:
        frame = frame.flipped(0)
    # Keep the whole dot inside the grid: a dot cut by the edge has another centroid.
    margin = 5 * sigma / step + 2
    target = margin + np.array([x, y]) * (np.array(frame.size) - 1 - 2 * margin)
    film = Image.from_array(blob((500, 500), frame.to_physical(target)[:2], sigma))
    assert np.abs(centroid(sample(film, frame)) - target).max() < 0.05


def test_one_bright_pixel_is_found_after_reduction() -> None:
    pixels = np.zeros((400, 400), dtype=np.float32)
    pixels[213, 177] = 1000
    film = Image.from_array(pixels)
    for start, size, target in (((0.3, 1.7), (390, 380), (61, 47)), ((-20, 30.25), (400, 300), (100, 75))):
        frame = film.frame.cropped(start, size).resampled(size=target)
        expected = frame.to_index(film.frame.to_physical([177, 213]))
        assert np.abs(centroid(sample(film, frame)) - expected).max() < 0.05


def test_agrees_with_pillow_inside() -> None:
    pixels = noise((333, 411))
    film = Image.from_array(pixels)
    box = (20.3, 31.7, 380.9, 300.1)
    expected = np.asarray(PIL.Image.fromarray(pixels).resize((64, 48), PIL.Image.Resampling.BILINEAR, box=box))
    factor = np.array([(box[2] - box[0]) / 64, (box[3] - box[1]) / 48])
    origin = np.array([*(np.array(box[:2]) - 0.5 + 0.5 * factor), 0])
    frame = Frame((64, 48), origin, np.eye(3)[:, :2] * factor)
    assert np.abs(sample(film, frame) - expected).max() < 0.05


def test_enlarging_agrees_with_simpleitk() -> None:
    pixels = noise((60, 70))
    film = Image.from_array(pixels)
    for frame in (
        film.frame.cropped((10.2, 8.7), (40, 30)).resampled(size=(90, 77)),
        rotated((50, 40), (33, 30), 0.4, 0.6),
    ):
        reference = sitk.Image(*frame.size, sitk.sitkFloat32)
        reference.SetOrigin(frame.origin[:2].tolist())
        reference.SetSpacing(frame.spacing.tolist())
        reference.SetDirection(frame.direction()[:2].ravel().tolist())
        expected = sitk.GetArrayFromImage(
            sitk.Resample(sitk.GetImageFromArray(pixels), reference, sitk.Transform(), sitk.sitkLinear, 0.0)
        )
        assert np.abs(sample(film, frame) - expected).max() < 0.02


def test_volumes_agree_with_simpleitk_in_any_orientation() -> None:
    voxels = noise((20, 24, 28))
    volume = Image(voxels, Frame((28, 24, 20), (5.0, -3.0, 8.0), np.diag((1.0, 1.5, 2.0)), "calibrated"), "volume")
    frame = volume.frame.cropped((4, 4, 4), (16, 14, 10)).resampled(size=(20, 21, 17)).permuted((2, 0, 1)).flipped(1)
    source = sitk.GetImageFromArray(voxels)
    source.SetOrigin(volume.frame.origin.tolist())
    source.SetSpacing(volume.frame.spacing.tolist())
    reference = sitk.Image(*frame.size, sitk.sitkFloat32)
    reference.SetOrigin(frame.origin.tolist())
    reference.SetSpacing(frame.spacing.tolist())
    reference.SetDirection(frame.direction().ravel().tolist())
    expected = sitk.GetArrayFromImage(sitk.Resample(source, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
    assert np.abs(sample(volume, frame) - expected).max() < 0.02


def test_mirrored_frame_is_the_plain_one_reversed() -> None:
    film = Image.from_array(noise((200, 180)))
    frame = film.frame.cropped((-7.3, 12.9), (150, 140)).resampled(size=(48, 40))
    assert np.allclose(sample(film, frame.flipped(0)), sample(film, frame)[:, ::-1], atol=1e-3)
    assert np.allclose(sample(film, frame.permuted((1, 0))), sample(film, frame).T, atol=1e-3)


def test_the_grid_itself_comes_back_unchanged() -> None:
    for dtype in (np.uint8, np.uint16, np.int16, np.float32):
        pixels = noise((40, 50)).astype(dtype)
        film = Image.from_array(pixels)
        assert (sample(film, film.frame) == pixels.astype(np.float32)).all()


def test_outside_the_image_its_edge_goes_on() -> None:
    pixels = noise((40, 50))
    film = Image.from_array(pixels)
    assert (sample(film, film.frame.cropped((-6, -4), (60, 50))) == np.pad(pixels, ((4, 6), (6, 4)), "edge")).all()
    beyond = sample(film, film.frame.cropped((1000, 2000), (16, 16)))
    assert np.allclose(beyond, pixels[-1, -1])


def test_reducing_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 1000], dtype=np.uint16), (300, 150))
    film = Image.from_array(stripes)
    straight = sample(film, film.frame.resampled(size=(43, 43)))
    turned = sample(film, rotated((30, 30), (150, 150), 0.2, 6.0))
    for reduced in (straight[1:-1, 1:-1], turned):
        assert np.abs(reduced - 500).max() < 30


def test_a_film_and_its_half_size_version_look_the_same() -> None:
    pixels = blob((400, 400), np.array([180.0, 220.0]), 30)
    film = Image.from_array(pixels)
    half = Image.from_array(sample(film, film.frame.resampled(size=(200, 200))))
    full_crop = sample(film, film.frame.cropped((60, 80), (240, 240)).resampled(size=(64, 64)))
    half_crop = sample(half, half.frame.cropped((30, 40), (120, 120)).resampled(size=(64, 64)))
    assert np.abs(full_crop - half_crop).max() < 0.01


def test_sampling_refuses_what_makes_no_sense() -> None:
    film = Image.from_array(noise((40, 50)))
    with pytest.raises(ImageError, match="2 axes"):
        sample(film, Frame((4, 4, 4), (0, 0, 0), np.eye(3)))
    with pytest.raises(ImageError, match="right angles"):
        sample(film, Frame((4, 4), (0, 0, 0), np.array([[0, 1], [0, 0], [1, 0]])))


def test_foreground_cuts_padding_and_collimation() -> None:
    film = np.full((300, 260), 40, dtype=np.uint16)
    film[50:250, 30:200] = noise((200, 170)).astype(np.uint16)
    film[10, 10] = 1000  # one hot pixel
    assert foreground_box(film) == ((30, 50), (170, 200))
    framed = np.pad(film, 8, constant_values=1000)
    assert foreground_box(framed) == ((38, 58), (170, 200))


def test_foreground_keeps_what_it_must() -> None:
    whole = noise((64, 80))
    assert foreground_box(whole) == ((0, 0), (80, 64))
    assert foreground_box(np.full((64, 80), 7.0)) == ((0, 0), (80, 64))
    speck = np.zeros((200, 200))
    speck[90:100, 90:100] = noise((10, 10))
    assert foreground_box(speck) == ((0, 0), (200, 200))


def test_foreground_of_a_volume() -> None:
    volume = np.zeros((30, 40, 50), dtype=np.float32)
    volume[5:25, 8:30, 10:45] = noise((20, 22, 35))
    assert foreground_box(volume) == ((10, 8, 5), (35, 22, 20))


def test_normalise_is_blind_to_contrast_and_outliers() -> None:
    pixels = noise((128, 128))
    result = normalise(pixels)
    assert result.dtype == np.float32
    assert float(result.mean()) == pytest.approx(0, abs=1e-5) and float(result.std()) == pytest.approx(1, abs=1e-5)
    assert np.allclose(normalise(pixels * 37 + 500), result, atol=1e-3)
    marked = pixels.copy()
    marked[:4, :4] = 1e6
    assert np.abs(normalise(marked)[8:] - result[8:]).max() < 0.05
    assert (normalise(np.full((40, 40), 9)) == 0).all()


def test_normalise_samples_large_films_fairly() -> None:
    ramp = np.tile(np.arange(1024, dtype=np.uint16), (1024, 1))
    low, high = np.percentile(ramp, (1, 99))
    clipped = np.clip(ramp.astype(np.float64), low, high)
    assert np.allclose(normalise(ramp), (clipped - clipped.mean()) / clipped.std(), atol=0.02)


def test_real_films_keep_their_bones(landmark_data) -> None:
    lines = (landmark_data / "knee_xray" / "landmarks.csv").read_text().splitlines()
    header = lines[0].split(",")
    for line in lines[1:21]:
        row = dict(zip(header, line.split(","), strict=True))
        pixels = np.asarray(PIL.Image.open(landmark_data / "knee_xray" / "images" / row["image"]))
        (x0, y0), (width, height) = foreground_box(pixels)
        for name in header:
            if name.endswith(("_x", "_y")):
                low, length = (x0, width) if name.endswith("_x") else (y0, height)
                assert low - 1 <= float(row[name]) <= low + length, (row["image"], name)


def test_plan_description_is_lossless() -> None:
    plan = Plan(size=(160, 224), percentiles=(0.5, 99.5), crop="none", extent=1.3)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert Plan.from_dict({"size": [32, 32]}) == Plan((32, 32))


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"size": [32]},
        {"size": [32, 0]},
        {"size": [32, 32], "percentiles": [99, 1]},
        {"size": [32, 32], "percentiles": [1]},
        {"size": [32, 32], "crop": "air"},
        {"size": [32, 32], "extent": 0},
        {"size": [32, 32], "spacing": 1},
        {"size": ["a", 32]},
    ],
)
def test_damaged_plan_is_refused(description: dict) -> None:
    with pytest.raises(LandmarkDetectionError, match="plan"):
        Plan.from_dict(description)
