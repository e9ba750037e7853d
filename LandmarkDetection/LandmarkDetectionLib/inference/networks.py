"""Networks of a bundle's stage, ready to run, and their averaged heatmaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import BundleError, Cancelled
from ..networks.hourglass import Hourglass
from .bundle import Bundle, Stage

ARCHITECTURES = {"hourglass": Hourglass}


def build_network(description: dict) -> nn.Module:
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
        """One member; weights are stored in half precision and computed with in single."""
        network = build_network(dict(stage.network))
        try:
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(bundle.folder / name).items()})
        except (RuntimeError, OSError) as error:
            raise BundleError(f"The weights '{name}' do not fit the model '{bundle.name}'; install it again.") from error
        return network.eval().to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(self, inputs: np.ndarray, cancelled: Callable[[], bool] = lambda: False) -> list[Tensor]:
        """Logits of each member for a batch ``(B, h, w)``, on the processor."""
        batch = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))[:, None]
        batch = batch.to(self.device, memory_format=torch.channels_last)
        results = []
        for member in self.members:
            if cancelled():
                raise Cancelled("The detection was cancelled.")
            results.append(member(batch).float().cpu())
        return results


def mixture(log_probabilities: list[Tensor]) -> Tensor:
    """Log of the mean of the members' probabilities: where members disagree, the heatmap spreads."""
    stacked = torch.stack(log_probabilities)
    return torch.logsumexp(stacked, dim=0) - float(np.log(len(log_probabilities)))
