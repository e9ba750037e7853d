"""The network of interactive keypoint estimation (Kim et al., MICCAI 2022): HRNet-W32, gate, object context."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .gating import InteractionGate
from .hint_stem import HintStem
from .hrnet import ParallelBranches, bottleneck
from .ocr import ContextHead
from .unbiased import enlarged


class HRNetOCR(nn.Module):
    """Hint stem, four bottlenecks, parallel branches, interaction-guided gating and object context.

    With 3 input channels and 68 landmarks it has 32,942,889 parameters, 31,002,937 without the gate.

    Args:
        in_channels: channels of the image; the paper repeats the gray values three times.
        out_channels: number of landmarks K.
        width: channels of the finest branch.
        stem: channels of the stem, and a quarter of those after the bottlenecks.
        modules, blocks: see `ParallelBranches`.
        gate: False leaves out the interaction-guided gating.
        gate_width: of the gate's convolutions.
        context: channels of the object context; its keys have half of them.
        dropout: before the last convolution.
        dims: 2 or 3.

    Images ``(B, in_channels, [D,] H, W)`` and hints ``(B, 2K, [D,] H, W)`` (see `HintStem`) give logits
    ``(B, K, [D,] H, W)``; without hints the sides of the image must be even.
    """

    hint_stride = 1
    has_auxiliary = True

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 68,
        width: int = 32,
        stem: int = 64,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        gate: bool = True,
        gate_width: int = 256,
        context: int = 256,
        dropout: float = 0.05,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.landmarks = out_channels
        self.stem = HintStem(dims, in_channels, out_channels, stem)
        self.hint_channels = self.stem.hint_channels
        self.layer = nn.Sequential(*(bottleneck(dims, stem if place == 0 else 4 * stem, stem) for place in range(4)))
        self.branches = ParallelBranches(dims, 4 * stem, width, modules, blocks)
        channels = self.branches.channels
        self.gate = InteractionGate(dims, 4 * stem, out_channels, channels, gate_width) if gate else None
        self.head = ContextHead(dims, channels, out_channels, context, context // 2, dropout)

    def encode(self, image: Tensor) -> Tensor:
        """What does not depend on hints, ``(B, stem, ...)`` at half the resolution."""
        return self.stem.encode(image)

    def heads(self, encoded: Tensor, hints: Tensor) -> tuple[Tensor, Tensor]:
        """Final logits and those of the auxiliary head, both at a quarter of the resolution."""
        early = self.layer(self.stem(encoded, hints))
        features = self.branches(early)
        if self.gate is not None:
            features = self.gate(early, hints[:, self.landmarks :], features)
        return self.head(features)

    def decode(self, encoded: Tensor, hints: Tensor | None = None) -> Tensor:
        """Logits on the pixels of the image."""
        hints = self.stem.full_hints(encoded, hints)
        return enlarged(self.heads(encoded, hints)[0], hints.shape[2:])

    def forward(
        self, image: Tensor, hints: Tensor | None = None, auxiliary: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """Logits; with ``auxiliary`` a pair, those of the auxiliary head last, for the loss."""
        encoded = self.encode(image)
        if not auxiliary:
            return self.decode(encoded, hints)
        hints = self.stem.full_hints(encoded, hints)
        return tuple(enlarged(logits, hints.shape[2:]) for logits in self.heads(encoded, hints))
