"""Frames: any sequence of changes keeps every point where it is in the patient."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import LandmarkDetectionLib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from LandmarkDetectionLib.errors import ImageError
from LandmarkDetectionLib.geometry import Frame

TOLERANCE = 1e-6


@st.composite
def frames(draw, dims: int | None = None) -> Frame:
    """Obliquely placed films and volumes with realistic extents."""
    n = draw(st.sampled_from((2, 3))) if dims is None else dims
    number = st.floats(-500, 500)
    axes, _ = np.linalg.qr(np.array(draw(st.lists(number, min_size=9, max_size=9))).reshape(3, 3) + np.eye(3) * 1e-3)
    spacing = np.array(draw(st.lists(st.floats(0.05, 10), min_size=n, max_size=n)))
    size = draw(st.lists(st.integers(1, 4000), min_size=n, max_size=n))
    origin = draw(st.lists(number, min_size=3, max_size=3))
    return Frame(tuple(size), origin, axes[:, :n] * spacing, "calibrated")


@st.composite
def changes(draw, dims: int):
    """One crop, flip, permutation or resampling with its own inverse map on index coordinates (new to old)."""
    kind = draw(st.sampled_from(("crop", "flip", "permute", "resample")))
    if kind == "crop":
        start = np.array(draw(st.lists(st.floats(-300, 300), min_size=dims, max_size=dims)))
        size = draw(st.lists(st.integers(1, 500), min_size=dims, max_size=dims))
        return lambda frame: (frame.cropped(start, size), lambda index: index + start)
    if kind == "flip":
        axis = draw(st.integers(0, dims - 1))

        def flip(frame: Frame):
            last = np.eye(dims)[axis] * (frame.size[axis] - 1)
            sign = 1 - 2 * np.eye(dims)[axis]
            return frame.flipped(axis), lambda index: last + sign * index

        return flip
    if kind == "permute":
        order = draw(st.permutations(range(dims)))
        return lambda frame: (frame.permuted(order), lambda index: index[..., np.argsort(order)])
    size = np.array(draw(st.lists(st.integers(1, 500), min_size=dims, max_size=dims)))
    return lambda frame: (
        frame.resampled(size=size),
        lambda index: (index + 0.5) * np.array(frame.size) / size - 0.5,
    )


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_sequence_of_changes_keeps_points_in_place(data) -> None:
    frame = data.draw(frames())
    steps = data.draw(st.lists(changes(frame.dims), max_size=6))
    changed, inverses = frame, []
    for step in steps:
        changed, inverse = step(changed)
        inverses.append(inverse)
    index = np.random.default_rng(0).uniform(-1, 2, (20, frame.dims)) * np.array(changed.size)
    original = index
    for inverse in reversed(inverses):
        original = inverse(original)
    physical = changed.to_physical(index)
    assert np.abs(physical - frame.to_physical(original)).max() < TOLERANCE
    assert np.abs(changed.to_physical(changed.to_index(physical)) - physical).max() < TOLERANCE
    affine = changed.index_map(frame)
    mapped = index @ affine[:, :-1].T + affine[:, -1]
    assert np.abs(frame.to_physical(mapped) - physical).max() < TOLERANCE


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_all_48_orientations(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    frame = Frame((5, 7, 3), (-12.5, 4.0, 33.0), np.diag((0.5, 1.25, 3.0)), "calibrated")
    volume = np.arange(105.0).reshape(3, 7, 5)
    turned, values = frame.permuted(order), volume.transpose([2 - k for k in reversed(order)])
    for axis in range(3):
        if flips[axis]:
            turned, values = turned.flipped(axis), np.flip(values, 2 - axis)
    assert values.shape == turned.size[::-1]
    index = np.array(list(np.ndindex(*turned.size)))
    back = frame.to_index(turned.to_physical(index))
    assert np.abs(back - np.rint(back)).max() < TOLERANCE
    x, y, z = np.rint(back).astype(int).T
    assert (volume[z, y, x] == values[tuple(index.T[::-1])]).all()


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_simpleitk(seed: int) -> None:
    random = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(random.normal(size=(3, 3)))
    frame = Frame((4, 5, 6), random.uniform(-500, 500, 3), axes * random.uniform(0.05, 10, 3), "calibrated")
    image = sitk.Image(2, 2, 2, sitk.sitkUInt8)
    image.SetOrigin(frame.origin.tolist())
    image.SetSpacing(frame.spacing.tolist())
    image.SetDirection(frame.direction().ravel().tolist())
    index = [3.25, -1.5, 700.0]
    assert np.allclose(frame.to_physical(index), image.TransformContinuousIndexToPhysicalPoint(index), atol=TOLERANCE)
    point = [12.0, -40.0, 5.5]
    assert np.allclose(frame.to_index(point), image.TransformPhysicalPointToContinuousIndex(point), atol=1e-5)


@given(frames(dims=2), st.floats(-100, 100))
@settings(deadline=None, max_examples=50)
def test_a_point_off_the_film_is_projected_onto_it(frame: Frame, distance: float) -> None:
    index = np.array([10.5, 20.25])
    normal = np.cross(*frame.direction().T)
    assert np.allclose(frame.to_index(frame.to_physical(index) + distance * normal), index, atol=1e-6)


def test_film_lies_where_slicer_puts_pictures() -> None:
    frame = Frame.film((40, 30), spacing=(0.2, 0.4), spacing_source="given")
    left, posterior, superior = frame.to_physical([10, 5])
    assert (left, posterior, superior) == pytest.approx((2.0, 2.0, 0.0))  # R = -2, A = -2
    assert frame.has_millimetres and not Frame.film((40, 30)).has_millimetres


def test_resampling_keeps_the_pixel_edges() -> None:
    frame = Frame.film((100, 60), spacing=0.5, spacing_source="calibrated")
    half = frame.resampled(spacing=1.0)
    assert half.size == (50, 30)
    for corner, original in (((-0.5, -0.5), (-0.5, -0.5)), ((49.5, 29.5), (99.5, 59.5)), ((0, 0), (0.5, 0.5))):
        assert frame.to_index(half.to_physical(corner)) == pytest.approx(original)
    assert half.spacing == pytest.approx([1.0, 1.0])


@given(frames())
def test_description_is_lossless(frame: Frame) -> None:
    again = Frame.from_dict(frame.to_dict())
    assert again == frame and hash(again) == hash(frame)
    assert again.cropped((1,) * frame.dims, frame.size) != frame


@pytest.mark.parametrize(
    "make",
    [
        lambda: Frame.film((10, 10), spacing=0),
        lambda: Frame.film((10, 10), spacing=float("nan")),
        lambda: Frame.film((10, 10), spacing=-1),
        lambda: Frame.film((0, 10)),
        lambda: Frame((4, 4), (0, 0, float("inf")), np.eye(3)[:, :2]),
        lambda: Frame((4, 4), (0, 0, 0), np.array([[1, 2], [0, 0], [0, 0]])),
        lambda: Frame((4,), (0, 0, 0), np.eye(3)[:, :1]),
        lambda: Frame((4, 4), (0, 0, 0), np.eye(3)[:, :2], "guessed"),
        lambda: Frame.film((10, 10)).permuted((0, 0)),
        lambda: Frame.film((10, 10)).resampled(spacing=0),
        lambda: Frame.film((10, 10)).resampled(),
    ],
)
def test_impossible_geometry_is_refused_in_one_sentence(make) -> None:
    with pytest.raises(ImageError) as caught:
        make()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_frame_cannot_be_changed_in_place() -> None:
    frame = Frame.film((10, 10))
    with pytest.raises(ValueError, match="read-only"):
        frame.steps[0, 0] = 2


def test_importing_the_library_loads_nothing_heavy() -> None:
    code = (
        "import sys, LandmarkDetectionLib, LandmarkDetectionLib.images, LandmarkDetectionLib.landmarks;"
        "print([m for m in ('torch', 'slicer', 'SimpleITK', 'scipy', 'qt') if m in sys.modules])"
    )
    folder = str(Path(LandmarkDetectionLib.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip() == "[]"
