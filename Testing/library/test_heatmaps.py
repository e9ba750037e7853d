"""Decoding of heatmaps: published values, one convention for strides, what a temperature moves, two and three axes."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from LandmarkDetectionLib.heatmaps import (
    RELATIVE_FLOOR,
    cell_to_index,
    covariance,
    expected_radial_error,
    index_to_cell,
    local_expectation,
    log_probabilities,
    mode,
    normalised_soft_argmax,
    soft_argmax,
    spatial_cross_entropy,
    splat,
)

PUBLISHED = torch.tensor([[1, 3, 1, 4, 5, 2, 0], [2, 4, 2, 5, 6, 3, 1]], dtype=torch.float64)


def gaussian(size: tuple[int, ...], at: tuple[float, ...], sigma: tuple[float, ...]) -> torch.Tensor:
    """Logits of a Gaussian along x, y[, z], shape ``size[::-1]``, double precision."""
    axes = [torch.arange(n, dtype=torch.float64) for n in reversed(size)]
    grids = torch.meshgrid(*axes, indexing="ij")[::-1]
    return -sum((grid - a) ** 2 / (2 * s**2) for grid, a, s in zip(grids, at, sigma, strict=True))


@pytest.mark.parametrize(
    ("beta", "x", "y"),
    [(1, 3.486011614577136, 0.7310585786300049), (10, 3.999954595948305, 0.9999546021312976)],
)
def test_soft_argmax_has_the_published_values(beta, x, y):
    assert soft_argmax(PUBLISHED, beta=beta).tolist() == pytest.approx([x, y], abs=1e-12)


def test_normalised_soft_argmax_adds_half_a_cell():
    published = numpy.array([0.5714220851354722, 0.4999773010656488])
    expected = published + 0.5 / numpy.array([7, 2])
    assert normalised_soft_argmax(PUBLISHED, beta=10).tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_mode_is_the_maximum_of_the_plane_not_of_rows():
    assert mode(PUBLISHED).tolist() == [4, 1]


def test_flat_heatmap_decodes_to_the_middle_of_the_extent():
    torch.testing.assert_close(normalised_soft_argmax(torch.zeros(3, 5, 8)), torch.full((3, 2), 0.5))


@settings(max_examples=60, deadline=None)
@given(stride=st.sampled_from([1, 2, 4, 8]), x=st.floats(12, 83), y=st.floats(12, 51))
def test_a_point_survives_splat_and_decoding_at_every_stride(stride, x, y):
    """Index to cells, weights of the cells as a heatmap, and back."""
    point = torch.tensor([x, y], dtype=torch.float64)
    weights = splat(index_to_cell(point, stride), (96 // stride, 64 // stride))
    logits = weights.clamp(min=1e-12).log().view(64 // stride, 96 // stride)
    found = cell_to_index(local_expectation(logits, radius=1), stride)
    assert (found - point).abs().max() < 1e-4
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("at", [(40.0, 30.0), (41.3, 28.6), (37.75, 33.1)])
def test_a_painted_dot_and_its_pooled_image_agree_on_the_convention(stride, at):
    """Averaging stride x stride pixels puts cell 0 in the middle of pixels 0 .. stride - 1: no half-pixel shift."""
    image = gaussian((96, 64), at, (1.2 * stride, 1.2 * stride)).exp()
    pooled = torch.nn.functional.avg_pool2d(image[None, None], stride)[0, 0]
    total = pooled.sum()
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in pooled.shape), indexing="ij")
    cell = torch.stack([(pooled * columns).sum(), (pooled * rows).sum()]) / total
    assert torch.dist(cell_to_index(cell, stride), torch.tensor(at, dtype=torch.float64)) < 0.05
    found = cell_to_index(local_expectation(pooled.log(), radius=6), stride)
    assert torch.dist(found, torch.tensor(at, dtype=torch.float64)) < 0.05


def test_strides_map_there_and_back():
    assert cell_to_index(0.0, 4) == 1.5 and index_to_cell(-0.5, 4) == -0.5
    values = torch.linspace(-3, 50, 17)
    torch.testing.assert_close(index_to_cell(cell_to_index(values, 8), 8), values)


def test_a_temperature_moves_neither_mode_nor_decoded_point():
    """Decoders take no temperature: calibration widens a heatmap, and what is shown stays where it was."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 5, 9, 14, generator=generator)
    for temperature in (0.3, 1.0, 4.0):
        cooled = log_probabilities(logits, temperature=temperature)
        assert torch.equal(mode(cooled), mode(logits))
        # What was divided by the temperature decodes to the same point once it is multiplied back.
        torch.testing.assert_close(local_expectation(cooled * temperature), local_expectation(logits))
    spread = [covariance(logits, mode(logits), temperature=t).diagonal(dim1=-2, dim2=-1).sum(-1) for t in (0.5, 2.0)]
    assert not torch.allclose(spread[0], spread[1])


def test_decoding_ignores_what_is_far_from_the_mode():
    logits = gaussian((40, 30), (10, 12), (1, 1))
    logits[25, 35] = -0.5
    assert torch.dist(local_expectation(logits), torch.tensor([10.0, 12.0], dtype=torch.float64)) < 1e-6
    assert torch.dist(soft_argmax(logits), torch.tensor([10.0, 12.0], dtype=torch.float64)) > 1


def test_covariance_of_a_known_gaussian():
    logits = gaussian((61, 51), (30, 25), (2.5, 4.0))
    point = torch.tensor([30.0, 25.0], dtype=torch.float64)
    moment = torch.diag(torch.tensor([2.5**2, 4.0**2], dtype=torch.float64))
    torch.testing.assert_close(covariance(logits, point) + torch.eye(2) / 6, moment, atol=1e-4, rtol=0)
    doubled = covariance(logits, point, temperature=2.0) + torch.eye(2) / 6
    torch.testing.assert_close(doubled, 2 * moment, atol=0.1, rtol=0)


def test_covariance_leaves_out_what_splatting_adds():
    """The mean of many splatted points of a Gaussian has the covariance of that Gaussian."""
    generator = torch.Generator().manual_seed(3)
    points = 12 + 1.5 * torch.randn(20000, 2, generator=generator, dtype=torch.float64)
    heatmap = splat(points, (25, 25)).mean(0).view(25, 25)
    found = covariance(heatmap.clamp(min=1e-12).log(), points.mean(0))
    torch.testing.assert_close(found, torch.cov(points.T), atol=0.02, rtol=0)


def test_covariance_keeps_the_sign_of_a_slant():
    x, y = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="xy")
    logits = -((x - y) ** 2) / 4 - ((x + y) ** 2) / 40
    found = covariance(logits, torch.tensor([20.0, 20.0]))
    assert found[0, 1] == found[1, 0] and 3 < found[0, 1] < 6


def test_covariance_of_a_certain_heatmap_is_never_zero():
    logits = torch.full((9, 9), -1e9)
    logits[4, 6] = 0
    torch.testing.assert_close(covariance(logits, torch.tensor([6.0, 4.0])), torch.eye(2) / 100)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
@pytest.mark.parametrize("size", [(9, 7), (6, 7, 5)])
def test_expected_radial_error_equals_the_sum_over_all_cells(size, temperature):
    generator = numpy.random.default_rng(1)
    logits = generator.normal(scale=2, size=size[::-1])
    point = generator.uniform(1, 4, len(size))
    probabilities = numpy.exp(logits / temperature)
    probabilities /= probabilities.sum()
    total = weight = 0.0
    for cell in numpy.ndindex(logits.shape):
        if probabilities[cell] > RELATIVE_FLOOR * probabilities.max():
            weight += probabilities[cell]
            total += probabilities[cell] * math.dist(cell[::-1], point)
    found = expected_radial_error(torch.tensor(logits), torch.tensor(point), len(size), temperature)
    assert float(found) == pytest.approx(total / weight, rel=1e-9)


def test_cross_entropy_is_stable_for_huge_logits():
    logits = torch.zeros(1, 1, 6, 8)
    logits[..., 2, 3] = 1e30
    logits.requires_grad_()
    right, wrong = torch.tensor([[[3.0, 2.0]]]), torch.tensor([[[6.0, 1.0]]])
    assert spatial_cross_entropy(logits, right).item() == 0
    loss = spatial_cross_entropy(logits, wrong)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_cross_entropy_leaves_out_unknown_points_and_those_outside():
    logits = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    points = torch.tensor([[[3.2, 2.7], [math.nan, 1.0], [8.5, 2.0], [2.0, -0.6]]])
    loss = spatial_cross_entropy(logits, points)
    torch.testing.assert_close(loss, spatial_cross_entropy(logits[:, :1], points[:, :1]))
    loss.backward()
    assert logits.grad[:, 0].abs().sum() > 0 and logits.grad[:, 1:].abs().sum() == 0
    nothing = spatial_cross_entropy(logits, torch.full((1, 4, 2), math.nan))
    assert nothing.item() == 0


@pytest.mark.parametrize("point", [(3.4, 2.2), (2.3, 1.6, 3.7)])
def test_cross_entropy_is_least_where_the_expectation_is_the_point(point):
    """Gradient descent on the likelihood alone finds a position between cells, on a plane and in a volume."""
    dims = len(point)
    logits = torch.zeros(1, 1, *(6,) * dims, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[point]], dtype=torch.float64)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(250):
        optimizer.zero_grad()
        spatial_cross_entropy(logits, target, dims).backward()
        optimizer.step()
    assert torch.dist(soft_argmax(logits.detach(), dims), target) < 0.02
    assert torch.dist(local_expectation(logits.detach(), dims, radius=1), target) < 0.02


def test_volumes_are_decoded_x_first():
    at = (11.25, 4.5, 7.75)
    logits = gaussian((20, 12, 16), at, (1.2, 0.9, 1.5))
    assert logits.shape == (16, 12, 20)
    expected = torch.tensor(at, dtype=torch.float64)
    assert mode(logits, 3).tolist() == [11, 4, 8] or mode(logits, 3).tolist() == [11, 5, 8]
    assert torch.dist(soft_argmax(logits, 3), expected) < 1e-3
    assert torch.dist(local_expectation(logits, 3, radius=4), expected) < 0.1
    found = covariance(logits, expected, 3)
    wanted = torch.diag(torch.tensor([1.2**2, 0.9**2, 1.5**2], dtype=torch.float64)) - torch.eye(3) / 6
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)
