"""The objective of interactive networks: heatmaps under simulated interaction, chosen by their errors after clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...heatmaps import index_to_cell
from ...inference.published.ikem_decoding import Previous
from ...inference.published.ikem_view import IkemPlan, network_input
from .augmentation import IkemAugmentation
from .interaction import Interaction, Simulation, errors_by_clicks, interact, mean_after
from .losses import IkemLoss
from .samples import IkemFilms


@dataclass
class InteractiveHeatmaps:
    """Batches drawn without replacement from ``films``, a new order in each epoch; validated on ``kept_out``.

    The figure is the mean error in pixels of the film after each number of ``clicks``. It is measured in evaluation
    mode: the original ran its scored pass in training mode, which let validation films into the batch statistics.

    Attributes:
        plan: what the network sees.
        augmentation, criterion: see there.
        interaction: how a user is simulated; None trains without hints, and the last epoch is the one kept.
        stride: pixels of the input per heatmap cell.
        clicks: numbers of corrections that the figure averages over.
        decoding: of the figure.
    """

    films: IkemFilms
    kept_out: IkemFilms
    plan: IkemPlan
    augmentation: IkemAugmentation
    criterion: IkemLoss
    interaction: Interaction | None
    batch: int
    stride: int
    clicks: Sequence[int]
    decoding: str
    device: torch.device = torch.device("cpu")
    order: list[int] = field(default_factory=list, init=False)
    epoch: torch.Generator | None = field(default=None, init=False)

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        images, points, scales = self.films.batch(self.next_rows(generator))
        images, points = self.augmentation(images, points, scales, generator)
        simulation = self.simulation(network, images, points, scales)
        maps = simulation.maps() if self.interaction is None else interact(simulation, self.interaction, generator)
        if self.criterion.auxiliary:
            outputs = network(simulation.inputs, maps, auxiliary=True)
        else:
            outputs = (network(simulation.inputs, maps),)
        return self.criterion(outputs, index_to_cell(simulation.truth, self.stride), simulation.scales)

    @property
    def previous(self) -> Previous:
        return "all" if self.interaction is None else self.interaction.previous

    def simulation(self, network: nn.Module, images: Tensor, points: Tensor, scales: Tensor) -> Simulation:
        """A batch before any interaction."""
        inputs = network_input(255 * images[:, 0], self.plan.channels).to(self.device)
        points, scales = points.to(self.device), scales.to(self.device)
        return Simulation(network, inputs, points, scales, self.stride, self.plan.hint_deviation, self.previous)

    def next_rows(self, generator: torch.Generator) -> list[int]:
        """Rows of the next batch; what is left of a pass and too few for a batch is dropped."""
        # Each epoch brings a generator of its own. A pass ends with it, so that a resumed run draws the same.
        if generator is not self.epoch or len(self.order) < self.batch:
            self.epoch = generator
            self.order = torch.randperm(len(self.films), generator=generator).tolist()
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return rows

    def validate(self, network: nn.Module) -> float | None:
        if self.interaction is None:
            return None
        return mean_after(self.curves(network, self.kept_out, max(self.clicks)), self.clicks)

    def curves(self, network: nn.Module, films: IkemFilms, clicks: int) -> Tensor:
        """Mean error of each film after 0, 1 ... corrections, ``(clicks + 1, N)``, in pixels of the film."""
        parts = []
        for rows in torch.arange(len(films)).split(self.batch):
            simulation = self.simulation(network, *films.batch(rows))
            parts.append(errors_by_clicks(simulation, clicks, self.decoding).cpu())
        return torch.cat(parts, dim=1)
