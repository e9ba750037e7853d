"""Windows of volumes: axes of the body, even voxels, one scale of grays."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.preprocessing.resample import sample
from LandmarkDetectionLib.preprocessing.volume_window import (
    GrayScale,
    WindowPlan,
    body_frame,
    whole_window,
    window_about,
)

INTENSITIES = {"mean": 150, "std": 250, "low": -200, "high": 1000}
PLAN = WindowPlan.from_dict({"spacing": 2.0, "intensities": INTENSITIES})
SLANT = np.array([[0.98, -0.17, 0.1], [0.17, 0.98, 0.05], [-0.1, -0.03, 0.99]])


def corners(frame: Frame) -> np.ndarray:
    """Physical places of the eight corner voxels, sorted."""
    places = frame.to_physical(list(product(*[(0, n - 1) for n in frame.size])))
    return np.array(sorted(places.round(6).tolist()))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_body_frame_turns_every_axis_order_to_the_body(order, signs):
    steps = (SLANT * [0.7, 0.9, 3.0])[:, list(order)] * signs
    stored = Frame((5, 7, 4), [10.0, -20.0, 30.0], steps, "calibrated")
    body = body_frame(stored)
    assert np.argmax(np.abs(body.steps), axis=0).tolist() == [0, 1, 2]
    assert (np.diag(body.steps) > 0).all()
    assert np.allclose(corners(body), corners(stored), atol=1e-6)


def test_whole_window_holds_the_volume_on_even_voxels():
    frame = Frame((41, 30, 11), [5.0, 6.0, 7.0], np.diag([-0.8, 0.8, 3.0]), "calibrated")
    window = whole_window(frame, 2.5, 32)
    assert np.allclose(window.spacing, 2.5)
    assert all(n % 32 == 0 for n in window.size)
    inside = window.to_index(corners(frame))
    assert (inside > -0.5).all() and (inside < np.array(window.size) - 0.5).all()
    middle = (np.array(window.size) - 1) / 2
    assert np.allclose(window.to_physical(middle), frame.to_physical([20, 14.5, 5]))


def test_mirrored_window_shows_the_volume_from_the_other_side():
    array = np.random.default_rng(0).normal(size=(12, 14, 16)).astype(np.float32)
    frame = Frame((16, 14, 12), np.zeros(3), np.eye(3), "calibrated")
    image = Image(array, frame, "random")
    centre = frame.to_physical([8, 7, 6])
    plain, mirrored = (sample(image, window_about(frame, centre, 1.0, (8, 8, 8), side)) for side in (False, True))
    assert np.allclose(mirrored, plain[..., ::-1], atol=1e-5)


def test_ct_has_a_fixed_scale_and_mr_its_own():
    values = np.random.default_rng(1).uniform(-1000, 1500, size=(8, 9, 10)).astype(np.float32)
    gray = GrayScale.of(values, PLAN)
    assert gray.is_ct
    assert np.allclose(gray.scaled(np.array([-3000.0, 150.0, 3000.0])), [-1.4, 0.0, 3.4])
    signal = np.abs(values)
    mr, brighter = GrayScale.of(signal, PLAN), GrayScale.of(7 * signal, PLAN)
    assert not mr.is_ct
    assert np.allclose(mr.scaled(signal), brighter.scaled(7 * signal), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"spacing": 0}, "spacing"), ({"size": [4, 4]}, "size"), ({"intensities": {}}, "mean"), ({"other": 1}, "other")],
)
def test_plan_names_the_field_that_is_wrong(change, field):
    with pytest.raises(LandmarkDetectionError, match=field):
        WindowPlan.from_dict({"spacing": 2.0, "intensities": INTENSITIES} | change)
