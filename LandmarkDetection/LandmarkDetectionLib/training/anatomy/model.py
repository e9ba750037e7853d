"""The pipeline of anatomical priors (Dalca et al., CVPR 2018): label maps first, then images, never a pair.

The prior stage sees label maps, the image stage images of other subjects; whom the figures are measured on is in
neither. Films and volumes differ in their source alone.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...networks.layout import LAYOUT
from ...networks.sae import SegmentationAutoencoder
from ...networks.vae import AnatomyDecoder, AnatomyEncoder, AnatomyVae
from ...priors.anatomical import AnatomicalPrior, AnatomySettings
from ...priors.anatomy_atlas import StaticAtlas, mean_atlas
from ...priors.anatomy_folder import AnatomyFolder
from ...priors.anatomy_statistics import Appearance
from ..model import Model
from ..trainer import Schedule, train_network
from .objective import ImageStage, PriorStage
from .sae import SaeStage
from .samples import GrayWindows, View
from .sources import AnatomySource, source_of

Network = TypeVar("Network", bound=nn.Module)


class AnatomyModel(Model):
    """A prior learnt from label maps, an image encoder against it, and the SAE where the recipe asks for one."""

    @cached_property
    def source(self) -> AnatomySource:
        return source_of(self.recipe, self.data)

    @property
    def view(self) -> View:
        return self.source.view

    @cached_property
    def settings(self) -> AnatomySettings:
        appearance = self.recipe.built("appearance", Appearance)
        return self.recipe.built("inference", AnatomySettings, view=self.view, appearance=appearance)

    @cached_property
    def windows(self) -> GrayWindows:
        """Windows of the unlabelled images."""
        return GrayWindows.kept(self.out / self.source.images / "windows.safetensors", self.source.windows)

    def parts(self) -> tuple[GrayWindows, Tensor]:
        """Images to learn from, and the first windows of those by whose loss the epoch is chosen."""
        kept_out = self.recipe["data"]["kept_out"]
        generator = torch.Generator().manual_seed(self.recipe.seed)
        order = torch.randperm(len(self.windows.bytes), generator=generator).tolist()
        chosen = self.windows.select(order[:kept_out])
        return self.windows.select(order[kept_out:]), self.windows.gray(chosen.bytes[:, 0])

    def shape(self) -> dict:
        """Arguments of encoder and decoder."""
        return dict(self.recipe["network"]) | {"size": self.view.size}

    def train(self) -> None:
        """Prior, image encoder and, where the recipe has a section for it, SAE."""
        self.train_prior()
        self.train_encoder()
        if "sae" in self.recipe.sections:
            self.train_sae()

    def train_prior(self) -> None:
        """The auto-encoder on label maps."""
        count = len(self.source.label_names)
        torch.manual_seed(self.recipe.seed)
        network = quick(AnatomyVae(count, count, **self.shape()))
        schedule = self.recipe.built("prior", Schedule)
        objective = PriorStage(self.source.labels, count, schedule.batch)
        train_network(network, objective, schedule, self.out / "prior", self.recipe.seed, self.resume)

    def train_encoder(self) -> None:
        """The image encoder against the frozen decoder; it starts from random weights, never from labels."""
        torch.manual_seed(self.recipe.seed + 1)
        learns, kept_out = self.parts()
        schedule, s = self.recipe.built("image", Schedule), self.settings
        arguments = {"form": s.form, "rounds": s.rounds, "weight": s.weight}
        decoder = quick(self.decoder())
        objective = ImageStage(learns, kept_out, decoder, s.appearance, schedule.batch, **arguments)
        network = quick(AnatomyEncoder(1, **self.shape()))
        train_network(network, objective, schedule, self.out / "image", self.recipe.seed + 1, self.resume)

    def train_sae(self) -> None:
        """The SAE: first to output the atlas, then its whole loss."""
        learns, _ = self.parts()
        wanted = self.recipe["sae"]
        torch.manual_seed(self.recipe.seed + 2)
        network = SegmentationAutoencoder(self.atlas().probabilities, **wanted["network"])
        for step, pretraining in (("pretraining", True), ("training", False)):
            schedule = Schedule(**wanted[step])
            objective = SaeStage(learns, self.view.limit, schedule.batch, pretraining)
            folder = self.out / f"sae_{step}"
            train_network(network, objective, schedule, folder, self.recipe.seed + 2, self.resume)
            network.load_state_dict(load_file(folder / "weights.safetensors"))

    def decoder(self) -> AnatomyDecoder:
        """The decoder of the prior stage."""
        network, start = AnatomyDecoder(len(self.source.label_names), **self.shape()), "decoder."
        tensors = load_file(self.out / "prior" / "weights.safetensors")
        network.load_state_dict({key.removeprefix(start): v for key, v in tensors.items() if key.startswith(start)})
        return network

    def encoder(self) -> AnatomyEncoder:
        """The trained image encoder."""
        network = AnatomyEncoder(1, **self.shape())
        network.load_state_dict(load_file(self.out / "image" / "weights.safetensors"))
        return network

    def atlas(self) -> StaticAtlas:
        """The mean of many label maps in random poses."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        maps = self.source.labels.draw(self.recipe["data"]["atlas_maps"], generator)
        return StaticAtlas(mean_atlas(maps, len(self.source.label_names)), self.view, self.settings.appearance)

    def sae(self) -> SegmentationAutoencoder | None:
        """The trained SAE, where the recipe has one."""
        if "sae" not in self.recipe.sections:
            return None
        network = SegmentationAutoencoder(self.atlas().probabilities, **self.recipe["sae"]["network"])
        network.load_state_dict(load_file(self.out / "sae_training" / "weights.safetensors"))
        return network.eval()

    def trained(self) -> AnatomyFolder:
        """All that was trained, as a published folder holds it."""
        prior = AnatomicalPrior(self.encoder(), self.decoder(), self.settings)
        about = (self.source.closure, self.recipe["data"]["terms"], self.source.label_names)
        return AnatomyFolder(prior, self.atlas(), self.sae(), *about)


def quick(network: Network) -> Network:
    """The network with its weights in the order that the CPU convolves fastest in, half as fast again."""
    dims = next(weights.dim() for weights in network.parameters() if weights.dim() > 2) - 2
    return network.to(memory_format=LAYOUT[dims])
