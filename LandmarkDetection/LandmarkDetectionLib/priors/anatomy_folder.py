"""An anatomical prior as a training run leaves it: a folder with weights and what is needed to use them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from ..errors import BundleError
from ..networks.sae import SegmentationAutoencoder
from ..networks.vae import AnatomyDecoder, AnatomyEncoder
from .anatomical import AnatomicalPrior, AnatomySettings
from .anatomy_atlas import StaticAtlas
from .anatomy_statistics import Appearance
from .anatomy_volume_view import view_of

DESCRIPTION = "anatomy.json"
ENCODER, DECODER, ATLAS, SAE = "encoder.safetensors", "decoder.safetensors", "atlas.safetensors", "sae.safetensors"


@dataclass(frozen=True, eq=False)
class AnatomyFolder:
    """What a folder holds: the prior, the static atlas of the same labels, and, where it was trained, the SAE.

    ``label_names`` are in the order of the labels, the first is that of all which is none of the others.
    """

    prior: AnatomicalPrior
    atlas: StaticAtlas
    sae: SegmentationAutoencoder | None
    closure: Mapping
    terms: str
    label_names: tuple[str, ...]


def load_anatomy(folder: Path) -> AnatomyFolder:
    """Read and check a trained anatomical prior.

    Raises:
        BundleError: a file is missing, is not the one that was trained, or does not fit the others.
    """
    folder = Path(folder)
    content = read_description(folder)
    try:
        network = content["network"]
        settings = AnatomySettings(
            view_of(tuples(content["view"])), Appearance(**tuples(content["appearance"])), **content["inference"]
        )
        shape = {key: network[key] for key in ("size", "widths", "convolutions", "latent")}
        encoder = with_weights(AnatomyEncoder(1, **shape), folder / ENCODER)
        decoder = with_weights(AnatomyDecoder(network["labels"], **shape), folder / DECODER)
        probabilities = load_file(folder / ATLAS)["probabilities"]
        sae = None
        if content["sae"] is not None:
            sae = with_weights(SegmentationAutoencoder(probabilities, **content["sae"]), folder / SAE)
        atlas = StaticAtlas(probabilities, settings.view, settings.appearance)
        prior = AnatomicalPrior(encoder, decoder, settings)
        return AnatomyFolder(prior, atlas, sae, content["closure"], content["terms"], tuple(content["label_names"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"The prior in '{folder}' is damaged ({error}); copy or train it again.") from error


def read_description(folder: Path) -> dict:
    """The description of a folder whose files all are those it names."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise BundleError(f"'{folder}' holds no anatomical prior: it has no {DESCRIPTION}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        hashes = dict(content["sha256"])
        wanted = {ENCODER, DECODER, ATLAS} | ({SAE} if content["sae"] is not None else set())
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{DESCRIPTION} in '{folder}' is damaged ({error}); copy or train it again.") from error
    for name in sorted(wanted):
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != hashes.get(name):
            raise BundleError(f"The weights '{name}' in '{folder}' are missing or changed; copy or train them again.")
    return content


def with_weights(network: nn.Module, path: Path) -> nn.Module:
    """A network with the weights of a file, in evaluation mode."""
    network.load_state_dict(load_file(path))
    return network.eval()


def tuples(values: Mapping) -> dict:
    """Plain JSON values with lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
