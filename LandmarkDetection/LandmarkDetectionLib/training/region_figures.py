"""How well the region stage tells sides, and knees from other anatomy, on films that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .film_appearance import normalise_batch
from .film_model import FilmModel
from .films import subject_folds
from .region import presence_logits


@dataclass(frozen=True)
class Presence:
    """Logits of presence: of knees (N, 2) in their true orientation and mirrored, and of other anatomy (M, 2)."""

    knees: np.ndarray
    others: np.ndarray


@torch.no_grad()
def both_orientations(network: nn.Module, images: Tensor, size: int) -> np.ndarray:
    """Logits ``(N, 2)`` of whole films in bytes, as they are and mirrored."""
    logits = []
    for part in images.split(64):
        films = functional.interpolate(part.float() / 255, size=(size, size), mode="bilinear", antialias=True)
        both = [presence_logits(network(normalise_batch(turned)).float()) for turned in (films, films.flip(-1))]
        logits.append(torch.stack(both, dim=1))
    return torch.cat(logits).double().numpy()


def out_of_fold_presence(model: FilmModel) -> Presence:
    """Every named film judged by the region network that has not seen its subject; other anatomy by all of them."""
    stage = model.recipe["region"]
    films = model.named_with_landmarks
    chosen = subject_folds(films.subjects, stage["folds"], model.recipe.seed)
    knees, others = np.empty((len(films), 2)), []
    for fold in range(stage["folds"]):
        network = model.region_network(model.out / "region" / f"fold{fold}" / "weights.safetensors").eval()
        size = stage["geometry"]["size"]
        knees[chosen == fold] = both_orientations(network, films.images[chosen == fold], size)
        others.append(both_orientations(network, model.other_anatomy, size))
    return Presence(knees, np.concatenate(others))


def presence_figures(presence: Presence) -> tuple[float, dict]:
    """Threshold of presence, midway between the least knees and the most knee-like others, and the figures."""
    knees, others = presence.knees.max(axis=1), presence.others.max(axis=1)
    threshold = float((np.quantile(knees, 0.005) + np.quantile(others, 0.995)) / 2)
    figures = {
        "side_films": len(knees),
        "side_accuracy": float((presence.knees[:, 0] > presence.knees[:, 1]).mean()),
        "knees_refused": float((knees < threshold).mean()),
        "other_anatomy_accepted": float((others >= threshold).mean()),
    }
    return threshold, figures
