"""Halves of films: where they lie, and that a film and its half are sampled alike."""

from __future__ import annotations

import numpy as np
import pytest
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.preprocessing.pyramid import coarse, halved, sample_halves
from LandmarkDetectionLib.preprocessing.resample import sample
from PIL import Image as Picture


def film(size: tuple[int, int], spacing: float | tuple[float, float] = 0.1) -> Image:
    array = np.random.default_rng(size[0]).uniform(0, 4000, size[::-1]).astype(np.uint16)
    return Image(array, Frame.film(size, spacing, "given"), "film.png")


def test_a_half_is_what_pillow_makes_of_a_film():
    image = film((64, 48))
    reduced = Picture.fromarray(image.array.astype(np.float32)).reduce(2)
    np.testing.assert_allclose(halved(image).array, np.asarray(reduced), rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_a_half_lies_where_the_film_lies(size):
    image = film(size, (0.1, 0.3))
    half = halved(image)
    assert half.frame.size == (32, 24) and half.array.dtype == np.float32
    np.testing.assert_allclose(half.frame.spacing, [0.2, 0.6])
    # Pixel 0 of the half is the middle of the first two by two.
    places = image.frame.to_index(half.frame.to_physical([[0, 0], [31, 23]]))
    np.testing.assert_allclose(places, [[0.5, 0.5], [62.5, 46.5]])


@pytest.mark.parametrize("wanted", [0.32, 0.54, 1.1])
def test_a_film_and_its_half_come_to_the_same_values(wanted):
    image = film((320, 240))
    frame = image.frame.cropped((20.3, 11.8), (280, 200)).resampled(spacing=wanted)
    values = sample_halves(image, frame, 2 / 3)
    np.testing.assert_allclose(sample_halves(halved(image), frame, 2 / 3), values, rtol=1e-5)
    assert np.abs(sample(halved(image), frame) - sample(image, frame)).max() > 1, "which sampling alone does not do"


def test_a_film_that_is_coarse_enough_is_sampled_as_it_is():
    image = film((64, 48))
    frame = image.frame.resampled(spacing=0.2)
    np.testing.assert_array_equal(sample_halves(image, frame, 2 / 3), sample(image, frame))


@pytest.mark.parametrize("size", [(2048, 1200), (1026, 771), (4100, 300)])
def test_a_film_and_its_half_are_coarse_alike(size):
    image = film(size)
    first = coarse(image)
    assert 512 <= max(first.frame.size) <= 1024
    second = coarse(halved(image))
    assert second.frame == first.frame
    np.testing.assert_array_equal(second.array, first.array)


def test_a_small_film_is_coarse_enough():
    image = film((1024, 200))
    assert coarse(image) is image


def test_a_narrow_film_is_halved_along_its_length_alone():
    heights = np.repeat(np.arange(9000, dtype=np.float32)[:, None], 40, axis=1)
    image = Image(heights, Frame.film((40, 9000), 0.1, "given"), "film.png")
    assert coarse(image) is image
    frame = image.frame.resampled(size=(4, 90))
    middle = frame.index_map(image.frame)[1, 1] * np.arange(90) + frame.index_map(image.frame)[1, 2]
    found = sample_halves(image, frame, 1.0)
    np.testing.assert_allclose(found[1:-1], np.repeat(middle[1:-1, None], 4, axis=1), atol=4)  # of 100 a step
