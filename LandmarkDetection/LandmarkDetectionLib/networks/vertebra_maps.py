"""What the column network says of every cell of a film, in channels.

Level-agnostic maps find vertebrae wherever they are, since all look much alike; what is hard, the level, is a question
of its own that all vertebrae of a film answer together (`inference.chain`). Finding vertebrae by their centres and the
offsets of their corners follows Yi et al., ISBI 2020 ("Vertebra-focused landmark detection").
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

CORNERS = 4
"""Upper left, upper right, lower left, lower right, as in the image."""

OFFSET_UNIT = 8.0
"""Cells in one unit of the offset channels: half the width of a vertebra, so that what is learnt is about one."""


@dataclass(frozen=True)
class VertebraMaps:
    """The network's channels by meaning; all logits.

    Attributes:
        centres: (B, h, w), whether a vertebra has its centre here.
        corners: (B, 4, h, w), where the corners of each kind lie; softmax over all cells.
        offsets: (B, 4, 2, h, w), from a cell near a centre to the corners, in cells, x first.
        levels: (B, L, h, w), which level a vertebra with its centre here is.
    """

    centres: Tensor
    corners: Tensor
    offsets: Tensor
    levels: Tensor

    @classmethod
    def split(cls, output: Tensor) -> VertebraMaps:
        """The channels ``(B, 13 + L, h, w)`` of a network."""
        centres, corners, offsets, levels = output.split([1, CORNERS, 2 * CORNERS, output.shape[1] - 13], dim=1)
        return cls(centres[:, 0], corners, OFFSET_UNIT * offsets.unflatten(1, (CORNERS, 2)), levels)


def channels(levels: int) -> int:
    """Output channels of a network for so many levels."""
    return 1 + 3 * CORNERS + levels
