"""What the first network of a spine in volumes learns: where vertebrae are, and which."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...heatmaps import grid_size, index_to_cell
from ..column.vertebra_loss import focal_loss
from .appearance import softened, vary_appearance
from .scans import Scan, Scans
from .windows import WindowGeometry, as_input, in_window, shown, window

_NEAR = torch.tensor([[x, y, z] for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def finding_loss(output: Tensor, centres: Tensor) -> Tensor:
    """Focal loss of the first channel, and cross-entropy of the levels in the 27 cells about each centre.

    Args:
        output: ``(B, 1 + L, d, h, w)``.
        centres: ``(B, L, 3)`` in cells, NaN where a level is not in view.
    """
    found = focal_loss(output[:, 0], centres)
    batch, level = torch.isfinite(centres).all(dim=-1).nonzero(as_tuple=True)
    if not len(batch):
        return found
    near = centres[batch, level].round().long()[:, None] + _NEAR
    near = torch.minimum(near.clamp(min=0), torch.tensor(grid_size(output, 3)) - 1)
    named = output[:, 1:].permute(0, 2, 3, 4, 1)[(batch[:, None], *near.flip(-1).unbind(-1))]
    return found + functional.cross_entropy(named.flatten(0, 1), level.repeat_interleave(len(_NEAR)))


def told_extent(extent: Tensor, points: Tensor) -> Tensor:
    """The part (2, 3) of a scan in which no vertebra shows points without its center being known.

    Args:
        extent: of the scan, (2, 3).
        points: (L, P, 3) by level, the center first, NaN where not in view.
    """
    told, heights = extent.clone(), points[..., 2]
    middle = heights[:, 0].nanmean()
    for own in heights[heights[:, 0].isnan()]:
        seen = own[own.isfinite()]
        if len(seen) and seen.mean() > middle:
            told[1, 2] = torch.minimum(told[1, 2], seen.min() - 1)
        elif len(seen):
            told[0, 2] = torch.maximum(told[0, 2], seen.max() + 1)
    return told


@dataclass
class VertebraFinding:
    """`finding_loss` on random windows of spines, and of ``others`` on which no vertebra is.

    ``rows`` (L, P) are the rows of the landmarks of each level, the centre first. The validation figure is the loss on
    windows of the scans kept out, always the same ones.
    """

    scans: Scans
    kept_out: Scans | None
    others: Scans
    rows: Tensor
    geometry: WindowGeometry
    batch: int
    stride: int
    other_share: float = 0.1

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            inputs, centres = self.draw(self.scans, generator)
            inputs = vary_appearance(softened(inputs, generator), generator)
        return finding_loss(network(inputs).float(), centres)

    def draw(self, scans: Scans, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows, and the centres (B, L, 3) in cells."""
        drawn = []
        for _ in range(self.batch):
            is_other = torch.rand((), generator=generator) < self.other_share
            among = self.others if is_other else scans
            scan = among[int(torch.randint(len(among), (), generator=generator))]
            drawn.append(self.other_window(scan, generator) if is_other else self.window(scan, generator))
        windows, centres = zip(*drawn, strict=True)
        return as_input(list(windows)), index_to_cell(torch.stack(centres), self.stride)

    def window(self, scan: Scan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One window about a vertebra, and the centres (L, 3) in its index coordinates."""
        geometry, points = self.geometry, scan.points[self.rows]
        centres = points[:, 0]
        known = centres[torch.isfinite(centres).all(dim=-1)]
        about = known[int(torch.randint(len(known), (), generator=generator))]
        matrix = geometry.matrix(generator, bool(torch.rand((), generator=generator) < 0.5))
        place = geometry.moved(about, generator)
        limits = geometry.limits(told_extent(scan.extent, points), place, generator)
        inside = in_window(centres, geometry.size, matrix, place)
        beyond = (inside < -0.5) | (inside > torch.tensor(geometry.size) - 0.5)
        # A vertebra that is cut off counts as long as any of its points is shown: its center lies past the end then.
        inside[beyond.any(dim=-1) | ~shown(points, limits).any(dim=-1)] = torch.nan
        return window(scan, geometry.size, matrix, place, limits), inside

    def other_window(self, scan: Scan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One window of other anatomy."""
        geometry = self.geometry
        place = (torch.tensor(scan.voxels.shape[::-1]) - 1) / 2
        matrix = geometry.matrix(generator)
        limits = geometry.limits(scan.extent, place, generator)
        return window(scan, geometry.size, matrix, place, limits), torch.full((len(self.rows), 3), torch.nan)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        generator, losses = torch.Generator().manual_seed(1), []
        for _ in range(6):
            inputs, centres = self.draw(self.kept_out, generator)
            losses.append(float(finding_loss(network(inputs).float(), centres)))
        return sum(losses) / len(losses)
