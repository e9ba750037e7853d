"""Training windows of volumes: a dot is found where its landmark is said to be, whatever was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.heatmaps import cell_to_index
from LandmarkDetectionLib.networks.hourglass import Hourglass
from LandmarkDetectionLib.networks.resnet_unet import ResnetUnet
from LandmarkDetectionLib.preprocessing.volume_window import GrayScale
from LandmarkDetectionLib.training.volume.appearance import CHANGES, vary_appearance
from LandmarkDetectionLib.training.volume.point_finding import PointFinding
from LandmarkDetectionLib.training.volume.scans import Scan, Scans
from LandmarkDetectionLib.training.volume.vertebra_finding import VertebraFinding, finding_loss, told_extent
from LandmarkDetectionLib.training.volume.windows import WindowGeometry, in_window, shown, window

PLAIN = GrayScale(-1000.0, 1000.0, 0.0, 100.0, True)
SHAPE = (40, 36, 32)


def dot_scan(points: np.ndarray, side: str = "right") -> Scan:
    """A dark volume with a bright dot at each of some points (x, y, z)."""
    z, y, x = np.indices(SHAPE)
    voxels = np.zeros(SHAPE)
    for point in points:
        apart = (x - point[0]) ** 2 + (y - point[1]) ** 2 + (z - point[2]) ** 2
        voxels = np.maximum(voxels, 900 * np.exp(-apart / 8))
    return Scan("dots", "0", side, torch.from_numpy(voxels.astype(np.int16)), torch.tensor(points).float(), PLAIN)


def brightest(values: torch.Tensor) -> np.ndarray:
    """Centroid (x, y, z) of what is nearly as bright as the brightest voxel of a window (1, d, h, w)."""
    bright = (values[0] - 0.6 * values.max()).clamp(min=0).numpy()
    return np.array([(np.indices(bright.shape)[2 - k] * bright).sum() / bright.sum() for k in range(3)])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", [0.7, 1.0])
def test_a_dot_lies_where_its_landmark_is_said_to_be(seed, step):
    generator = torch.Generator().manual_seed(seed)
    scan = dot_scan(np.array([[15.0, 17.5, 20.0]]))
    geometry = WindowGeometry((24, 28, 20), step, rotation=25.0, scale=0.2, shift=(2.0, 2.0, 2.0))
    matrix = geometry.matrix(generator, mirrored=bool(seed % 2))
    centre = geometry.moved(scan.points[0], generator)
    limits = geometry.limits(scan.extent, centre, generator)
    place = in_window(scan.points, geometry.size, matrix, centre)[0]
    found = brightest(window(scan, geometry.size, matrix, centre, limits))
    assert np.allclose(found, place.numpy(), atol=0.12)


def test_a_window_ends_where_the_scan_is_cut():
    scan = dot_scan(np.array([[15.0, 17.0, 28.0], [15.0, 17.0, 14.0]]))
    limits = torch.tensor([[0.0, 0, 0], [31.0, 35, 20]])
    values = window(scan, (16, 16, 36), torch.eye(3), torch.tensor([15.0, 17, 20]), limits)
    assert torch.equal(values[0, 25], values[0, 18])
    assert shown(scan.points, limits).tolist() == [False, True]


@pytest.mark.parametrize("change", [change for change, _ in CHANGES], ids=lambda change: change.__name__)
def test_every_change_of_appearance_changes_something_and_stays_finite(change):
    generator = torch.Generator().manual_seed(2)
    volumes = torch.randn((2, 1, 16, 18, 20), generator=generator)
    changed = change(volumes, generator)
    assert changed.shape == volumes.shape
    assert torch.isfinite(changed).all()
    assert not torch.allclose(changed, volumes)


def test_appearance_is_the_same_for_the_same_seed():
    volumes = torch.randn((4, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    first, second = (vary_appearance(volumes.clone(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_best_output_for_vertebrae_has_the_smallest_loss():
    centres = torch.tensor([[[3.0, 4.0, 5.0], [torch.nan] * 3, [6.0, 2.0, 1.0]]])
    best = torch.full((1, 4, 8, 8, 8), -8.0)
    for level, (x, y, z) in ((0, (3, 4, 5)), (2, (6, 2, 1))):
        best[0, 0, z, y, x] = 8.0
        best[0, 1 + level, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 8.0
    swapped = best[:, [0, 3, 2, 1]]
    assert finding_loss(best, centres) < 0.01
    assert finding_loss(swapped, centres) > 5
    assert finding_loss(best.roll(2, dims=-1), centres) > 5
    nothing = torch.full_like(centres, torch.nan)
    assert finding_loss(torch.full_like(best, -8.0), nothing) < finding_loss(best, nothing)


def column_scans() -> Scans:
    """Dots one above the other: two levels of two points."""
    points = np.array([[15.0, 17, 30], [15, 12, 30], [15, 17, 14], [15, 12, 14]])
    return Scans((dot_scan(points), dot_scan(points + [1, 2, 1])), 1.0)


ROWS = torch.tensor([[0, 1], [2, 3]])


def test_vertebrae_are_drawn_where_their_centers_are():
    scans = column_scans()
    geometry = WindowGeometry((32, 32, 32), rotation=10.0, shift=(2.0, 2.0, 2.0))
    objective = VertebraFinding(scans, scans, scans, ROWS, geometry, batch=3, stride=2, other_share=0.0)
    inputs, cells = objective.draw(scans, torch.Generator().manual_seed(0))
    assert inputs.shape == (3, 1, 32, 32, 32) and cells.shape == (3, 2, 3)
    for values, centres in zip(inputs, cells, strict=True):
        known = centres[torch.isfinite(centres[:, 0])]
        assert len(known)
        for x, y, z in cell_to_index(known, 2).round().long().clamp(0, 31):
            assert values[0, z, y, x] > 5


def test_a_vertebra_that_is_cut_off_counts_while_a_point_of_it_is_shown():
    scan = dot_scan(np.array([[15.0, 17, 20], [15, 17, 26], [15, 17, 8], [15, 17, 14]]))
    scans = Scans((scan,), 1.0)
    geometry = WindowGeometry((25, 25, 65), rotation=0.0, scale=0.0, cut=1.0)
    objective = VertebraFinding(scans, scans, scans, ROWS, geometry, batch=1, stride=2, other_share=0.0)
    counted = set()
    for seed in range(60):
        values, centres = objective.window(scan, torch.Generator().manual_seed(seed))
        known = torch.isfinite(centres[:, 0])
        level = int(known.nonzero()[0, 0])
        heights = scan.points[ROWS, 2] + centres[level, 2] - scan.points[ROWS[level, 0], 2]
        x, y, _ = centres[level].round().long()
        peaks = values[0, heights.round().long(), y, x]
        for own, is_counted in zip(peaks, known.tolist(), strict=True):
            # A dot is 9 at its middle: less where the scan ends before it.
            assert is_counted if own.max() > 8.75 else not is_counted or own.max() > 8.4
            counted.add((int((own > 8.75).sum()), is_counted))
    assert {(2, True), (1, True), (0, False)} <= counted


def test_a_scan_is_shown_only_as_far_as_the_centers_are_known():
    unknown = [torch.nan] * 3
    points = torch.tensor([[unknown, [5, 5, 30.0], [5, 5, 28]], [[5, 5, 20], [5, 5, 23], [5, 5, 17]], [unknown] * 3])
    extent = torch.tensor([[0.0, 0, 0], [31, 31, 33]])
    assert told_extent(extent, points).tolist() == [[0, 0, 0], [31, 31, 27]]
    below = torch.cat([points, torch.tensor([[unknown, [5, 6, 4.0], unknown]])])
    assert told_extent(extent, below).tolist() == [[0, 0, 5], [31, 31, 27]]


def test_points_are_drawn_about_one_anatomy_and_mirrored_for_one_side():
    points = np.array([[15.0, 17, 20], [20, 12, 20], [12, 22, 17]])
    scans = Scans((dot_scan(points, "left"),), 1.0)
    geometry = WindowGeometry((24, 24, 24), rotation=0.0, scale=0.0)
    draw = {
        side: PointFinding(scans, None, torch.arange(3)[None], geometry, 1, 2, about_mean=True, mirrored=side).draw
        for side in ("left", "right")
    }
    (mirrored, cells), (plain, unmirrored) = (
        draw[side](scans, torch.Generator().manual_seed(0)) for side in ("left", "right")
    )
    assert torch.allclose(mirrored, plain.flip(-1), atol=1e-4)
    assert torch.allclose(cells[..., 0], 11 - unmirrored[..., 0], atol=1e-4)
    for values, places in ((mirrored, cells), (plain, unmirrored)):
        for x, y, z in cell_to_index(places[0], 2).round().long():
            assert values[0, 0, z, y, x] > 5


@pytest.mark.parametrize("stage", ["finding", "points"])
def test_networks_learn_from_the_windows(stage):
    torch.manual_seed(0)
    scans = column_scans()
    if stage == "finding":
        network = ResnetUnet(1, 3, (4, 8), (1, 1), (8, 8), dims=3)
        geometry = WindowGeometry((32, 32, 32), rotation=5.0)
        objective = VertebraFinding(scans, scans, scans, ROWS, geometry, 2, network.stride, other_share=0.0)
    else:
        network = Hourglass(1, 2, width=4, depth=1, hint_channels=2, dims=3)
        geometry = WindowGeometry((32, 32, 32), rotation=5.0, shift=(1.0, 1.0, 1.0))
        objective = PointFinding(scans, scans, ROWS, geometry, 2, network.stride)
    before = objective.validate(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        loss = objective.loss(network, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert objective.validate(network) < 0.9 * before


