"""Networks of a bundle's stage, ready to run, and their averaged heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import BundleError, Cancelled
from ..networks.fusion import fused
from ..networks.hourglass import Hourglass
from ..networks.layout import LAYOUT
from ..networks.resnet_unet import ResnetUnet
from .bundle import Bundle, Stage

ARCHITECTURES = {"hourglass": Hourglass, "resnet_unet": ResnetUnet}


def build_network(description: Mapping) -> nn.Module:
    """A network from its ``kind`` and arguments."""
    arguments = dict(description)
    kind = arguments.pop("kind")
    if kind not in ARCHITECTURES:
        raise BundleError(f"The network kind '{kind}' is not known; update this extension.")
    return ARCHITECTURES[kind](**arguments)


class Ensemble:
    """The members of a stage on one device, in evaluation mode."""

    def __init__(self, bundle: Bundle, stage: Stage, device: torch.device) -> None:
        self.device = device
        self.plan = stage.plan
        self.members = [self.load(bundle, stage, name) for name in stage.weights]
        self.stride = self.members[0].stride

    def load(self, bundle: Bundle, stage: Stage, name: str) -> nn.Module:
        """One member; its weights are stored fused and in half precision, and computed with in single."""
        network = fused(build_network(stage.network))
        try:
            network.load_state_dict({key: value.float() for key, value in load_file(bundle.folder / name).items()})
        except (RuntimeError, OSError) as error:
            raise BundleError(
                f"The weights '{name}' do not fit the model '{bundle.name}'; install it again."
            ) from error
        return network.to(self.device, memory_format=LAYOUT[stage.network.get("dims", 2)])

    @torch.inference_mode()
    def encoded(self, member: nn.Module, inputs: np.ndarray) -> Tensor:
        """What a member keeps of a batch ``(B, h, w)``: all that does not depend on hints."""
        return member.encode(self.batch(inputs))

    @torch.inference_mode()
    def decoded(self, member: nn.Module, encoded: Tensor, hints: Tensor | None) -> Tensor:
        """Output of a member for what it kept and maps of hints, on the processor."""
        if hints is not None:
            hints = hints.to(encoded.device, memory_format=LAYOUT[hints.ndim - 2])
        return member.decode(encoded, hints).float().cpu()

    @torch.inference_mode()
    def logits(self, member: nn.Module, inputs: np.ndarray) -> Tensor:
        """Logits of one member for a batch ``(B, h, w)`` or ``(B, channels, [d,] h, w)``, on the processor."""
        return member(self.batch(inputs)).float().cpu()

    def batch(self, inputs: np.ndarray) -> Tensor:
        """A batch of windows on the device of the networks, ``(B, channels, [d,] h, w)``."""
        batch = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
        batch = batch[:, None] if batch.ndim == 3 else batch
        return batch.to(self.device, memory_format=LAYOUT[batch.ndim - 2])


def stop_if(cancelled: Callable[[], bool]) -> None:
    """Give up between two networks where the user wants it."""
    if cancelled():
        raise Cancelled("The detection was cancelled.")


def mixture(log_probabilities: list[Tensor]) -> Tensor:
    """Log of the mean of the members' probabilities: where members disagree, the heatmap spreads."""
    stacked = torch.stack(log_probabilities)
    return torch.logsumexp(stacked, dim=0) - float(np.log(len(log_probabilities)))
