"""The model that draws the bones of a film: an anatomical prior in a folder, with what a user should know of it.

The folder is the one that `priors.anatomy_folder` reads, and is checked there, with a few fields more in its
description. It finds no landmarks, so it is not among the models of `inference.bundle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BundleError
from ..priors.anatomical import AnatomicalPrior
from ..priors.anatomy_folder import DESCRIPTION, load_anatomy, read_description
from .bundle import BUNDLED_MODELS, user_models

BONES = {"knee-ap": "knee-ap-bones"}
"""The model that draws the bones, by the schema of the landmarks that it needs."""


@dataclass(frozen=True, eq=False)
class BoneModel:
    """A model as it is stored, ready to run on the processor.

    Attributes:
        schema: name of the landmarks that tell it where to look.
        limits: (n,) for each landmark, how far from its bone's edge it may lie, as a share of the centroid size.
        prior: encoder and decoder.
    """

    name: str
    version: str
    title: str
    licence: str
    terms: str
    schema: str
    limits: np.ndarray
    prior: AnatomicalPrior

    @classmethod
    def load(cls, folder: str | Path) -> BoneModel:
        """Read and check a model.

        Raises:
            BundleError: a file is missing, was altered, or does not say what it must.
        """
        folder = Path(folder)
        prior = load_anatomy(folder).prior
        content = read_description(folder)
        try:
            about = {key: content[key] for key in ("name", "version", "title", "licence", "terms", "schema")}
            limits = np.array(content["contour_limits"], dtype=float)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{DESCRIPTION} in '{folder}' is damaged ({error}); install the model again.") from error
        return cls(**about, limits=limits, prior=prior)


def find_bone_model(schema: str) -> BoneModel:
    """The model for the landmarks of a schema; a user's own comes before the one that is installed.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    if schema not in BONES:
        known = ", ".join(BONES)
        raise BundleError(f"No model draws the bones about landmarks of '{schema}'; choose a detection of: {known}.")
    folders = [root / BONES[schema] for root in (user_models(), BUNDLED_MODELS)]
    present = [folder for folder in folders if (folder / DESCRIPTION).is_file()]
    if not present:
        raise BundleError(f"The model '{BONES[schema]}' is not installed; install this extension again.")
    return BoneModel.load(present[0])
