"""The hourglass against the parameter counts of the published KNEEL networks, in two and three dimensions."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from LandmarkDetectionLib.networks.blocks import BottleneckBlock, SqueezeExcitation
from LandmarkDetectionLib.networks.hourglass import Hourglass, HourglassModule

# (depth, block, projection kernel): parameters with 16 landmarks and with one, three input channels, width 24
PUBLISHED = {
    (4, "hmp", 3): (4_252_432, 4_250_977),
    (4, "hmp", 1): (3_026_704, 3_025_249),
    (6, "hmp", 3): (5_907_280, 5_905_825),
    (6, "hmp", 1): (4_386_640, 4_385_185),
    (4, "bottleneck", 3): (6_958_480, 6_957_025),
}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("variant", "expected"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(variant, expected):
    depth, block, kernel = variant
    many = Hourglass(3, 16, depth=depth, block=block, proj_kernel=kernel)
    one = Hourglass(3, 1, depth=depth, block=block, proj_kernel=kernel)
    assert (parameters(many), parameters(one)) == expected
    assert parameters(many) - parameters(one) == 15 * 97


def test_default_is_the_paper_with_true_projections():
    assert parameters(Hourglass(3, 16)) == PUBLISHED[4, "hmp", 1][0]


@pytest.mark.parametrize(("landmarks", "expected"), [(16, 6_266_992), (1, 6_265_537)])
def test_recursion_keeps_the_block_unlike_the_original(landmarks, expected):
    """The original lost the multi-scale block below the first level until four days after its released snapshots."""
    network = Hourglass(3, landmarks, proj_kernel=3)
    ours = parameters(network)
    plain = partial(BottleneckBlock, 2, proj_kernel=3)
    network.hourglass.deeper = HourglassModule(plain, 2, 24, 3, "bilinear")
    assert parameters(network) == expected
    assert ours == PUBLISHED[4, "hmp", 3][0 if landmarks == 16 else 1]
    assert not any(isinstance(module, BottleneckBlock) for module in Hourglass(3, landmarks, proj_kernel=3).modules())


def test_every_recursion_adds_the_same_parameters():
    counts = [parameters(Hourglass(1, 2, width=8, depth=depth)) for depth in (1, 2, 3, 4)]
    steps = {deep - shallow for shallow, deep in itertools.pairwise(counts)}
    assert len(steps) == 1 and steps.pop() > 0


@pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(64, 64), (450, 450), (101, 75), (57, 130)])
def test_any_size_runs_with_either_upsampling(upsample, size):
    network = Hourglass(1, 3, width=8, depth=4, upsample=upsample).eval()
    with torch.inference_mode():
        logits = network(torch.randn(1, 1, *size))
    # The first convolution rounds up, the first pooling down, as in the published network: 450 -> 225 -> 112.
    assert logits.shape == (1, 3, *((side + 1) // 2 // 2 for side in size))
    assert torch.isfinite(logits).all()


def test_nearest_and_bilinear_share_weights_but_not_results():
    torch.manual_seed(0)
    bilinear = Hourglass(1, 2, width=8, depth=2).eval()
    nearest = Hourglass(1, 2, width=8, depth=2, upsample="nearest").eval()
    nearest.load_state_dict(bilinear.state_dict())
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(bilinear(image), nearest(image))


def test_without_the_top_skip_the_grid_is_halved():
    full, half = Hourglass(1, 2, width=8, depth=2), Hourglass(1, 2, width=8, depth=2, top_skip=False)
    image = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        assert full.eval()(image).shape == (1, 2, 16, 24)
        assert half.eval()(image).shape == (1, 2, 8, 12)
    assert (full.stride, half.stride) == (4, 8)
    # Only the outermost skip is gone: its three blocks are all the difference there is.
    assert parameters(full) - parameters(half) == parameters(full.hourglass.upper)


def test_squeeze_excitation_reaches_every_block():
    without = Hourglass(1, 2, width=16, depth=3)
    gated = Hourglass(1, 2, width=16, depth=3, squeeze_excitation=True)
    gates = [module for module in gated.modules() if isinstance(module, SqueezeExcitation)]
    # Four entry blocks, eight at the deepest level and seven at each other one.
    assert len(gates) == 4 + 8 + 7 * 2
    assert parameters(gated) - parameters(without) == sum(parameters(gate) for gate in gates)


@pytest.mark.parametrize("block", ["hmp", "bottleneck"])
@pytest.mark.parametrize(("dims", "size"), [(2, (33, 48)), (3, (17, 24, 33))])
def test_one_definition_learns_in_two_and_three_dimensions(block, dims, size):
    torch.manual_seed(1)
    network = Hourglass(1, 2, width=8, depth=2, block=block, dims=dims, squeeze_excitation=True)
    logits = network(torch.randn(2, 1, *size))
    assert logits.shape == (2, 2, *((side + 1) // 4 for side in size))
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_three_dimensions_run_with_nearest_upsampling_too():
    network = Hourglass(1, 1, width=8, depth=2, upsample="nearest", dims=3).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 16, 20, 24)).shape == (1, 1, 4, 5, 6)


@pytest.mark.parametrize("dims", [2, 3])
def test_no_hints_are_hints_that_say_nothing(dims):
    torch.manual_seed(0)
    network = Hourglass(1, 4, width=4, depth=1, hint_channels=4, dims=dims).eval()
    image = torch.randn(2, 1, *[32] * dims)
    zeros = torch.zeros(2, 4, *[8] * dims)
    with torch.no_grad():
        assert torch.equal(network(image), network(image, zeros))
        assert not torch.allclose(network(image), network(image, zeros + 1))
