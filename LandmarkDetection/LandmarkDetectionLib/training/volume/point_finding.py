"""What networks learn that place the points of one vertebra or one knee in a window, with hints if they take any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...heatmaps import index_to_cell, spatial_cross_entropy
from ...inference.volume.points import HINT_DEVIATION
from ...networks.hints import hint_maps
from ...networks.layout import LAYOUT
from ..column.likelihood import random_hints
from .appearance import vary_appearance
from .scans import Scan, Scans
from .windows import WindowGeometry, as_input, in_window, window


@dataclass
class PointFinding:
    """Spatial cross-entropy of the points of one anatomy in windows about it; with ``hinted``, half of them with hints.

    ``rows`` (G, P): the landmarks of each anatomy that a scan may show, the place of its first one, or with ``about``
    the mean of all, being where a stage before finds it. Scans of the ``mirrored`` side are mirrored. The validation
    figure is the same loss on windows of the scans kept out.
    """

    scans: Scans
    kept_out: Scans | None
    rows: Tensor
    geometry: WindowGeometry
    batch: int
    stride: int
    about_mean: bool = False
    mirrored: str = ""
    any_side: bool = False
    hinted: bool = True

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            inputs, cells = self.draw(self.scans, generator)
            inputs = vary_appearance(inputs, generator)
            told = (self.hints(cells, generator),) if self.hinted else ()
        return spatial_cross_entropy(network(inputs, *told).float(), cells, 3)

    def hints(self, cells: Tensor, generator: torch.Generator) -> Tensor:
        """Maps of some of the points (B, P, 3) in cells."""
        size = tuple(n // self.stride for n in self.geometry.size)
        return hint_maps(random_hints(cells, generator), size, HINT_DEVIATION).contiguous(memory_format=LAYOUT[3])

    def draw(self, scans: Scans, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows, and the points (B, P, 3) in cells."""
        drawn = [
            self.window(scans[int(torch.randint(len(scans), (), generator=generator))], generator)
            for _ in range(self.batch)
        ]
        windows, points = zip(*drawn, strict=True)
        return as_input(list(windows)), index_to_cell(torch.stack(points), self.stride)

    def window(self, scan: Scan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One window, and the points (P, 3) in its index coordinates."""
        geometry = self.geometry
        places = scan.points[self.rows]
        centres = places.nanmean(dim=1) if self.about_mean else places[:, 0]
        shown = torch.isfinite(centres).all(dim=-1).nonzero()[:, 0]
        which = shown[int(torch.randint(len(shown), (), generator=generator))]
        mirrored = bool(torch.rand((), generator=generator) < 0.5) if self.any_side else scan.side == self.mirrored
        matrix = geometry.matrix(generator, mirrored)
        place = geometry.misplaced(centres[which], generator)
        limits = geometry.limits(scan.extent, centres[which], generator)
        # Points just beyond the end of a scan count too: so a network learns to say where they would be.
        points = in_window(places[which], geometry.size, matrix, place)
        return window(scan, geometry.size, matrix, place, limits), points

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        generator, losses = torch.Generator().manual_seed(1), []
        for _ in range(6):
            inputs, cells = self.draw(self.kept_out, generator)
            losses.append(float(spatial_cross_entropy(network(inputs).float(), cells, 3)))
        return sum(losses) / len(losses)
