"""What the first network of a knee in volumes learns: coarse places of its landmarks, its presence and its side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...heatmaps import index_to_cell, spatial_cross_entropy
from ..joint.region import presence_logits
from .appearance import vary_appearance
from .scans import Scan, Scans
from .windows import WindowGeometry, as_input, in_window, window

_OTHER_SHARE = 0.2  # of each batch shows other anatomy,
_MIRRORED_SHARE = 0.25  # or a knee of the other side
_PRESENCE_WEIGHT = 2.0


def finding_loss(output: Tensor, cells: Tensor, present: Tensor) -> Tensor:
    """Likelihood of landmarks ``(B, K, 3)`` in cells where the anatomy is present (B,), and that of its presence.

    ``output`` is ``(B, K + 1, d, h, w)``, the last channel a map of presence.
    """
    known = torch.where(present[:, None, None] > 0, cells, torch.nan)
    likelihood = spatial_cross_entropy(output[:, :-1], known, 3)
    return likelihood + _PRESENCE_WEIGHT * functional.binary_cross_entropy_with_logits(presence_logits(output), present)


@dataclass
class JointFinding:
    """`finding_loss` on random windows of knees of both sides, those of the ``mirrored`` side mirrored.

    A knee that is not brought to the one orientation does not count as present; nor do the scans of ``others``. The
    validation figure is the loss on windows of the scans kept out, always the same ones.
    """

    scans: Scans
    kept_out: Scans | None
    others: Scans
    mirrored: str
    geometry: WindowGeometry
    batch: int
    stride: int

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            inputs, cells, present = self.draw(self.scans, generator)
            inputs = vary_appearance(inputs, generator)
        return finding_loss(network(inputs).float(), cells, present)

    def draw(self, scans: Scans, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Windows, landmarks (B, K, 3) in cells, and presence (B,)."""
        windows, points, present = [], [], []
        for _ in range(self.batch):
            kind = float(torch.rand((), generator=generator))
            among = self.others if kind < _OTHER_SHARE else scans
            scan = among[int(torch.randint(len(among), (), generator=generator))]
            wrong = kind < _OTHER_SHARE + _MIRRORED_SHARE
            drawn = self.window(scan, (scan.side == self.mirrored) != wrong, generator)
            windows.append(drawn[0])
            points.append(drawn[1] if not wrong else torch.full_like(scans[0].points, torch.nan))
            present.append(0.0 if wrong else 1.0)
        return as_input(windows), index_to_cell(torch.stack(points), self.stride), torch.tensor(present)

    def window(self, scan: Scan, mirrored: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One window, and the landmarks (K, 3) in its index coordinates."""
        geometry = self.geometry
        matrix = geometry.matrix(generator, mirrored)
        place = geometry.moved((torch.tensor(scan.voxels.shape[::-1]) - 1) / 2, generator)
        limits = geometry.limits(scan, place, generator)
        points = in_window(scan.points, geometry.size, matrix, place, limits)
        return window(scan, geometry.size, matrix, place, limits), points

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float | None:
        if self.kept_out is None:
            return None
        generator, losses = torch.Generator().manual_seed(1), []
        for _ in range(6):
            inputs, cells, present = self.draw(self.kept_out, generator)
            losses.append(float(finding_loss(network(inputs).float(), cells, present)))
        return sum(losses) / len(losses)
