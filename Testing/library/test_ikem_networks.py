"""The interactive networks against their published parameter counts, and what hints do in them, in both dimensions."""

from __future__ import annotations

import pytest
import torch
from LandmarkDetectionLib.networks.gating import InteractionGate
from LandmarkDetectionLib.networks.hint_unet import HintUNet
from LandmarkDetectionLib.networks.hints import hint_maps
from LandmarkDetectionLib.networks.hrnet_ocr import HRNetOCR
from LandmarkDetectionLib.networks.ocr import ContextHead

HRNET, HRNET_UNGATED, GATE, UNET = 32_942_889, 31_002_937, 1_939_952, 32_548_261


def small(kind: str, **more) -> torch.nn.Module:
    """One of the two networks, a thousandth of its size."""
    if kind == "unet":
        return HintUNet(1, 3, width=4, depth=2, gate_width=8, **more)
    return HRNetOCR(1, 3, width=4, stem=4, modules=(1, 1, 1), blocks=1, gate_width=8, context=8, **more)


def settled(kind: str, dims: int = 2) -> torch.nn.Module:
    """A network in evaluation mode whose normalizations fit its random weights, so that signals pass through it."""
    network = small(kind, dims=dims)
    for module in network.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(4, 1, *[32] * dims), torch.rand(4, 6, *[32] * dims))
    return network.eval()


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_published_ones():
    network = HRNetOCR()
    assert parameters(network) == HRNET
    assert parameters(network.gate) == GATE == HRNET - HRNET_UNGATED
    assert parameters(HRNetOCR(gate=False)) == HRNET_UNGATED
    assert parameters(HintUNet()) == UNET


def test_the_gate_sees_hints_without_the_previous_maps():
    assert parameters(InteractionGate(2, 256, 68, 480)) == GATE
    assert parameters(InteractionGate(2, 256, 13, 480)) == GATE - (68 - 13) * 256 * 9


@pytest.mark.parametrize("kind", ["unet", "hrnet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_both_dimensions_come_from_one_definition(kind, dims):
    """Logits lie on the pixels of the image; decoding what was encoded is the whole network."""
    torch.manual_seed(0)
    network = settled(kind, dims)
    size = (32, 64, 32)[:dims]
    image, hints = torch.randn(2, 1, *size), torch.rand(2, 6, *size)
    assert (network.hint_channels, network.hint_stride) == (6, 1)
    encoded = network.encode(image)
    assert encoded.shape == (2, 4, *(n // 2 for n in size))
    with torch.no_grad():
        logits = network(image, hints)
        assert logits.shape == (2, 3, *size)
        torch.testing.assert_close(network.decode(encoded, hints), logits)
        assert (network(image, 1 - hints) - logits).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["unet", "hrnet"])
def test_no_hints_are_zeros(kind):
    torch.manual_seed(1)
    network = settled(kind)
    image = torch.randn(1, 1, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), network(image, torch.zeros(1, 6, 64, 32)))


@pytest.mark.parametrize("kind", ["unet", "hrnet"])
def test_any_size_runs(kind):
    network = settled(kind)
    with torch.no_grad():
        assert network(torch.randn(1, 1, 50, 37), torch.zeros(1, 6, 50, 37)).shape == (1, 3, 50, 37)


@pytest.mark.parametrize("kind", ["unet", "hrnet"])
def test_hints_enter_by_the_fusion_and_the_gate_only(kind):
    """Previous maps by the fusion alone: with its scale at zero they do nothing, and without a gate hints neither."""
    torch.manual_seed(2)
    image, hints = torch.randn(1, 1, 32, 32), torch.rand(1, 6, 32, 32)
    network = settled(kind)
    network.stem.fusion.scale.data.zero_()
    before, after = hints.clone(), hints.clone()
    before[:, :3] = 0
    after[:, 3:] = 0
    with torch.no_grad():
        torch.testing.assert_close(network(image, hints), network(image, before))
        assert not torch.allclose(network(image, hints), network(image, after), atol=1e-6)
        network.gate = None
        torch.testing.assert_close(network(image, hints), network(image, after))


def test_the_gate_weighs_whole_channels_between_zero_and_one():
    torch.manual_seed(3)
    gate = InteractionGate(2, 4, 2, 6, width=8).eval()
    early, features = torch.randn(1, 4, 16, 16), torch.rand(1, 6, 8, 8) + 1
    with torch.no_grad():
        none = gate(early, torch.zeros(1, 2, 64, 64), features) / features
        some = gate(early, torch.ones(1, 2, 64, 64), features) / features
    assert ((none > 0) & (none < 1)).all() and none.flatten(2).std(dim=-1).max() < 1e-6
    assert (none - some).abs().max() > 1e-3


def test_the_auxiliary_output_comes_when_asked_for_and_all_parameters_learn():
    torch.manual_seed(4)
    network = small("hrnet")
    final, coarse = network(torch.randn(2, 1, 64, 64), torch.rand(2, 6, 64, 64), auxiliary=True)
    assert final.shape == coarse.shape == (2, 3, 64, 64)
    (final.square().mean() + coarse.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    unet = small("unet")
    unet(torch.randn(2, 1, 64, 64), torch.rand(2, 6, 64, 64)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in unet.parameters())


def test_regions_are_shares_of_cells():
    """What is added to all coarse logits of a landmark does not change its region, so not the final logits."""
    torch.manual_seed(5)
    head = ContextHead(2, 8, 3, 8, 4).eval()
    features = torch.randn(2, 8, 6, 5)
    with torch.no_grad():
        final, coarse = head(features)
        head.coarse[-1].bias += torch.tensor([3.0, -2.0, 0.5])
        again, shifted = head(features)
    torch.testing.assert_close(again, final)
    torch.testing.assert_close(shifted - coarse, torch.tensor([3.0, -2.0, 0.5]).view(1, 3, 1, 1).expand_as(coarse))


@pytest.mark.parametrize("size", [(9, 7), (5, 6, 7)])
def test_hint_maps_are_gaussians_of_height_one(size):
    points = torch.rand(2, 3, len(size)) * 5
    points[0, 1] = torch.nan
    maps = hint_maps(points, size, 1.5)
    assert maps.shape == (2, 3, *reversed(size))
    assert (maps[0, 1] == 0).all() and torch.isfinite(maps).all()
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in reversed(size)), indexing="ij")
    squared = sum((axis - value) ** 2 for axis, value in zip(reversed(axes), points[1, 2], strict=True))
    torch.testing.assert_close(maps[1, 2], torch.exp(-squared / (2 * 1.5**2)))
