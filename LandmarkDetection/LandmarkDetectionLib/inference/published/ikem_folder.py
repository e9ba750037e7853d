"""Interactive networks as a training run leaves them: a folder with weights and how they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ...errors import BundleError
from ...images import Image
from ...networks.hint_unet import HintUNet
from ...networks.hourglass import Hourglass
from ...networks.hrnet_ocr import HRNetOCR
from .ikem import IkemAnnotator
from .ikem_decoding import Previous
from .ikem_view import IkemPlan

DESCRIPTION = "ikem.json"

ARCHITECTURES = {"hint_unet": HintUNet, "hrnet_ocr": HRNetOCR, "hourglass": Hourglass}
"""Networks that take hints; an hourglass needs ``hint_channels`` of twice its landmarks."""


@dataclass(frozen=True)
class TrainedIkem:
    """Networks of one run, of different training films, with what they need.

    Attributes:
        networks: one for each fold that was trained, in evaluation mode.
        plan: how an image is brought to them.
        previous: which previous heatmaps they were trained with.
        decoding: how the epoch was chosen.
        schema: name of the landmarks' schema.
    """

    networks: tuple[nn.Module, ...]
    plan: IkemPlan
    previous: Previous
    decoding: str
    schema: str

    def annotator(
        self,
        image: Image,
        previous: Previous | None = None,
        decoding: str | None = None,
        member: int = 0,
        device: str | torch.device = "cpu",
    ) -> IkemAnnotator:
        """One image under one of the networks; as trained, unless said otherwise."""
        network = self.networks[member]
        return IkemAnnotator(network, image, previous or self.previous, decoding or self.decoding, self.plan, device)


def build_interactive(description: Mapping) -> nn.Module:
    """A network that takes hints from its ``kind`` and arguments.

    Raises:
        BundleError: the kind is not known.
    """
    arguments = dict(description)
    kind = arguments.pop("kind")
    if kind not in ARCHITECTURES:
        raise BundleError(f"The network kind '{kind}' takes no hints; choose one of {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[kind](**arguments)


def load_ikem(folder: Path) -> TrainedIkem:
    """What a training run left.

    Raises:
        BundleError: a file is missing, or is not the one that was trained.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise BundleError(f"'{folder}' holds no interactive network: it has no {DESCRIPTION}.")
    content = json.loads(path.read_text(encoding="utf-8"))
    networks = []
    for name, expected in content["sha256"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise BundleError(f"The weights '{name}' in '{folder}' are missing or changed; copy or train them again.")
        network = build_interactive(content["network"])
        # Strict: a network with a gate of random weights would run, and be wrong.
        network.load_state_dict(load_file(file))
        networks.append(network.eval())
    plan = {key: tuple(value) if isinstance(value, list) else value for key, value in content["plan"].items()}
    return TrainedIkem(tuple(networks), IkemPlan(**plan), content["previous"], content["decoding"], content["schema"])
