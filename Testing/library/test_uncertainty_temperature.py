"""Temperatures of heatmaps: the true ones are found, and nothing else moves."""

from __future__ import annotations

import pytest
import torch
from LandmarkDetectionLib.heatmaps import local_expectation, mode, spatial_cross_entropy
from LandmarkDetectionLib.uncertainty.temperature import FEWEST, fit_temperatures

TRUE = torch.tensor([0.4, 1.0, 2.5, 6.0], dtype=torch.float64)


def drawn(images: int = 400, size: tuple[int, int] = (14, 11), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are TRUE times too steep, and truths drawn from the heatmaps that they should have been."""
    generator = torch.Generator().manual_seed(seed)
    width, height = size
    right = 2 * torch.randn(images, len(TRUE), height, width, generator=generator, dtype=torch.float64)
    cells = torch.multinomial(torch.softmax(right.flatten(2), -1).flatten(0, 1), 1, generator=generator)
    cells = cells.view(images, len(TRUE))
    return right * TRUE[:, None, None], torch.stack([cells % width, cells // width], dim=-1).double()


def test_each_landmark_gets_its_own_temperature():
    logits, truth = drawn()
    found = fit_temperatures(logits, truth)
    assert torch.allclose(found.log(), TRUE.log(), atol=0.1)
    for k in range(len(TRUE)):
        alone = fit_temperatures(logits[:, k : k + 1], truth[:, k : k + 1])
        assert float(alone[0]) == pytest.approx(float(found[k]), rel=1e-6)  # the others have no say


def test_it_is_the_minimum_of_the_likelihood():
    logits, truth = drawn(images=60)
    found = fit_temperatures(logits.float(), truth)

    def cost(temperatures: torch.Tensor) -> float:
        return float(spatial_cross_entropy(logits / temperatures[:, None, None], truth))

    for k in range(len(TRUE)):
        for factor in (0.97, 1.03):
            other = found.clone()
            other[k] *= factor
            assert cost(other) > cost(found)


def test_neither_the_mode_nor_the_decoded_point_moves_and_nothing_is_learnt():
    logits, truth = drawn(images=30)
    logits.requires_grad_(True)
    before, points = logits.detach().clone(), local_expectation(logits.detach())
    found = fit_temperatures(logits, truth)
    assert not found.requires_grad and logits.grad is None
    assert torch.equal(logits.detach(), before)
    assert torch.equal(mode(before / found[:, None, None]), mode(before))
    assert torch.equal(local_expectation(logits.detach()), points)


def test_few_and_no_truths_take_the_temperature_of_all():
    logits, truth = drawn(images=80)
    logits, truth = logits / TRUE[:, None, None] * 2.0, truth.clone()
    truth[FEWEST - 1 :, 1] = torch.nan
    truth[:, 2] = torch.nan
    truth[:, 3] = torch.tensor([99.0, 3.0])  # outside the grid
    found = fit_temperatures(logits, truth)
    assert found[1] == found[2] == found[3] != found[0]
    assert found.log().tolist() == pytest.approx([0.693] * 4, abs=0.2)
    assert fit_temperatures(logits, torch.full_like(truth, torch.nan)).tolist() == [1.0] * 4


def test_truths_that_are_always_the_best_cell_stay_finite():
    logits, _ = drawn(images=20)
    found = fit_temperatures(logits * 1000, mode(logits))
    assert torch.isfinite(found).all() and (found > 0).all()


def test_three_dimensions():
    generator = torch.Generator().manual_seed(5)
    right = 2 * torch.randn(300, 1, 5, 6, 7, generator=generator)
    cells = torch.multinomial(torch.softmax(right.flatten(1), -1), 1, generator=generator)
    truth = torch.stack([cells % 7, cells // 7 % 6, cells // 42], dim=-1).double()
    assert float(fit_temperatures(3 * right, truth)) == pytest.approx(3.0, rel=0.1)
