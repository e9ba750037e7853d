"""Interactive keypoint estimation in use (Kim et al., MICCAI 2022): each correction brings a new prediction."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import LandmarkDetectionError
from ...heatmaps import cell_to_index, index_to_cell
from ...images import Image
from .ikem_decoding import Previous, check_previous, decoder, interaction_maps
from .ikem_view import IkemPlan, image_input


class IkemAnnotator:
    """One image under one network that takes hints; the image is encoded once.

    Args:
        network: see `networks.hints.HintedNetwork`, with 2K channels of hints; it is put into evaluation mode.
        image: a film, or a volume for a network of three dimensions.
        previous: which heatmaps predicted last the network sees again.
        decoding: ``"argmax"`` (Kim et al.), ``"expectation"`` (student project) or ``"local"`` (ours).
        plan: how the image is brought to the network.
        device: where it runs.

    Raises:
        ImageError: the image does not fit the plan.
        LandmarkDetectionError: a policy or decoding that does not exist.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Image,
        previous: Previous = "all",
        decoding: str = "local",
        plan: IkemPlan | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        check_previous(previous)
        self._decode, self._previous = decoder(decoding), previous
        self._plan = plan or IkemPlan()
        self._image_frame = image.frame
        self._network = network.to(device).eval()
        inputs, self._frame = image_input(image, self._plan)
        self._stride = network.hint_stride
        self._size = tuple(n // self._stride for n in self._plan.size)
        self._count = network.hint_channels // 2
        with torch.inference_mode():
            self._encoded: Tensor = network.encode(inputs.to(device))
        self._given = np.full((self._count, image.dims), np.nan)
        self._heatmaps: Tensor | None = None
        self._predict()

    @property
    def positions(self) -> np.ndarray:
        """(n, d) index coordinates of the image; those that were corrected are where the user put them."""
        return np.where(np.isfinite(self._given), self._given, self._predicted)

    @property
    def predicted(self) -> np.ndarray:
        """(n, d) the network's own answer, whatever it was told."""
        return self._predicted

    @property
    def corrected(self) -> np.ndarray:
        """(n,) whether the user has said where a landmark is."""
        return np.isfinite(self._given).all(axis=1)

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        """Say where landmark ``row`` is, in index coordinates (d,) of the image; returns the new `positions`.

        Raises:
            LandmarkDetectionError: the position is not finite, or there is no such landmark.
        """
        position = np.asarray(position, dtype=np.float64)
        if not 0 <= row < self._count or position.shape != self._given[0].shape or not np.isfinite(position).all():
            raise LandmarkDetectionError(
                f"A correction needs a landmark from 0 to {self._count - 1} and {self._given.shape[1]} finite "
                f"coordinates, not landmark {row} at {position.tolist()}."
            )
        self._given[row] = position
        self._predict()
        return self.positions

    @torch.inference_mode()
    def _predict(self) -> None:
        """Run what depends on the hints."""
        seen = self._frame.to_index(self._image_frame.to_physical(self._given))
        cells = torch.tensor(index_to_cell(seen, self._stride), dtype=torch.float32, device=self._encoded.device)
        deviation = self._plan.hint_deviation / self._stride
        maps = interaction_maps(cells[None], self._heatmaps, self._size, deviation, self._previous)
        logits = self._network.decode(self._encoded, maps).float()
        self._heatmaps = logits.sigmoid()
        found = self._decode(logits, len(self._size), max(1, int(deviation)))[0].double().cpu().numpy()
        index = cell_to_index(found, self._stride)
        self._predicted = self._image_frame.to_index(self._frame.to_physical(index))
