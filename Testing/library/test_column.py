"""Vertebrae from maps, and their names from the chain, on columns that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.inference.chain import ChainWeights, Told, completed, level_doubt, link, shift_probability
from LandmarkDetectionLib.inference.names import claimed, left
from LandmarkDetectionLib.inference.vertebrae import SeenMaps, Vertebrae, find_vertebrae
from LandmarkDetectionLib.networks.hints import HintFusion, hint_maps
from LandmarkDetectionLib.networks.hourglass import Hourglass
from LandmarkDetectionLib.networks.vertebra_maps import OFFSET_UNIT, VertebraMaps, channels
from LandmarkDetectionLib.training.column.vertebra_loss import focal_loss, vertebra_loss

LEVELS, SIZE = 17, (56, 112)
WEIGHTS = ChainWeights()


def column(bend: float = 4.0, first: float = 4.0, pitch: float = 6.2) -> np.ndarray:
    """(17, 4, 2) corners in cells of a column bent to one side."""
    middle = first + pitch * np.arange(LEVELS)
    x = 28 + bend * np.sin(middle / 25)
    tilt = np.arctan(bend / 25 * np.cos(middle / 25))
    half = np.array([[-4.0, -2.2], [4.0, -2.2], [-4.0, 2.2], [4.0, 2.2]])
    turn = np.stack([np.stack([np.cos(tilt), -np.sin(tilt)], -1), np.stack([np.sin(tilt), np.cos(tilt)], -1)], 1)
    return np.einsum("kc,lcd->lkd", half, turn) + np.stack([x, middle], -1)[:, None]


def output(quads: np.ndarray, shown: np.ndarray, named: np.ndarray) -> torch.Tensor:
    """What a network says that sees the vertebrae ``shown`` and takes them for the levels ``named``."""
    maps = torch.full((1, channels(LEVELS), *SIZE[::-1]), -6.0)
    cells = np.stack(np.meshgrid(*map(np.arange, SIZE)), -1)
    maps[0, 5:13] = 0.0
    for vertebra, level in zip(shown, named, strict=True):
        quad = quads[vertebra]
        centre = quad.mean(0)
        near = ((cells - centre) ** 2).sum(-1)
        maps[0, 0] = torch.maximum(maps[0, 0], torch.from_numpy(2.0 - near).float())
        for corner in range(4):
            apart = quad[corner] - cells
            bump = torch.from_numpy(6 - 0.5 * (apart**2).sum(-1)).float()
            maps[0, 1 + corner] = torch.maximum(maps[0, 1 + corner], bump)
            mask = torch.from_numpy(near < 6)
            for axis in range(2):
                maps[0, 5 + 2 * corner + axis][mask] = torch.from_numpy(apart[..., axis] / OFFSET_UNIT).float()[mask]
        maps[0, 13 + level][torch.from_numpy(near < 6)] = 0.0
    return maps


def read(quads, shown, named, told=(), top=-0.5, bottom=111.5):
    vertebrae = find_vertebrae(SeenMaps.mean([output(quads, shown, named)]))
    return vertebrae, link(vertebrae, told, top, bottom, WEIGHTS)


def test_vertebrae_are_found_where_they_are():
    quads, rows = column(), np.arange(LEVELS)
    vertebrae, chain = read(quads, rows, rows)
    found, seen = completed(chain.members, vertebrae.corners)
    assert seen.all()
    np.testing.assert_allclose(found, quads, atol=0.2)
    assert chain.probability > 0.95 and shift_probability(chain) < 0.05
    assert (level_doubt(chain, vertebrae) < 0.5).all()
    assert (np.linalg.eigvalsh(vertebrae.covariances) > 0).all()


def test_one_wrong_name_is_outvoted_by_the_chain():
    quads, rows = column(), np.arange(LEVELS)
    named = rows.copy()
    named[[3, 9]] = 4, 12
    vertebrae, chain = read(quads, rows, named)
    np.testing.assert_allclose(completed(chain.members, vertebrae.corners)[0], quads, atol=0.2)


def test_a_vertebra_that_is_not_seen_leaves_its_level_between_its_neighbors():
    quads = column(bend=0.0)
    shown = np.delete(np.arange(LEVELS), 6)
    vertebrae, chain = read(quads, shown, shown)
    found, seen = completed(chain.members, vertebrae.corners)
    assert seen.sum() == LEVELS - 1 and not seen[6]
    np.testing.assert_allclose(found, quads, atol=0.5)


def test_a_corner_that_the_user_set_moves_the_whole_chain():
    quads = column()
    rows = np.arange(LEVELS)
    vertebrae, chain = read(quads, rows[:-1], rows[:-1], bottom=103.0)
    assert (chain.members[:-1] >= 0).all() and chain.members[-1] < 0
    told = [Told(8, 0, quads[7, 0], WEIGHTS.contradiction)]
    unsure = output(quads, rows[:-1], rows[:-1])
    unsure[:, 13:] = torch.maximum(unsure[:, 13:], output(quads, rows[:-1], rows[1:])[:, 13:] - 1.0)
    vertebrae = find_vertebrae(SeenMaps.mean([unsure]))
    assert (link(vertebrae, (), -0.5, 103.0, WEIGHTS).members == chain.members).all()
    moved = link(vertebrae, told, -0.5, 103.0, WEIGHTS)
    found, seen = completed(moved.members, vertebrae.corners)
    assert seen[1:].all()
    np.testing.assert_allclose(found[1:], quads[:-1], atol=0.2)
    far = [Told(8, 0, np.array([2.0, 2.0]), WEIGHTS.contradiction)]
    _, same = read(quads, rows[:-1], rows[:-1], far, bottom=103.0)
    assert (same.members == chain.members).all()


@pytest.mark.parametrize(("level", "vertebra"), [(16, 0), (0, 16), (7, 2), (2, 7)])
def test_a_level_that_is_given_a_vertebra_leaves_the_others_in_order(level, vertebra):
    """A name is taken out of the list and put in elsewhere: those between move by one, in the order of the column."""
    quads, rows = column(), np.arange(LEVELS)
    undecided = output(quads, rows, rows)
    undecided[:, 13:] = 0.0
    vertebrae = find_vertebrae(SeenMaps.mean([undecided]))
    at = int(np.linalg.norm(vertebrae.centres - quads[vertebra].mean(axis=0), axis=1).argmin())
    chain = link(vertebrae, (), -0.5, 111.5, WEIGHTS, {level: at})
    wanted = np.delete(rows, vertebra).tolist()
    wanted.insert(level, vertebra)
    found, seen = completed(chain.members, vertebrae.corners, chain.given)
    assert seen.all() and chain.given == (level,) and (chain.members == at).sum() == 1
    np.testing.assert_allclose(found, quads[wanted], atol=0.2)
    assert chain.marginals[level, at] == 1.0 and chain.marginals[:, at].sum() == pytest.approx(1.0)


def test_a_vertebra_seen_twice_has_one_name_all_the_same():
    quads, rows = column(), np.arange(LEVELS)
    vertebrae = find_vertebrae(SeenMaps.mean([output(quads, rows, rows)]))
    at = int(np.linalg.norm(vertebrae.centres - quads[0].mean(axis=0), axis=1).argmin())
    twice = Vertebrae(**{k: np.concatenate([v, v[[at]]]) for k, v in vars(vertebrae).items()})
    twice.corners[-1] += 0.5
    chain = link(twice, (), -0.5, 111.5, WEIGHTS, {16: at})
    assert len(vertebrae.presence) not in chain.members and (chain.members == at).sum() == 1


def test_levels_that_were_not_seen_are_not_continued_from_one_out_of_order():
    quads = column(bend=0.0)
    members = np.arange(LEVELS)
    members[[15, 16]] = -1, 0
    found, seen = completed(members, quads, (16,))
    assert not seen[15] and seen[16]
    np.testing.assert_allclose(found[15], 2 * quads[14] - quads[13])
    np.testing.assert_allclose(found[16], quads[0])


def test_everything_given_or_nothing_left_to_link_is_still_a_chain():
    quads, rows = column(), np.arange(LEVELS)
    vertebrae, _ = read(quads, rows[:1], rows[:1])
    chain = link(vertebrae, (), -0.5, 111.5, WEIGHTS, {16: 0})
    assert chain.members[16] == 0 and (chain.members[:16] < 0).all() and chain.score == 0.0
    vertebrae, _ = read(quads, rows, rows)
    chain = link(vertebrae, (), -0.5, 111.5, WEIGHTS, {level: level for level in range(LEVELS)})
    assert (chain.members == rows).all()


def test_points_of_the_user_claim_the_vertebra_on_which_they_lie():
    quads, rows = column(), np.arange(LEVELS)
    vertebrae, chain = read(quads, rows, rows)
    height = np.linalg.norm(quads[3, 2:].mean(0) - quads[3, :2].mean(0))
    on, off = (Told(16, 0, quads[3, 0] + [share * height, 0.0], 0.0) for share in (0.5, 0.8))
    assert claimed(vertebrae, [on], WEIGHTS) == {16: chain.members[3]}
    assert claimed(vertebrae, [off], WEIGHTS) == {} == claimed(vertebrae, [], WEIGHTS)
    # Two names for one vertebra: the nearer point decides, and the other name is left without one.
    nearer = Told(15, 1, quads[3, 1] + 0.1, 0.0)
    assert claimed(vertebrae, [on, nearer], WEIGHTS) == {15: chain.members[3]}
    both = claimed(vertebrae, [on, Told(15, 2, quads[4, 2], 0.0)], WEIGHTS)
    assert both == {16: chain.members[3], 15: chain.members[4]}


def test_a_name_put_elsewhere_moves_those_between_up():
    quads, rows = column(), np.arange(LEVELS)
    vertebrae, chain = read(quads, rows, rows)
    homes = left(vertebrae, quads, {16: int(chain.members[0])}, WEIGHTS)
    assert homes == {level: level + 1 for level in range(16)}
    homes = left(vertebrae, quads, {2: int(chain.members[7])}, WEIGHTS)
    assert homes == {level: level + (3 <= level <= 7) * -1 for level in range(LEVELS) if level != 2}
    nowhere = quads.copy()
    nowhere[3] = np.nan  # that vertebra had no name: nobody has to leave
    homes = left(vertebrae, nowhere, {16: int(chain.members[3])}, WEIGHTS)
    assert homes == {level: level for level in range(16)}


@pytest.mark.parametrize("kept", [slice(0, 9), slice(6, LEVELS)])
def test_a_cut_off_column_keeps_its_levels(kept):
    quads, rows = column(), np.arange(LEVELS)[kept]
    top, bottom = quads[rows[0]].min(axis=0)[1] - 1, quads[rows[-1]].max(axis=0)[1] + 1
    vertebrae, chain = read(quads, rows, rows, top=top, bottom=bottom)
    np.testing.assert_array_equal(np.flatnonzero(chain.members >= 0), rows)
    found, _ = completed(chain.members, vertebrae.corners)
    np.testing.assert_allclose(found[rows], quads[rows], atol=0.2)
    beyond = np.delete(np.arange(LEVELS), rows)
    heights = found[beyond].mean(axis=1)[:, 1]
    assert ((heights < top) | (heights > bottom)).all()


def test_an_undecided_network_says_so():
    quads, rows = column(), np.arange(LEVELS)
    both = output(quads, rows[:-1], rows[:-1])
    both[:, 13:] = torch.maximum(both[:, 13:], output(quads, rows[:-1], rows[1:])[:, 13:])
    vertebrae = find_vertebrae(SeenMaps.mean([both]))
    chain = link(vertebrae, (), -0.5, 103.0, WEIGHTS)
    assert chain.probability < 0.9 and shift_probability(chain) > 0.1
    assert level_doubt(chain, vertebrae)[1:-1].min() > 0.5


def test_nothing_seen_is_no_chain():
    vertebrae = find_vertebrae(SeenMaps.mean([torch.full((1, channels(LEVELS), 112, 56), -9.0)]))
    chain = link(vertebrae, (), -0.5, 111.5, WEIGHTS)
    assert (chain.members < 0).all() and chain.probability == 0.0
    assert np.isnan(completed(chain.members, vertebrae.corners)[0]).all()


def test_the_loss_is_least_for_the_true_maps():
    quads, rows = column(), np.arange(LEVELS)
    truth = torch.from_numpy(quads.reshape(1, -1, 2)).float()
    right = vertebra_loss(VertebraMaps.split(output(quads, rows, rows)), truth)
    for wrong in (output(quads + 1.5, rows, rows), output(quads, rows, rows[::-1]), output(quads, rows[:9], rows[:9])):
        assert vertebra_loss(VertebraMaps.split(wrong), truth) > right + 0.3
    absent = torch.full_like(truth, torch.nan)
    empty = VertebraMaps.split(torch.full((1, channels(LEVELS), 112, 56), -9.0))
    assert vertebra_loss(empty, absent) < 1e-3 < vertebra_loss(VertebraMaps.split(output(quads, rows, rows)), absent)


def test_focal_loss_of_a_perfect_map_is_zero_and_falls_with_distance():
    centres = torch.tensor([[[10.0, 20.0], [torch.nan, torch.nan]]])
    maps = torch.full((1, 112, 56), -20.0)
    maps[0, 20, 10] = 20.0
    assert float(focal_loss(maps, centres)) < 1e-5
    for apart in (1, 4):
        wrong = maps.clone()
        wrong[0, 20 + apart, 10] = 20.0
        assert float(focal_loss(wrong, centres)) > (0.1 if apart == 1 else 10)


@pytest.mark.parametrize("dims", [2, 3])
def test_hints_change_the_answer_only_after_the_features(dims):
    torch.manual_seed(0)
    network = Hourglass(1, 5, width=4, depth=2, hint_channels=3, dims=dims).eval()
    image = torch.randn(1, 1, *(32,) * dims)
    points = torch.full((1, 3, dims), torch.nan)
    points[0, 1] = 4.25
    hints = hint_maps(points, (8,) * dims, 1.5)
    assert hints.shape == (1, 3, *(8,) * dims) and not hints[:, [0, 2]].any()
    assert float(hints.max()) == pytest.approx(np.exp(-0.5 * dims * 0.25**2 / 1.5**2))
    encoded = network.encode(image)
    assert torch.equal(network(image), network.decode(encoded))
    assert torch.equal(network(image, hints), network.decode(encoded, hints))
    assert not torch.allclose(network(image, hints), network(image))
    assert isinstance(network.fusion, HintFusion) and float(network.fusion.scale.detach()) == pytest.approx(0.05)
