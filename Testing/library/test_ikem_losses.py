"""Decoding and losses of interactive networks: values by hand, what must not change them, one sigmoid."""

from __future__ import annotations

import math

import pytest
import torch
from LandmarkDetectionLib.inference.published.ikem_decoding import highest_cell, map_expectation, patch_soft_argmax
from LandmarkDetectionLib.networks.hints import hint_maps
from LandmarkDetectionLib.training.ikem.augmentation import IkemAugmentation
from LandmarkDetectionLib.training.ikem.losses import IkemLoss, Morphology, heatmap_loss, shares_of_height

NAN = math.nan


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Decoding


def test_three_decodings_of_one_heatmap():
    truth = torch.tensor([[[20.0, 10.0], [31.0, 0.0]]])
    logits = torch.logit(hint_maps(truth, (48, 40), 3.0).clamp(1e-4, 1 - 1e-4))
    torch.testing.assert_close(highest_cell(logits), truth)
    torch.testing.assert_close(patch_soft_argmax(logits)[:, 0], truth[:, 0], atol=1e-3, rtol=0)
    # At the border the patch is cut, and with it the expectation moves inwards.
    assert 0 < patch_soft_argmax(logits)[0, 1, 1] < 3
    middle = torch.tensor([23.5, 19.5])
    faint = torch.logaddexp(logits, torch.tensor(-4.0))
    for decode, moved in ((map_expectation, 3.0), (patch_soft_argmax, 0.05)):
        found = decode(faint)[0, 0]
        assert ((truth[0, 0] - middle).norm() - (found - middle).norm() > 1.0) == (moved > 1)


def test_patch_soft_argmax_has_one_sigmoid():
    logits = torch.full((1, 1, 3, 3), -2.0)
    logits[0, 0, 1, 1], logits[0, 0, 1, 2] = 1.0, 0.5
    weights = torch.softmax(10 * logits.flatten().sigmoid(), 0).view(3, 3)
    expected = (weights.sum(0) @ torch.arange(3.0), weights.sum(1) @ torch.arange(3.0))
    torch.testing.assert_close(patch_soft_argmax(logits, radius=1)[0, 0], torch.stack(expected))


# Losses


def test_heatmap_loss_is_cross_entropy_with_one_sigmoid():
    cells = torch.tensor([[[3.0, 4.0], [NAN, NAN], [1000.0, 1000.0]]])
    target = hint_maps(cells, (8, 8), 1.5)
    logits = torch.randn(1, 3, 8, 8)
    each = -(target * logits.sigmoid().log() + (1 - target) * (1 - logits.sigmoid()).log())
    expected = each[:, [0, 2]].mean()
    torch.testing.assert_close(heatmap_loss([logits], cells, 1.5), expected)
    torch.testing.assert_close(heatmap_loss([logits, logits], cells, 1.5), 2 * expected)
    # Where nothing is to be found a sure network has no loss; after two sigmoids ln 2 would be left.
    assert heatmap_loss([torch.full((1, 3, 8, 8), -30.0)], cells[:, [2, 2, 2]], 1.5) < 1e-6


def rotated(points: torch.Tensor, degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[cosine, sine], [-sine, cosine]])


@pytest.fixture
def shapes() -> torch.Tensor:
    """Sixty triangles of one size in any pose, and a fourth and fifth point anywhere."""
    torch.manual_seed(0)
    triangle = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.0, 0.2]])
    posed = torch.stack([rotated(triangle, float(angle)) for angle in torch.rand(60) * 360]) + torch.rand(60, 1, 2)
    return torch.cat([posed, torch.rand(60, 2, 2)], dim=1)


def test_morphology_takes_what_varies_least(shapes):
    morphology = Morphology.steadiest(shapes, 3)
    assert sorted(morphology.pairs.tolist()) == [[0, 1], [0, 2], [1, 2]]
    assert morphology.triplets[0].tolist() == [0, 1, 2]


def test_morphology_is_zero_at_the_truth_and_ignores_pose(shapes):
    morphology = Morphology.steadiest(shapes, 5)
    assert morphology.distance_loss(shapes, shapes) == 0
    assert morphology.angle_loss(shapes, shapes) < 1e-6
    moved = rotated(shapes, 25.0) + torch.tensor([0.3, -0.1])
    assert morphology.distance_loss(moved, shapes) < 1e-6 and morphology.angle_loss(moved, shapes) < 1e-6
    larger = 1.5 * shapes
    assert morphology.distance_loss(larger, shapes) > 0.05 and morphology.angle_loss(larger, shapes) < 1e-6
    mirrored = shapes * torch.tensor([-1.0, 1.0])
    assert morphology.distance_loss(mirrored, shapes) < 1e-6 and morphology.angle_loss(mirrored, shapes) > 0.1


def test_morphology_values_by_hand():
    morphology = Morphology(torch.tensor([[0, 1]]), torch.tensor([[0, 1, 2]]))
    truth = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    found = torch.tensor([[[2.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    assert float(morphology.distance_loss(found, truth)) == pytest.approx(1.0)
    assert float(morphology.angle_loss(found, truth)) == pytest.approx(1 - math.cos(math.pi / 4), abs=1e-6)
    truth[0, 1] = NAN
    assert morphology.distance_loss(found, truth) == 0 and morphology.angle_loss(found, truth) == 0


def test_coinciding_points_have_finite_gradients():
    morphology = Morphology(torch.tensor([[0, 1]]), torch.tensor([[0, 1, 2]]))
    found = torch.zeros(1, 3, 2, requires_grad=True)
    truth = torch.rand(1, 3, 2)
    (morphology.distance_loss(found, truth) + morphology.angle_loss(found, truth)).backward()
    assert torch.isfinite(found.grad).all()


def test_film_proportions_are_undone():
    """A film of 300 x 900 seen as 64 x 128: a square on it is one again, as shares of its height."""
    scales = torch.tensor([[300 / 64, 900 / 128]])
    square = torch.tensor([[[10.0, 10], [100, 10], [10, 100]]]) / scales
    found = shares_of_height(square, scales, 128)
    torch.testing.assert_close(found, torch.tensor([[[10.0, 10], [100, 10], [10, 100]]]) / 900)


def test_augmented_truth_has_no_morphology_loss():
    """The terms hold under rotation and scale, because the target's points are moved with the image."""
    points = 12 + 40 * torch.rand(6, 5, 2, generator=chance(1))
    scales = torch.tensor([[3.0, 3.0]]).repeat(6, 1)
    augmentation = IkemAugmentation(torch.arange(5), True, rotation_probability=1.0, scale_probability=1.0)
    _, moved = augmentation(torch.zeros(6, 1, 64, 64), points, scales, chance())
    morphology = Morphology.steadiest(points, 6)
    logits = torch.logit(hint_maps(moved, (64, 64), 7.5).clamp(1e-6, 1 - 1e-6))
    plain, with_terms = (
        IkemLoss(7.5, terms, distance=1.0, angle=1.0)([logits], moved, scales) for terms in (None, morphology)
    )
    # Where the target would be without augmentation the terms are a hundred times as large.
    wrong = IkemLoss(7.5, morphology, distance=1.0, angle=1.0)([logits], points, scales) - IkemLoss(7.5)(
        [logits], points, scales
    )
    assert float(with_terms - plain) < 0.02 < 0.05 < float(wrong)
