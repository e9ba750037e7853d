"""Self-training: landmarks that trained networks give to films without labels, where they agree.

A label is kept where the networks, shown shifted and scaled crops, say the same, where the shape is plausible, and, for
films of unknown side, where one orientation is clearly the more plausible one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...priors.shape import ShapePrior
from ..data.crops import CropGeometry, centroid_size
from ..data.films import Films
from .likelihood import perturbed, predict_points


@dataclass(frozen=True)
class Gate:
    """When a label is kept: ``spread`` is the mean distance of the predictions from their mean as a share of the
    centroid size, ``distance`` the Mahalanobis distance of the shape as a share of the prior's limit. Of a film of
    unknown side one orientation must have the more plausible shape and, by ``margin``, the higher mean log-probability
    at the peaks.
    """

    spread: float = 0.025
    distance: float = 0.6
    margin: float = 0.05
    repeats: int = 2


@torch.no_grad()
def repeated_predictions(
    networks: Sequence[nn.Module], images: Tensor, near: Tensor, geometry: CropGeometry, repeats: int
) -> tuple[Tensor, Tensor]:
    """Landmarks ``(R, B, K, 2)`` from ``repeats`` crops for each network.

    And the mean log-probability at the peaks, ``(B,)``.
    """
    results = []
    for network in networks:
        points, _ = predict_points(network, images, near, geometry, network.stride)
        for seed in range(repeats):
            about = perturbed(points, seed)
            results.append(predict_points(network, images, about, geometry, network.stride))
    return torch.stack([points for points, _ in results]), torch.stack([peaks for _, peaks in results]).mean(0)


def pseudo_labels(
    networks: Sequence[nn.Module],
    films: Films,
    typical: Tensor,
    prior: ShapePrior,
    geometry: CropGeometry,
    gate: Gate,
    batch: int = 32,
) -> Films:
    """The films that pass the gate, with landmarks, in the orientation of a right limb.

    Args:
        networks: in evaluation mode; their mean is the label.
        films: whose ``sides`` are known, or "" where not.
        typical: landmarks ``(K, 2)`` of the usual film, the first guess.
        prior: of shapes in the orientation of a right limb.
    """
    kept, points, images = [], [], []
    for rows in torch.arange(len(films)).split(batch):
        shown, _ = films.batch(rows)
        near = typical.expand(len(rows), *typical.shape)
        first, peak = repeated_predictions(networks, shown, near, geometry, gate.repeats)
        second, other_peak = first, peak
        if not all(films.sides[row] for row in rows.tolist()):
            second, other_peak = repeated_predictions(networks, shown.flip(-1), near, geometry, gate.repeats)
        gain = (other_peak - peak).tolist()
        for item, row in enumerate(rows.tolist()):
            orientation = 0 if films.sides[row] else likelier(first[:, item], second[:, item], gain[item], prior, gate)
            if orientation is None:
                continue
            turned = orientation == 1
            found = (second if turned else first)[:, item]
            if trusted(found, prior, gate):
                kept.append(row)
                points.append(found.mean(0))
                images.append(films.images[row].flip(-1) if turned else films.images[row])
    chosen = films.select([row in set(kept) for row in range(len(films))])
    if not kept:
        return chosen
    return Films(torch.stack(images), torch.stack(points), chosen.names, chosen.subjects, chosen.splits, chosen.sides)


def likelier(first: Tensor, second: Tensor, gain: float, prior: ShapePrior, gate: Gate) -> int | None:
    """Which orientation of a film is the right one, 0 or 1; None where network and shape do not agree on it."""
    distances = [prior.distance(found.mean(0).double().numpy()) for found in (first, second)]
    better = int(gain > 0)
    return better if abs(gain) > gate.margin and distances[better] < distances[1 - better] else None


def trusted(predictions: Tensor, prior: ShapePrior, gate: Gate) -> bool:
    """Whether repeated predictions ``(R, K, 2)`` of one film agree and make a plausible shape."""
    mean = predictions.mean(0)
    spread = (predictions - mean).norm(dim=-1).mean() / centroid_size(mean[None])[0, 0, 0]
    return bool(spread < gate.spread) and prior.distance(mean.double().numpy()) < gate.distance * prior.limit
