"""Training of the region stage: a coarse heatmap for each landmark and a map of presence, one orientation at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...heatmaps import cell_to_index, index_to_cell, local_expectation, spatial_cross_entropy
from ..data.appearance import normalise_batch
from ..data.films import Films
from .wide_films import WideGeometry, finished, knee_films, other_films, shafts


def presence_logits(logits: Tensor) -> Tensor:
    """Logit ``(B,)`` that the film shows the anatomy in this orientation: the peak of the last heatmap."""
    return logits[:, -1].flatten(1).amax(dim=1)


@dataclass
class RegionObjective:
    """Likelihood of the landmarks where the anatomy is present, and cross-entropy of the presence.

    Of each batch 5/8 are knees (half of the single ones mirrored), 1/8 knees without their joint or turned, and 1/4
    films of other anatomy. ``wide`` are whole films with a field of view of their own, used as they are.
    """

    films: Films
    wide: Films | None
    others: Tensor
    kept_out: Films
    geometry: WideGeometry
    batch: int
    stride: int

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            films, points, presence = self.draw(generator)
        logits = network(films.contiguous(memory_format=torch.channels_last)).float()
        known = torch.where(presence[:, None, None] > 0, points, torch.nan)
        likelihood = spatial_cross_entropy(logits[:, :-1], index_to_cell(known, self.stride))
        return likelihood + 2 * functional.binary_cross_entropy_with_logits(presence_logits(logits), presence)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Network input, landmarks and presence of one batch."""
        size = self.geometry.size
        eighth = self.batch // 8
        knees, points, presence = self.knees(5 * eighth, generator)
        rows = torch.randint(len(self.films), (eighth,), generator=generator)
        broken = shafts(*self.films.batch(rows), generator)
        broken = functional.interpolate(broken, size=(size, size), mode="bilinear", antialias=True)
        count = self.batch - 6 * eighth
        rows = torch.randint(len(self.others), (count,), generator=generator)
        others = other_films(self.others[rows].float() / 255, size, generator)
        absent = self.batch - len(knees)
        points = torch.cat([points, torch.zeros(absent, *points.shape[1:])])
        return (
            finished(torch.cat([knees, broken, others]), generator),
            points,
            torch.cat([presence, torch.zeros(absent)]),
        )

    def knees(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Films of knees: put together from crops, and a fifth of them wide films as they are."""
        whole = count // 5 if self.wide is not None else 0
        rows = torch.randint(len(self.films), (2, count - whole), generator=generator)
        drawn = knee_films(*self.films.batch(rows[0]), *self.films.batch(rows[1]), self.geometry, generator)
        if not whole:
            return drawn
        images, points = self.wide.batch(torch.randint(len(self.wide), (whole,), generator=generator))
        scale = self.geometry.size / images.shape[-1]
        images = functional.interpolate(images, size=(self.geometry.size,) * 2, mode="bilinear", antialias=True)
        points = (points + 0.5) * scale - 0.5
        return torch.cat([drawn[0], images]), torch.cat([drawn[1], points]), torch.cat([drawn[2], torch.ones(whole)])

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float:
        """Share of wrong sides, plus the median radial error as a share of the film, on films of one knee kept out."""
        generator = torch.Generator().manual_seed(1)
        geometry = replace(self.geometry, both=0.0)
        wrong, errors = [], []
        for rows in torch.arange(len(self.kept_out)).split(64):
            images, points = self.kept_out.batch(rows)
            films, landmarks, presence = knee_films(images, points, images, points, geometry, generator)
            logits = network(normalise_batch(torch.cat([films, films.flip(-1)]))).float()
            here, mirrored = presence_logits(logits).chunk(2)
            right = presence > 0
            wrong.append((here > mirrored) != right)
            found = cell_to_index(local_expectation(logits[: len(rows), :-1]), self.stride)
            errors.append((found - landmarks).norm(dim=-1)[right].flatten())
        return float(torch.cat(wrong).float().mean() + torch.cat(errors).median() / self.geometry.size)
