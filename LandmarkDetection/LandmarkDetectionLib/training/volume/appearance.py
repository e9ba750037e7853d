"""Changes of scanner and body that volumes show, on batches ``(B, 1, D, H, W)`` of zero mean and unit deviation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..data.appearance import uniform

_EACH = (-1, 1, 1, 1, 1)


def contrast(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Another window, density of bone or signal."""
    count = len(volume)
    factor = torch.exp(uniform((count,), -0.4, 0.4, generator)).view(_EACH)
    return volume * factor + uniform((count,), -0.35, 0.35, generator).view(_EACH)


def curve(volume: Tensor, generator: torch.Generator) -> Tensor:
    """A bent scale of grays, rising throughout: tissues move against each other."""
    count = len(volume)
    power = torch.exp(uniform((count,), -0.5, 0.5, generator)).view(_EACH)
    low, high = volume.amin(dim=(1, 2, 3, 4), keepdim=True), volume.amax(dim=(1, 2, 3, 4), keepdim=True)
    extent = (high - low).clamp(min=1e-3)
    return ((volume - low) / extent).clamp(min=0) ** power * extent + low


def thick_slices(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Slices of up to four voxels along one axis: averaged, and interpolated back."""
    axis = int(torch.randint(3, (), generator=generator))
    size = list(volume.shape[2:])
    few = list(size)
    few[axis] = max(8, round(size[axis] / float(uniform((), 1.3, 4.0, generator))))
    return functional.interpolate(functional.interpolate(volume, size=few, mode="area"), size=size, mode="trilinear")


def blur(volume: Tensor, generator: torch.Generator) -> Tensor:
    """A soft kernel of the reconstruction."""
    once = functional.avg_pool3d(functional.pad(volume, (1,) * 6, mode="replicate"), 3, stride=1)
    share = uniform((len(volume),), 0.3, 1.0, generator).view(_EACH)
    return volume + share * (once - volume)


def uneven(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Organs, contrast medium and coil sensitivity: smooth fields of two scales, added and multiplied."""
    for cells, strength in ((3, 0.25), (9, 0.25)):
        coarse = torch.randn((len(volume), 1, cells, cells, cells), generator=generator)
        field = functional.interpolate(coarse, size=volume.shape[2:], mode="trilinear", align_corners=True)
        field = field * uniform((len(volume),), 0.0, strength, generator).view(_EACH)
        volume = volume * (1 + 0.6 * field) + field
    return volume


def noise(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Quantum noise or that of the receiver."""
    return volume + uniform((len(volume),), 0.0, 0.35, generator).view(_EACH) * torch.randn(
        volume.shape, generator=generator
    )


def objects(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes of one gray each: implants, contrast medium, bowel, what else no phantom shows."""
    volume = volume.clone()
    for one in volume[:, 0]:
        for _ in range(int(torch.randint(1, 5, (), generator=generator))):
            sides = [int(uniform((), 0.05, 0.3, generator) * n) + 1 for n in one.shape]
            starts = [int(torch.rand((), generator=generator) * (n - s)) for n, s in zip(one.shape, sides, strict=True)]
            place = tuple(slice(a, a + s) for a, s in zip(starts, sides, strict=True))
            one[place] = one[place] * 0.2 + float(uniform((), -2.0, 2.5, generator))
    return volume


def softened(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Walls of bone that hardly stand out, as in thick slices and old bones: half the windows, blurred and capped."""
    rows = torch.nonzero(torch.rand(len(volume), generator=generator) < 0.5)[:, 0]
    if not len(rows):
        return volume
    some = volume[rows]
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        some = functional.avg_pool3d(functional.pad(some, (1,) * 6, mode="replicate"), 3, stride=1)
    top = uniform((len(some),), 0.6, 2.5, generator).view(_EACH)
    return volume.index_copy(0, rows, torch.minimum(some, top))


CHANGES = (
    (uneven, 0.5), (curve, 0.5), (contrast, 0.8), (objects, 0.35), (blur, 0.3), (thick_slices, 0.4), (noise, 0.6),
)  # fmt: skip
"""Changes and their probabilities, in the order in which a volume comes to be."""


def vary_appearance(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Windows after a random choice of changes, each drawn for each window."""
    for change, probability in CHANGES:
        rows = torch.nonzero(torch.rand(len(volume), generator=generator) < probability)[:, 0]
        if len(rows):
            volume = volume.index_copy(0, rows, change(volume[rows], generator))
    return volume
