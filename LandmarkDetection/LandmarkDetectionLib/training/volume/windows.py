"""Random windows of scans: turned, scaled, cut off, with their landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...networks.layout import LAYOUT
from ..data.appearance import uniform
from .scans import Scan


@dataclass(frozen=True)
class WindowGeometry:
    """A window of ``size`` (w, h, d) voxels, ``step`` of a scan each, and how far training moves it.

    ``rotation`` in degrees about each axis, ``scale`` the logarithm of a factor, ``shift`` in voxels of the window
    along each axis: the standard deviation of the place that a stage before found, or half the range in which a window
    lies about the anatomy. A share ``cut`` of the windows shows a scan that ends in them, from ``nearest`` of half a
    window off the middle; less than 0 lets it end before.
    """

    size: tuple[int, int, int]
    step: float = 1.0
    rotation: float = 15.0
    scale: float = 0.2
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cut: float = 0.0
    nearest: float = 0.05

    def matrix(self, generator: torch.Generator, mirrored: bool = False) -> Tensor:
        """Window to scan, (3, 3), turned and scaled at random."""
        turned = rotation(torch.deg2rad(uniform((3,), -self.rotation, self.rotation, generator)))
        turned = self.step * turned * torch.exp(uniform((), -self.scale, self.scale, generator))
        return turned * torch.tensor([-1.0, 1.0, 1.0]) if mirrored else turned

    def moved(self, centre: Tensor, generator: torch.Generator) -> Tensor:
        """A place (3,) anywhere within ``shift`` of another."""
        return centre + uniform((3,), -1, 1, generator) * self.step * torch.tensor(self.shift)

    def misplaced(self, centre: Tensor, generator: torch.Generator, farthest: float = 2.5) -> Tensor:
        """A place (3,) as a stage before might have found it, at most ``farthest`` deviations off."""
        apart = torch.randn((3,), generator=generator).clamp(-farthest, farthest)
        return centre + apart * self.step * torch.tensor(self.shift)

    def limits(self, extent: Tensor, centre: Tensor, generator: torch.Generator) -> Tensor:
        """First and last index (2, 3) of the part of an ``extent`` that is shown: all, or to an end in the window."""
        limits = extent.clone()
        if torch.rand((), generator=generator) < self.cut:
            axis = 2 if torch.rand((), generator=generator) < 0.8 else int(torch.randint(2, (), generator=generator))
            end = int(torch.randint(2, (), generator=generator))
            reach = self.step * self.size[axis] / 2
            place = centre[axis] + (2 * end - 1) * uniform((), self.nearest, 1.0, generator) * reach
            limits[end, axis] = place.clamp(limits[0, axis], limits[1, axis])
        return limits


def rotation(angles: Tensor) -> Tensor:
    """(3, 3) by angles (3,) about x, y and z."""
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles), torch.sin(angles)
    one, zero = torch.ones(()), torch.zeros(())
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx]).view(3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy]).view(3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one]).view(3, 3)
    return about_z @ about_y @ about_x


def window(scan: Scan, size: tuple[int, int, int], matrix: Tensor, centre: Tensor, limits: Tensor) -> Tensor:
    """Scaled gray values (1, d, h, w) of a scan at ``matrix @ (index - middle) + centre``; its edges go on outside.

    Args:
        limits: (2, 3) first and last index that is shown.
    """
    w, h, d = size
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    places = centre + (
        axes[0][:, None] * matrix[:, 0]
        + (axes[1][:, None] * matrix[:, 1])[:, None]
        + (axes[2][:, None] * matrix[:, 2])[:, None, None]
    )
    places = torch.minimum(torch.maximum(places, limits[0]), limits[1])
    # Only the part that is needed is turned into floating point: a scan of the whole trunk is large.
    low = places.amin(dim=(0, 1, 2)).floor().long().clamp(min=0)
    high = places.amax(dim=(0, 1, 2)).ceil().long() + 2
    part = scan.voxels[low[2] : high[2], low[1] : high[1], low[0] : high[0]].float()
    extent = torch.tensor(part.shape[::-1], dtype=torch.float32)
    grid = (2 * (places - low) + 1) / extent - 1
    sampled = functional.grid_sample(
        part[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    gray = scan.gray
    return (sampled[0].clamp(gray.low, gray.high) - gray.mean) / gray.deviation


def in_window(points: Tensor, size: tuple[int, int, int], matrix: Tensor, centre: Tensor) -> Tensor:
    """Points (..., 3) of a scan in index coordinates of a window."""
    middle = (torch.tensor(size, dtype=torch.float32) - 1) / 2
    return (points - centre) @ torch.linalg.inv(matrix).T + middle


def shown(points: Tensor, limits: Tensor) -> Tensor:
    """(...) whether points (..., 3) lie in the part of a scan within ``limits`` (2, 3)."""
    return ((points >= limits[0] - 0.5) & (points <= limits[1] + 0.5)).all(dim=-1)


def as_input(windows: list[Tensor]) -> Tensor:
    """Windows (1, d, h, w) as a batch in the layout that is fastest."""
    return torch.stack(windows).contiguous(memory_format=LAYOUT[3])
