"""Mean of the coordinates that the networks of several folds predict, with or without the mirrored image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...heatmaps import normalised_soft_argmax


@dataclass(frozen=True)
class FoldModel:
    """One fold's network with the gray values of its own training images.

    Attributes:
        network: from images (B, channels, H, W) to heatmap logits (B, K, h, w).
        mean, deviation: subtracted from gray values 0..255, and divided by.
        channels: how often the gray image is repeated; KNEEL's networks take three.
    """

    network: nn.Module
    mean: float = 0.0
    deviation: float = 1.0
    channels: int = 3

    def shares(self, views: Tensor) -> Tensor:
        """Soft-argmax of each landmark as shares of the extent, (B, K, 2), for gray values (B, H, W)."""
        images = ((views - self.mean) / self.deviation)[:, None].expand(-1, self.channels, -1, -1)
        return normalised_soft_argmax(self.network(images))


class FoldEnsemble:
    """Calls every fold's network and averages; a predictor for `kneel.TwoStageKneel`.

    Networks are put into evaluation mode and onto the device.

    Args:
        models: one for each fold.
        flip_averaging: average with the prediction on the mirrored view, mirrored back. The order of the points stays:
            it runs from lateral to medial, also in a mirrored knee.
        device: as torch names it.
    """

    def __init__(
        self, models: Sequence[FoldModel], flip_averaging: bool = False, device: str | torch.device = "cpu"
    ) -> None:
        self.models, self.flip_averaging, self.device = tuple(models), flip_averaging, torch.device(device)
        for model in self.models:
            model.network.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, views: np.ndarray) -> np.ndarray:
        """Mean shares of the extent (B, K, 2), float64, for gray values (B, H, W)."""
        images = torch.from_numpy(np.ascontiguousarray(views, dtype=np.float32)).to(self.device)
        predictions = [model.shares(images) for model in self.models]
        if self.flip_averaging:
            mirrored = images.flip(-1)
            predictions += [mirror(model.shares(mirrored)) for model in self.models]
        return torch.stack(predictions).double().mean(dim=0).cpu().numpy()


def mirror(shares: Tensor) -> Tensor:
    """Shares of the extent (B, K, 2) in the mirrored image."""
    return torch.cat([1 - shares[..., :1], shares[..., 1:]], dim=-1)
