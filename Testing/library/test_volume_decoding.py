"""From the heatmaps of a volume to points: in any voxels and any orientation, within a twentieth of a cell."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.heatmaps import splat
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.bundle import Calibration
from LandmarkDetectionLib.inference.decoding import decode, described, outside_by
from LandmarkDetectionLib.inference.finer import FINER, WINDOW, finer, near_modes
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.inference.shape_pose import plausibility_of_seen, shape_size
from LandmarkDetectionLib.landmarks import Landmark, LandmarkSchema
from LandmarkDetectionLib.priors import ShapePrior

COUNT = 9
CELL = 5.0
SHAPE = np.random.default_rng(3).normal(size=(COUNT, 3)) * [40.0, 30.0, 60.0]
"""(n, 3) LPS mm about the middle; no mirror image of itself."""


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Turns about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def volume_frame(spacing: tuple[float, float, float], angles=(0.0, 0.0, 0.0), mirrored: bool = False) -> Frame:
    """A volume of 300 mm about the origin."""
    size = tuple(round(300 / step) for step in spacing)
    steps = rotation(angles) * spacing
    frame = Frame(size, -steps @ ((np.array(size) - 1) / 2), steps, "calibrated")
    return frame.flipped(1) if mirrored else frame


FRAMES = {
    "even": volume_frame((1.5, 1.5, 1.5)),
    "thick slices": volume_frame((0.7, 0.7, 3.0)),
    "oblique": volume_frame((0.9, 1.1, 2.0), (0.3, -0.4, 0.8)),
    "left-handed": volume_frame((0.7, 0.7, 3.0), mirrored=True),
    "oblique and left-handed": volume_frame((0.7, 0.7, 3.0), (-0.5, 0.2, 2.0), mirrored=True),
}


def bundle_of(prior: ShapePrior, **calibration) -> SimpleNamespace:
    """What decoding asks of a bundle."""
    landmarks = tuple(Landmark(f"P{k}", f"Point {k}", f"P{k}", f"The point {k} of the shape.") for k in range(COUNT))
    schema = LandmarkSchema("solid", "solid", 3, landmarks, (), {}, "No sides.")
    values = Calibration.neutral(COUNT, 0.0).to_dict() | {"refusal_threshold": None} | calibration
    return SimpleNamespace(
        name="solid", version="1.0.0", sha256="", schema=schema, prior=prior, errors=None, mirrored_side="left",
        calibration=Calibration.from_dict(values, COUNT),
    )  # fmt: skip


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    random = np.random.default_rng(5)
    return ShapePrior.fit(SHAPE + random.normal(0, 2.0, size=(40, COUNT, 3)))


def windows(points: np.ndarray, size: int = 20, angles=(0.2, 0.1, -0.3), seed: int = 0) -> list[Frame]:
    """A grid of cells for each point (n, 3) in LPS, with the point somewhere in its middle half."""
    random = np.random.default_rng(seed)
    steps = rotation(angles) * CELL
    starts = [point - steps @ random.uniform(0.3 * size, 0.7 * size, 3) for point in points]
    return [Frame((size,) * 3, start, steps, "calibrated") for start in starts]


def gaussian_maps(points: np.ndarray, grids: list[Frame], deviation: float = 1.2) -> torch.Tensor:
    """Log-probabilities (n, d, h, w) of a bell of so many cells about each point."""
    maps = []
    for point, grid in zip(points, grids, strict=True):
        x, y, z = grid.to_index(point)
        axis = np.arange(grid.size[0])
        apart = (axis - x) ** 2 + (axis[:, None] - y) ** 2 + (axis[:, None, None] - z) ** 2
        maps.append(torch.log_softmax(torch.from_numpy(-apart / (2 * deviation**2)).flatten(), 0).view(apart.shape))
    return torch.stack(maps).float()


def solid_image(frame: Frame) -> Image:
    return Image(np.broadcast_to(np.uint8(0), frame.size[::-1]), frame, "solid.nii.gz")


def test_finer_maps_are_those_of_a_film_where_the_map_is_a_product():
    """Logits a(z) + b(y, x): cubic interpolation of the sum is the sum of the interpolations."""
    generator = torch.Generator().manual_seed(1)
    slices, column = torch.randn(2, 7, 9, generator=generator), torch.randn(2, 6, generator=generator)
    fine = finer(column[:, :, None, None] + slices[:, None])
    assert fine.shape == (2, 6 * FINER, 7 * FINER, 9 * FINER)
    np.testing.assert_allclose(fine.logsumexp(1).numpy(), finer(slices).numpy(), atol=2e-5)
    # A film whose rows are the column and whose columns are all alike is interpolated along the rows only.
    along = finer(column[:, :, None].expand(-1, -1, 4)).logsumexp(2)
    np.testing.assert_allclose(fine.logsumexp((2, 3)).numpy(), along.numpy(), atol=2e-5)


def test_finer_maps_treat_all_axes_alike():
    maps = torch.randn(1, 5, 6, 7, generator=torch.Generator().manual_seed(2))
    turned = finer(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(finer(maps).numpy(), turned.numpy(), atol=2e-5)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_dot_is_found_where_it_was_painted(frame, prior):
    points = SHAPE + 3.0
    grids = windows(points)
    cells = np.array([grid.to_index(point) for grid, point in zip(grids, points, strict=True)])
    dots = splat(torch.tensor(cells), (20, 20, 20)).clamp(min=1e-12).log().float().view(-1, 20, 20, 20)
    bundle = bundle_of(prior)
    decoded = decode(bundle, solid_image(frame), dots, grids)
    found = decoded.landmarks.physical()
    assert np.abs(np.array([g.to_index(p) for g, p in zip(grids, found, strict=True)]) - cells).max() < 0.05
    assert set(decoded.landmarks.statuses) == {"predicted"}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_lengths_and_spreads_are_the_same_in_any_voxels(frame, prior):
    """Of bells of 1.2 cells: their expected radial error is sqrt(8 / pi) deviations, less the faintest cells."""
    points = SHAPE - 2.0
    grids = windows(points, seed=1)
    bundle = bundle_of(prior)
    landmarks = decode(
        bundle, solid_image(frame), gaussian_maps(points, grids), grids
    ).landmarks
    np.testing.assert_allclose(landmarks.physical(), points, atol=0.05 * CELL)
    usual = 1.2 * CELL * math.sqrt(8 / math.pi)
    np.testing.assert_allclose(landmarks.expected_errors_mm(), 0.93 * usual, rtol=0.05)
    steps = frame.steps
    in_mm = steps @ landmarks.covariances @ steps.T
    # Fine cells keep the variance that network cells have, less the share of one cell that `covariance` takes off.
    np.testing.assert_allclose(in_mm, np.broadcast_to((1.2 * CELL) ** 2 * np.eye(3), in_mm.shape), atol=3.0)


@pytest.mark.parametrize("name", ["even", "oblique and left-handed"])
def test_what_the_others_say_does_not_depend_on_the_orientation(name, prior):
    points = SHAPE + 0.0
    points[4] += [30.0, 0.0, 0.0]
    grids = windows(points, seed=2)
    bundle, frame = bundle_of(prior, shape_scale=[1.0] * COUNT, error_scale=[0.0] * COUNT), FRAMES[name]
    decoded = decode(bundle, solid_image(frame), gaussian_maps(points, grids), grids)
    errors = decoded.landmarks.expected_errors_mm()
    assert np.argmax(errors) == 4 and errors[4] == pytest.approx(30.0, abs=8.0)
    assert np.delete(errors, 4).max() < 15.0


def test_heatmaps_are_windows_of_fine_cells_about_the_modes(prior):
    points = SHAPE + 1.0
    grids = windows(points, seed=3)
    decoded = decode(bundle_of(prior), solid_image(FRAMES["even"]), gaussian_maps(points, grids), grids)
    heatmaps = decoded.heatmaps
    assert heatmaps.logits.shape == (COUNT, *[WINDOW * FINER] * 3)
    np.testing.assert_allclose(np.exp(heatmaps.logits).sum(axis=(1, 2, 3)), 1.0, rtol=1e-4)
    for row, cell in enumerate(heatmaps.cells(points)):
        peak = np.unravel_index(heatmaps.logits[row].argmax(), heatmaps.logits[row].shape)[::-1]
        assert np.abs(peak - cell).max() <= 1.0
        assert np.abs(cell - 11.5).max() <= FINER, "the landmark lies in the middle"


def test_windows_stay_inside_and_keep_what_is_small():
    maps = torch.full((2, 6, 10, 12), -9.0)
    maps[0, 5, 0, 11], maps[1, 2, 5, 6] = 0.0, 0.0
    cells = torch.tensor([[11.0, 0.0, 5.0], [6.2, 4.9, 2.0]])
    grid = Frame((12, 10, 6), np.zeros(3), 4 * np.eye(3), "calibrated")
    cut, places, frames = near_modes(maps, cells, (grid, grid))
    assert cut.shape == (2, 6, 8, 8)
    assert cut[0, 5, 0, 7] == 0 and cut[1, 2, 4, 3] == 0
    np.testing.assert_allclose(places.numpy(), [[7.0, 0.0, 5.0], [3.2, 3.9, 2.0]], atol=1e-5)
    np.testing.assert_array_equal(frames[0].origin, [16, 0, 0])
    np.testing.assert_array_equal(frames[1].origin, [12, 4, 0])
    for frame, place, cell in zip(frames, places, cells, strict=True):
        np.testing.assert_allclose(frame.to_physical(place), grid.to_physical(cell), atol=1e-5)


def test_absent_landmarks_say_nothing_of_the_others(prior):
    points = SHAPE + 1.0
    grids = windows(points, seed=4)
    maps = gaussian_maps(points, grids)
    maps[7] = maps[7].roll(5, 0)
    bundle, frame = bundle_of(prior, shape_scale=[1.0] * COUNT), FRAMES["thick slices"]
    gone = np.isin(np.arange(COUNT), [2, 7])
    decoded = decode(bundle, solid_image(frame), maps, grids, absent=gone)
    landmarks = decoded.landmarks
    assert [status == "absent" for status in landmarks.statuses] == gone.tolist()
    for values in (landmarks.positions, landmarks.covariances, landmarks.expected_errors):
        assert np.isnan(values[gone]).all() and np.isfinite(values[~gone]).all()
    assert np.ptp(decoded.heatmaps.logits[gone], axis=(1, 2, 3)).max() < 1e-4
    assert landmarks.expected_errors_mm()[~gone].max() < 25.0

    detection = described(bundle, solid_image(frame), decoded, 0.9)
    assert detection.plausibility > 0.6
    moved = Session(detection).move("P2", frame.to_index(points[2]))
    assert moved.statuses[2] == "moved" and moved.statuses[7] == "absent"


def test_nothing_at_all_may_be_there(prior):
    grids = windows(SHAPE)
    bundle, frame = bundle_of(prior), FRAMES["even"]
    decoded = decode(
        bundle, solid_image(frame), torch.zeros(COUNT, 20, 20, 20), grids, absent=np.ones(COUNT, dtype=bool)
    )
    assert set(decoded.landmarks.statuses) == {"absent"}
    assert described(bundle, solid_image(frame), decoded, 0.0).plausibility == 0.0


def test_a_point_beyond_the_volume_is_absent(prior):
    """A slice of 3 mm beyond the edge is more than a column of 0.7 mm beyond it."""
    frame = FRAMES["thick slices"]
    positions = (np.array(frame.size) - 1) / 2 + np.zeros((3, 3))
    positions[1, 2], positions[2, 0] = frame.size[2] + 0.5, frame.size[0] + 0.5
    unit = np.sqrt(np.mean(frame.spacing**2))
    np.testing.assert_allclose(outside_by(positions, frame), [0, 3.0 / unit, 0.7 / unit])


def test_the_size_of_a_shape_is_told_by_a_part_of_it(prior):
    whole = shape_size(SHAPE, prior)
    part = SHAPE.copy()
    part[[0, 3, 5]] = np.nan
    assert shape_size(part, prior) == pytest.approx(whole, rel=0.03)
    assert shape_size(2.5 * part @ rotation((1.0, 0.3, 0.2)).T, prior) == pytest.approx(2.5 * whole, rel=0.03)
    assert math.isnan(shape_size(np.full_like(SHAPE, np.nan), prior))


def test_a_mirrored_shape_is_implausible_until_the_prior_is_turned(prior):
    flipped = SHAPE * [1, -1, 1]
    assert plausibility_of_seen(flipped, prior) < 0.1 < 0.8 < plausibility_of_seen(flipped, prior.mirrored())
    flipped[2] = np.nan
    assert plausibility_of_seen(flipped, prior) < 0.1 < 0.8 < plausibility_of_seen(flipped, prior.mirrored())
