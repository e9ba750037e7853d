"""Calibrated heatmaps on finer cells, and what they say of points in the index coordinates of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..heatmaps import covariance, expected_radial_error
from .bundle import Calibration
from .finer import FINER, finer


@dataclass(frozen=True, eq=False)
class FineMaps:
    """Heatmaps of n landmarks.

    Attributes:
        tempered: (n, h, w) or (n, d, h, w) log-probabilities for regions and covariances; `wide`, for expected errors.
        grids: of each, `FINER` times as fine as those of the network.
        matrices, offsets: (n, d, d) and (n, d), from cells to index coordinates of the image.
        unit: of an index, the root mean square spacing of the image: pixels need not be square.
    """

    tempered: Tensor
    wide: Tensor
    grids: tuple[Frame, ...]
    matrices: np.ndarray
    offsets: np.ndarray
    unit: float

    @classmethod
    def of(cls, heatmaps: Tensor, grids: Sequence[Frame], frame: Frame, calibration: Calibration) -> FineMaps:
        """From log-probabilities (n, [d,] h, w), not calibrated, the grid of each, and the frame of the image."""
        fine = finer(heatmaps)
        tempered, wide = (
            fine / torch.tensor(temperature).view(-1, *[1] * frame.dims)
            for temperature in (calibration.temperature, calibration.error_temperature)
        )
        finest = tuple(grid.resampled(size=fine.shape[:0:-1]) for grid in grids)
        maps = np.array([grid.index_map(frame) for grid in finest])
        unit = float(np.sqrt(np.mean(frame.spacing**2)))
        return cls(tempered, wide, finest, maps[:, :, :-1], maps[:, :, -1], unit)

    def positions(self, cells: np.ndarray) -> np.ndarray:
        """(n, d) index coordinates of cells (n, d) of the network."""
        return np.einsum("nij,nj->ni", self.matrices, FINER * (cells + 0.5) - 0.5) + self.offsets

    def spread(self, positions: np.ndarray) -> np.ndarray:
        """Covariances (n, d, d) about points (n, d), in index units squared; NaN where a point is."""
        known = np.isfinite(positions).all(axis=1)
        moments = covariance(self.tempered, self._cells(positions), self._dims).double().numpy()
        spread = self.matrices @ moments @ self.matrices.transpose(0, 2, 1)
        return np.where(known[:, None, None], spread, np.nan)

    def radii(self, positions: np.ndarray) -> np.ndarray:
        """Expected errors (n,) of points (n, d), in index units; NaN where a point is."""
        known = np.isfinite(positions).all(axis=1)
        radii = expected_radial_error(self.wide, self._cells(positions), self._dims).double().numpy()
        lengths = np.array([grid.spacing[0] for grid in self.grids]) / self.unit
        return np.where(known, lengths * radii, np.nan)

    @property
    def _dims(self) -> int:
        return self.tempered.ndim - 1

    def _cells(self, positions: np.ndarray) -> Tensor:
        """Fine cells of points, the first one of all for unknown points."""
        apart = np.nan_to_num(positions - self.offsets)
        return torch.from_numpy(np.linalg.solve(self.matrices, apart[..., None])[..., 0]).float()
