"""Training of interactive networks: simulated users, losses and augmentation, and what the originals got wrong."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.inference.published.ikem_decoding import interaction_maps
from LandmarkDetectionLib.inference.published.ikem_view import IkemPlan
from LandmarkDetectionLib.networks.hint_unet import HintUNet
from LandmarkDetectionLib.networks.hints import hint_maps
from LandmarkDetectionLib.training.ikem.augmentation import IkemAugmentation
from LandmarkDetectionLib.training.ikem.interaction import (
    Interaction,
    Simulation,
    chosen_rows,
    count_probabilities,
    draw_counts,
    errors_by_clicks,
    interact,
    mean_after,
)
from LandmarkDetectionLib.training.ikem.losses import IkemLoss
from LandmarkDetectionLib.training.ikem.objective import InteractiveHeatmaps
from LandmarkDetectionLib.training.ikem.samples import IkemFilms

NAN = math.nan
STILL = {"rotation_probability": 0.0, "flip_probability": 0.0, "scale_probability": 0.0, "appearance_probability": 0.0}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Known(torch.nn.Module):
    """Predicts given cells ``(B, K, 2)`` whatever it sees, and keeps what it was shown and how."""

    hint_stride = 1

    def __init__(self, cells: torch.Tensor) -> None:
        super().__init__()
        self.cells, self.seen = cells, []

    def forward(self, image: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        self.seen.append((maps, self.training, torch.is_grad_enabled()))
        return 20 * hint_maps(self.cells, tuple(reversed(image.shape[2:])), 2.0) - 10


def simulation(network: torch.nn.Module, truth: torch.Tensor, previous="all", side: int = 32) -> Simulation:
    batch = len(truth)
    return Simulation(network, torch.zeros(batch, 1, side, side), truth, torch.ones(batch, 2), 1, 2.0, previous)


# How many hints


def test_hint_counts_are_those_of_the_papers():
    kim, student = count_probabilities("kim"), count_probabilities("student")
    expected = [1 / 8, 1 / 2, 1 / 4, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256, 1 / 512, 1 / 1024, 1 / 2048]
    assert kim.tolist() == [*expected, 1 / 4096, 1 / 4096]
    assert len(student) == 11 and float(student.sum()) == pytest.approx(1)
    assert [round(value, 4) for value in student[:4].tolist()] == [0.2002, 0.4003, 0.2002, 0.1001]
    ratios = student[3:-1] / student[4:]
    assert torch.allclose(ratios, torch.full_like(ratios, 2.0))


@pytest.mark.parametrize("name", ["kim", "student"])
def test_counts_are_drawn_as_often_as_they_should(name):
    wanted, number = count_probabilities(name), 40_000
    found = torch.bincount(draw_counts(name, number, chance()), minlength=len(wanted)) / number
    assert ((found - wanted).abs() <= 5 * (wanted * (1 - wanted) / number).sqrt()).all()


# Which landmarks


def test_the_worst_is_corrected():
    scores = torch.tensor([[1.0, 5.0, 3.0, NAN], [2.0, NAN, NAN, 1.0]])
    chosen = chosen_rows(scores, torch.tensor([1, 1]), 1, chance())
    assert chosen.tolist() == [[False, True, False, False], [True, False, False, False]]
    assert chosen_rows(scores, torch.tensor([0, 9]), 1, chance()).sum(1).tolist() == [0, 2]


def test_one_of_the_ten_worst_is_corrected_each_as_often():
    scores = torch.arange(20.0).repeat(4000, 1)
    chosen = chosen_rows(scores, torch.ones(4000, dtype=torch.long), 10, chance())
    assert (chosen.sum(1) == 1).all() and not chosen[:, :10].any()
    assert ((chosen[:, 10:].float().mean(0) - 0.1).abs() < 0.03).all()


def test_rounds_correct_the_worst_that_has_no_hint_and_show_the_heatmaps():
    truth = torch.tensor([[[8.0, 8], [20, 8], [8, 20], [NAN, NAN]]])
    network = Known(truth.nan_to_num(5.0) + torch.tensor([[[0.0, 2], [6, 0], [0, 4], [0, 0]]])).train()
    batch = simulation(network, truth)
    for expected in ([False, True, False, False], [False, True, True, False], [True, True, True, False]):
        batch.correct(batch.predict(), torch.tensor([1]), 1, chance())
        assert torch.isfinite(batch.hinted[0, :, 0]).tolist() == expected
    batch.correct(batch.predict(), torch.tensor([1]), 1, chance())
    assert torch.isfinite(batch.hinted[0, :, 0]).tolist() == expected
    first, second = network.seen[0][0], network.seen[1][0]
    assert (first == 0).all()
    torch.testing.assert_close(second[:, :4], network(batch.inputs, first).sigmoid())
    torch.testing.assert_close(second[0, 5], hint_maps(truth, (32, 32), 2.0)[0, 1])


@pytest.mark.parametrize("hints_first", [True, False])
def test_simulated_rounds_run_in_evaluation_mode_without_gradients(hints_first):
    network = Known(torch.full((4, 3, 2), 9.0)).train()
    for seed in range(8):
        interact(simulation(network, torch.rand(4, 3, 2) * 30), Interaction(hints_first=hints_first), chance(seed))
    assert len(network.seen) >= 4 and network.training
    assert not any(training or gradients for _, training, gradients in network.seen)


def test_hints_come_before_or_only_after_the_first_prediction():
    truth = torch.rand(64, 12, 2) * 30
    numbers = {True: [], False: []}
    for hints_first, shown in numbers.items():
        network = Known(truth + 1)
        options = Interaction("student", hints_first, among=10, rounds=0)
        maps = interact(simulation(network, truth), options, chance(3))
        hinted = (maps[:, 12:].flatten(2).amax(-1) > 0).sum(1)
        assert hinted.max() > 2 and (hinted == 0).any()
        shown.append(len(network.seen))
        if not hints_first:
            assert (network.seen[0][0] == 0).all()
            previous = maps[:, :12].flatten(1).amax(1)
            assert torch.equal(previous > 0, hinted > 0)
    assert numbers == {True: [0], False: [1]}


@pytest.mark.parametrize(("policy", "expected"), [("all", [1, 1]), ("hinted", [1, 0]), ("none", [0, 0])])
def test_policies_choose_which_previous_maps_are_seen(policy, expected):
    hinted = torch.tensor([[[3.0, 4.0], [NAN, NAN]]])
    heatmaps = torch.rand(1, 2, 8, 6) + 0.1
    maps = interaction_maps(hinted, heatmaps, (6, 8), 1.0, policy)
    assert maps.shape == (1, 4, 8, 6)
    torch.testing.assert_close(maps[:, :2], heatmaps * torch.tensor(expected).view(1, 2, 1, 1))
    torch.testing.assert_close(maps[:, 2:], hint_maps(hinted, (6, 8), 1.0))
    assert (interaction_maps(hinted, None, (6, 8), 1.0, policy)[:, :2] == 0).all()


def test_names_that_do_not_exist_are_refused():
    for wrong, sentence in (({"previous": "some"}, "hinted, all, none"), ({"counts": "kin"}, "kim, student")):
        with pytest.raises(LandmarkDetectionError, match=sentence):
            Interaction(**wrong)


def test_errors_by_clicks_count_hints_as_right_and_landmarks_once():
    truth = torch.tensor([[[8.0, 8], [20, 8], [8, 20]]])
    network = Known(truth + torch.tensor([[[0.0, 3], [6, 0], [0, 0]]]))
    batch = simulation(network, truth)
    batch.scales = torch.tensor([[2.0, 1.0]])
    curve = errors_by_clicks(batch, 3, "argmax")
    torch.testing.assert_close(curve[:, 0], torch.tensor([15 / 3, 3 / 3, 0.0, 0.0]))
    assert mean_after(curve, [0, 1]) == pytest.approx(3.0)


# Augmentation


def bright_dots(points: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return hint_maps(points, size, 1.5).amax(dim=1, keepdim=True)


@pytest.mark.parametrize("keep_proportions", [True, False])
def test_points_move_with_the_image(keep_proportions):
    points = torch.tensor([[[30.0, 50.0]]]).repeat(12, 1, 1) + torch.rand(12, 1, 2, generator=chance(5)) * 8
    scales = torch.tensor([[5.0, 9.0]]).repeat(12, 1)
    augmentation = IkemAugmentation(torch.tensor([0]), keep_proportions, appearance_probability=0.0)
    images, moved = augmentation(bright_dots(points, (64, 128)), points, scales, chance(2))
    inside = (moved > 6).all(-1) & (moved < torch.tensor([57.0, 121.0])).all(-1)
    weights = images.flatten(1)
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(64.0), indexing="ij")
    found = torch.stack([(weights @ grid.flatten()) / weights.sum(1) for grid in (columns, rows)], dim=-1)
    assert inside.sum() >= 10 and (moved - points).norm(dim=-1).max() > 5
    assert (found - moved[:, 0])[inside[:, 0]].abs().max() < 0.15


def test_rotations_are_rigid_on_the_film_and_keep_it_in_view():
    """Whatever the network's proportions: only the size changes, evenly, and no corner is lost."""
    scales = torch.tensor([[7.0, 4.0], [3.0, 5.0]]).repeat(10, 1)
    corners = torch.tensor([[-0.5, -0.5], [63.5, -0.5], [-0.5, 127.5], [63.5, 127.5]]).repeat(20, 1, 1)
    options = STILL | {"rotation_probability": 1.0}
    for keep_proportions in (True, False):
        augmentation = IkemAugmentation(torch.arange(4), keep_proportions, **options)
        _, moved = augmentation(torch.zeros(20, 1, 128, 64), corners, scales, chance())
        assert (moved > -0.51).all() and (moved < torch.tensor([63.51, 127.51])).all()
        before, after = (points * scales[:, None] for points in (corners, moved))
        ratio = (after[:, 1:] - after[:, :1]).norm(dim=-1) / (before[:, 1:] - before[:, :1]).norm(dim=-1)
        assert (ratio.std(dim=1).max() < 1e-4) == keep_proportions


def test_scale_really_changes():
    points = torch.tensor([[[20.0, 30.0], [40.0, 90.0]]]).repeat(200, 1, 1)
    options = STILL | {"scale_probability": 1.0}
    _, moved = IkemAugmentation(torch.arange(2), False, **options)(
        torch.zeros(200, 1, 128, 64), points, torch.ones(200, 2), chance()
    )
    zoom = (moved[:, 1] - moved[:, 0]).norm(dim=-1) / (points[:, 1] - points[:, 0]).norm(dim=-1)
    assert 0.9 <= zoom.min() < 0.92 and 1.18 < zoom.max() <= 1.2


def test_flips_rename_left_and_right_unless_told_not_to():
    points = torch.tensor([[[10.0, 20.0], [50.0, 24.0], [30.0, 60.0]]])
    mirror = torch.tensor([1, 0, 2])
    options = STILL | {"flip_probability": 1.0}
    images, scales = bright_dots(points, (64, 64)), torch.ones(1, 2)
    flipped, swapped = IkemAugmentation(mirror, False, **options)(images, points, scales, chance())
    torch.testing.assert_close(flipped, images.flip(-1))
    torch.testing.assert_close(swapped, torch.tensor([[[13.0, 24.0], [53.0, 20.0], [33.0, 60.0]]]))
    _, kept = IkemAugmentation(mirror, False, **options, swap_mirror_pairs=False)(images, points, scales, chance())
    torch.testing.assert_close(kept, torch.tensor([[[53.0, 20.0], [13.0, 24.0], [33.0, 60.0]]]))


def test_appearance_changes_gray_values_only():
    images, points = torch.rand(8, 1, 16, 16), torch.rand(8, 2, 2)
    options = STILL | {"appearance_probability": 1.0}
    changed, kept = IkemAugmentation(torch.arange(2), False, **options)(images, points, torch.ones(8, 2), chance())
    torch.testing.assert_close(kept, points)
    assert changed.min() >= 0 and changed.max() <= 1
    assert ((changed - images).abs().mean((1, 2, 3)) > 0.005).all()
    same, _ = IkemAugmentation(torch.arange(2), False, **STILL)(images, points, torch.ones(8, 2), chance())
    torch.testing.assert_close(same, images)


# The objective, with a real network


@pytest.fixture
def objective() -> InteractiveHeatmaps:
    """Films of noise: landmark 0 cannot be known without a hint, landmark 1 lies beside it."""
    torch.manual_seed(7)
    first = 6 + torch.rand(48, 1, 2) * torch.tensor([10.0, 20.0])
    points = torch.cat([first, first + torch.tensor([8.0, 0.0])], dim=1)
    images = (255 * torch.rand(48, 1, 32, 32)).to(torch.uint8)
    names = tuple(str(row) for row in range(48))
    films = IkemFilms(images, points, torch.full((48, 2), 2.0), names, names)
    return InteractiveHeatmaps(
        films=films.select([row < 40 for row in range(48)]),
        kept_out=films.select([row >= 40 for row in range(48)]),
        plan=IkemPlan(size=(32, 32), hint_deviation=2.0, channels=1),
        augmentation=IkemAugmentation(torch.arange(2), False, **STILL),
        criterion=IkemLoss(2.0),
        interaction=Interaction(),
        batch=8,
        stride=1,
        clicks=(0, 1),
        decoding="local",
    )


def tiny_unet() -> HintUNet:
    torch.manual_seed(3)
    return HintUNet(1, 2, width=8, depth=2, gate_width=8)


def test_validation_changes_nothing_in_the_network(objective):
    """Not even the statistics of batch normalization of a network that is being trained; a training step does."""
    network = tiny_unet().train()
    before = copy.deepcopy(network.state_dict())
    first = objective.validate(network)
    assert network.training and all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert objective.validate(network) == first
    objective.loss(network, chance())
    changed = [name for name, value in network.state_dict().items() if not torch.equal(before[name], value)]
    assert changed and all("running" in name or "num_batches" in name for name in changed)
    counts = {int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {1}


def test_a_pass_takes_every_film_once(objective):
    generator = chance()
    rows = sum((objective.next_rows(generator) for _ in range(5)), start=[])
    assert sorted(rows) == list(range(40))
    objective.next_rows(generator)
    again = [objective.next_rows(chance(5)) for _ in range(2)]
    assert again[0] == again[1]


def test_a_network_learns_to_follow_a_hint(objective):
    """Noise says nothing, so the error before any click stays; one click repairs both landmarks."""
    network = tiny_unet().train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = chance(1)
    for _ in range(150):
        optimizer.zero_grad()
        objective.loss(network, generator).backward()
        optimizer.step()
    curves = objective.curves(network, objective.kept_out, 1).mean(dim=1)
    manual = curves[0] / 2
    assert curves[0] > 8 and curves[1] < 0.35 * manual
