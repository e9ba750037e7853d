"""The first look at a volume: slabs make up the whole, and peaks are found between the cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.volume import finding
from LandmarkDetectionLib.inference.volume.finding import FindingStage, slabs
from LandmarkDetectionLib.inference.volume.vertebrae import VolumeVertebrae, distinct, downwards, find_peaks, past_end
from LandmarkDetectionLib.networks.resnet_unet import ResnetUnet
from torch import nn


@dataclass
class Members:
    """What a stage needs of an ensemble."""

    members: list[nn.Module]
    stride: int

    @torch.inference_mode()
    def logits(self, member: nn.Module, inputs: np.ndarray) -> torch.Tensor:
        return member(torch.from_numpy(np.ascontiguousarray(inputs)))


@pytest.mark.parametrize("shape", [(32, 64, 64), (320, 160, 160), (1000, 512, 512)])
def test_slabs_follow_each_other_and_are_bounded(shape):
    parts = slabs(shape, 8)
    assert [start for start, *_ in parts[1:]] == [end for _, end, *_ in parts[:-1]]
    assert parts[0][0] == 0 and parts[-1][1] == shape[0]
    for start, end, first, last in parts:
        assert first <= start < end <= last
        assert (start - first) % 8 == (end - first) % 8 == 0 or end == shape[0]
        assert (last - first) * shape[1] * shape[2] <= 2**22 + 2 * 48 * shape[1] * shape[2]


def test_a_volume_in_slabs_gives_the_same_maps(monkeypatch):
    torch.manual_seed(0)
    network = ResnetUnet(1, 3, (4, 8), (1, 1), (8, 8), dims=3).eval()
    voxels = np.random.default_rng(0).normal(size=(160, 16, 24)).astype(np.float32)
    stage = FindingStage(Members([network], network.stride))
    whole = stage.logits(voxels, lambda: False)
    monkeypatch.setattr(finding, "_MOST", 40 * 16 * 24)
    assert len(slabs(voxels.shape, network.divisor)) == 4
    assert torch.allclose(stage.logits(voxels, lambda: False), whole, atol=1e-5)


def test_peaks_are_found_between_the_cells_and_little_beyond_the_image():
    frame = Frame((64, 64, 64), [0, 0, 0], np.diag([-1.0, 1.0, 1.0]), "calibrated")
    grid = Frame((16, 16, 24), frame.to_physical([1.5, 1.5, -22.5]), frame.steps * 4, "calibrated")
    z, y, x = np.indices((24, 16, 16))
    truth = np.array([[5.3, 7.0, 12.6], [10.0, 3.2, 3.0], [4.0, 11.0, 0.0]])
    assert past_end(grid.to_physical(truth), frame)[:, 2].tolist() == pytest.approx([0, 10, 22])
    bumps = [np.exp(-((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) / 2) for px, py, pz in truth]
    logits = torch.full((3, 24, 16, 16), -9.0)
    logits[0] = torch.from_numpy(12 * np.max(bumps, axis=0) - 8).float()
    logits[2] = 9.0
    peaks = find_peaks(logits, grid, frame)
    assert len(peaks.places) == 2  # the third one lies too far below the image to show anything
    found = grid.to_index(peaks.places)[np.argsort(-grid.to_index(peaks.places)[:, 2])]
    assert np.allclose(found, truth[:2], atol=0.35)
    assert peaks.levels[0].argmax() == 1


def test_candidates_run_down_the_body_whatever_the_axes_of_the_volume():
    turned = Frame((20, 30, 40), [1, 2, 3], np.array([[0, 0, -2.0], [1, 0, 0], [0, -3.0, 0]]), "calibrated")
    places = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
    down = downwards(turned)(places)
    assert np.allclose(down[1:] - down[0], [[10, 0, 0], [0, 10, 0], [0, 0, -10]])


def test_the_less_sure_of_two_candidates_at_one_place_is_left_out():
    points = np.zeros((3, 7, 3))
    points[:, 2, 2], points[:, 5, 2] = -12.0, 12.0
    points[1] += [0, 0, 3.0]
    points[2] += [0, 0, 30.0]
    vertebrae = VolumeVertebrae(np.array([0.6, 0.9, 0.5]), np.zeros((3, 22)), points)
    assert distinct(vertebrae).tolist() == [False, True, True]
