"""Contour-Hugging Heatmaps in use: exact places, centers of pixels, no overflow, landmarks to be reviewed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import ImageError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.heatmaps import mode
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.networks import build_network
from LandmarkDetectionLib.inference.published.contour import ContourDetector, TrainedContour, cell_covariance
from LandmarkDetectionLib.inference.published.contour_view import ContourPlan, gray_view, network_frame
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import Landmark, LandmarkSchema
from LandmarkDetectionLib.priors import ShapePrior

LANDMARKS = 4
NETWORK = {"kind": "resnet_unet", "out_channels": LANDMARKS, "widths": [8, 16], "blocks": [1, 1], "decoder": [16, 8, 8]}

FRAMES = {
    "published": Frame.film((1935, 2400), 0.1, "given"),
    "halved": Frame.film((967, 1200), 0.2, "given"),
    "wide": Frame.film((801, 333), 0.7, "given"),
    "tall": Frame.film((100, 999)),
    "oblong pixels": Frame.film((300, 500), (0.2, 0.35), "given"),
    "placed": Frame.film((967, 1200), 0.2, "given").flipped(0).cropped((31.5, -12.25), (640, 700)),
}


@pytest.fixture(params=FRAMES)
def frame(request) -> Frame:
    return FRAMES[request.param]


def film(frame: Frame, seed: int = 1) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 4000, frame.size[::-1], dtype=np.uint16), frame, "film")


def trained(size=(64, 80), threshold: float | None = None, logits: float = 1.0) -> TrainedContour:
    """A network of random weights whose logits reach about ``logits``."""
    torch.manual_seed(5)
    network = build_network(NETWORK)
    with torch.no_grad():
        network.head.bias.zero_()
        reached = network.eval()(torch.randn(1, 1, 80, 64)).abs().max()
        network.head.weight *= logits / reached
    names = [f"P{k}" for k in range(LANDMARKS)]
    schema = LandmarkSchema("points", "Points", 2, tuple(Landmark(n, n, n, "") for n in names), (), {}, "")
    squares = [[0, 0], [9, 0], [9, 9], [0, 9]] + np.random.default_rng(2).normal(0, 1, (12, LANDMARKS, 2))
    prior = ShapePrior.fit(squares)
    temperatures = np.array([0.5, 1.0, 2.0, 3.0])
    plan = ContourPlan(size, mean=0.5, deviation=0.3)
    return TrainedContour("random", "1.0.0", "none", "0" * 64, schema, network, plan, temperatures, threshold, prior)


def test_places_come_back_exactly(frame):
    """From the film to the network's grid and back, any shape, spacing and orientation."""
    view = network_frame(frame, ContourPlan())
    points = np.random.default_rng(3).uniform(-0.5, np.array(frame.size) - 0.5, (500, 2))
    there = view.to_index(frame.to_physical(points))
    assert np.abs(frame.to_index(view.to_physical(there)) - points).max() < 1e-6
    # All of the film is in view, from the first corner on, and it fills the view along one axis.
    corners = view.to_index(frame.to_physical([[-0.5, -0.5], np.array(frame.size) - 0.5]))
    np.testing.assert_allclose(corners[0], -0.5, atol=1e-9)
    np.testing.assert_array_less(corners[1], np.array(view.size) - 0.5 + 1e-9)
    assert np.isclose(corners[1], np.array(view.size) - 0.5).any()
    assert view.spacing[0] == pytest.approx(view.spacing[1])


def test_the_published_film_has_the_published_pixels():
    view = network_frame(FRAMES["published"], ContourPlan())
    assert view.size == (640, 800) and view.spacing == pytest.approx(0.302344, abs=5e-7)
    # A film of half the resolution is seen on the same grid but for the width that rounding took from it.
    halved = network_frame(FRAMES["halved"], ContourPlan())
    assert halved.spacing == pytest.approx(view.spacing, rel=1e-3)


def test_a_dot_is_found_where_it_is(frame):
    """Painted on the film at a resolution above the network's: its pixels' center of gravity is the point."""
    plan = ContourPlan((128, 160))
    view = network_frame(frame, plan)
    width = 2.5 * view.spacing[0] / frame.spacing
    point = np.array(frame.size) * [0.4, 0.6]
    rows, columns = np.mgrid[: frame.size[1], : frame.size[0]]
    squares = ((columns - point[0]) / width[0]) ** 2 + ((rows - point[1]) / width[1]) ** 2
    gray, seen = gray_view(Image((60000 * np.exp(-squares / 2)).astype(np.uint16), frame, "dot"), plan)
    assert gray.dtype == np.float32 and gray.shape == (160, 128)
    index = np.indices(gray.shape)[::-1].reshape(2, -1)
    center = (index * gray.ravel()).sum(axis=1) / gray.sum()
    np.testing.assert_allclose(center, seen.to_index(frame.to_physical(point)), atol=0.05)


def test_beside_the_film_there_is_nothing():
    frame = FRAMES["wide"]
    array = np.where(np.arange(801) % 4 < 2, 1000, 900) * np.ones((333, 1))
    array[0, 0] = 0
    gray, _ = gray_view(Image(array, frame, "film"), ContourPlan())
    below = 333 / 801 * 640
    assert (gray[int(below) + 1 :] == 0).all() and gray[1 : int(below)].min() > 0.8


@pytest.mark.parametrize("logits", [1.0, 1e4])
def test_the_best_cell_is_the_landmark(logits):
    """Its center, whatever the temperature; nothing overflows at logits of ten thousand."""
    model, frame = trained(logits=logits), FRAMES["halved"]
    detector, image = ContourDetector(model, "cpu"), film(frame)
    detection = detector.detect(image)
    gray, view = gray_view(image, model.plan)
    raw = detector.logits(gray)
    assert raw.abs().max() > 0.1 * logits
    wanted = frame.to_index(view.to_physical(mode(raw).numpy()))
    landmarks = detection.landmarks
    np.testing.assert_allclose(landmarks.positions, wanted, atol=1e-9)
    for values in (landmarks.covariances, landmarks.expected_errors, detection.heatmaps.logits):
        assert np.isfinite(values).all()
    assert (landmarks.expected_errors >= 0).all() and (np.linalg.eigvalsh(landmarks.covariances) > 0).all()
    assert detection.heatmaps.frame.size == model.plan.size and set(landmarks.statuses) == {"predicted"}
    np.testing.assert_allclose(detection.heatmaps.logits, raw.numpy() / model.temperatures[:, None, None], rtol=1e-5)


def test_the_expected_error_is_that_of_the_heatmap():
    """By the definition, from the calibrated heatmap: cells above a twentieth of the best, renormalized."""
    model, frame = trained(logits=30.0), FRAMES["halved"]
    detection = ContourDetector(model, "cpu").detect(film(frame))
    view = detection.heatmaps.frame
    places = view.to_physical(np.indices(view.size).reshape(2, -1).T) @ np.eye(3)[:, :2]
    for row, logits in enumerate(detection.heatmaps.logits.astype(float)):
        density = np.exp(logits - logits.max()).T.ravel()
        density *= density > 0.05
        distance = np.linalg.norm(places - frame.to_physical(detection.landmarks.positions[row])[:2], axis=1)
        expected = (density * distance).sum() / density.sum()
        assert detection.landmarks.expected_errors_mm()[row] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_landmarks_above_the_threshold_are_to_be_reviewed():
    """The threshold is one of cells: the same landmarks are flagged on a film of another resolution."""
    frame = FRAMES["halved"]
    plain = ContourDetector(trained(logits=30.0), "cpu").detect(film(frame))
    cell = plain.heatmaps.frame.spacing[0] / frame.spacing[0]
    middle = float(np.median(plain.landmarks.expected_errors)) / cell
    detection = ContourDetector(trained(logits=30.0, threshold=middle), "cpu").detect(film(frame))
    flagged = detection.landmarks.expected_errors > detection.review_threshold
    assert [status == "review" for status in detection.landmarks.statuses] == flagged.tolist()
    assert 0 < flagged.sum() < LANDMARKS and plain.review_threshold is None
    assert detection.review_threshold == pytest.approx(middle * cell)
    array = np.kron(film(frame).array, np.ones((2, 2), np.uint16))
    doubled = Image(array, Frame.film((1934, 2400), 0.1, "given"), "fine")
    fine = ContourDetector(trained(logits=30.0, threshold=middle), "cpu").detect(doubled)
    assert fine.landmarks.statuses == detection.landmarks.statuses
    np.testing.assert_allclose((fine.landmarks.positions + 0.5) / 2 - 0.5, detection.landmarks.positions, atol=1e-6)


def test_the_covariance_is_the_spread_and_the_width_of_a_cell():
    logits = torch.full((1, 9, 9), -1e4)
    logits[0, 4, 2] = logits[0, 4, 6] = 0.0
    covariance = cell_covariance(logits, torch.tensor([[4.0, 4.0]]))[0]
    torch.testing.assert_close(covariance, torch.tensor([[4 + 1 / 12, 0.0], [0.0, 1 / 12]]), atol=1e-5, rtol=0)


def test_corrections_work_on_what_was_detected():
    """The others follow by the shapes of the training films."""
    session = Session(ContourDetector(trained(logits=30.0), "cpu").detect(film(FRAMES["halved"])))
    moved = session.move("P1", np.array([400.0, 300.0]))
    np.testing.assert_allclose(moved.positions[1], [400, 300])
    assert moved.statuses[1] == "moved" and np.isfinite(moved.positions).all()


def test_volumes_and_empty_films_are_refused():
    detector = ContourDetector(trained(), "cpu")
    volume = Frame((40, 40, 40), np.zeros(3), np.eye(3))
    with pytest.raises(ImageError, match="volume"):
        detector.detect(Image(np.zeros((40, 40, 40), np.uint8), volume, "volume"))
    with pytest.raises(ImageError, match="same value"):
        detector.detect(Image(np.full((80, 64), 7, np.uint8), Frame.film((64, 80)), "gray"))
