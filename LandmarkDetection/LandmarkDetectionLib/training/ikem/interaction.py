"""Simulated users for interactive networks: hints before a prediction and corrections after it (Kim et al. 2022).

A training step sees what a network would see after some interaction: a random number of landmarks is hinted, then the
network predicts up to two times without learning, each time it is shown its own heatmaps and one more hint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import LandmarkDetectionError
from ...heatmaps import cell_to_index, index_to_cell, mode
from ...inference.published.ikem_decoding import Previous, check_previous, decoder, interaction_maps

HINT_COUNTS: dict[str, tuple[float, ...]] = {
    "kim": (1 / 8, 1 / 2, *(2.0**-n for n in (2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12))),
    "student": (0.25, 0.5, 0.25, *(2.0**-n for n in range(3, 11))),
}
"""How likely 0, 1, 2 ... hints are; the student project's are proportional to these and add up to 1.249."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: statistics of batch normalization are used, not changed; nothing is dropped."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@dataclass(frozen=True)
class Interaction:
    """How a user is simulated in training.

    Attributes:
        counts: name of the distribution of the number of first hints, see `HINT_COUNTS`.
        hints_first: whether they may precede the first prediction (Kim et al.; second version of the student project).
            Otherwise they are corrections of it (first version), which the student project found to teach little.
        among: a correction is drawn from so many worst landmarks: 1 is the worst, 10 the student's first version.
        rounds: at most so many predictions without learning, each followed by one correction; uniform from 0 on.
        previous: which heatmaps predicted last the network sees again.

    Raises:
        LandmarkDetectionError: a name that does not exist.
    """

    counts: str = "kim"
    hints_first: bool = True
    among: int = 1
    rounds: int = 2
    previous: Previous = "all"

    def __post_init__(self) -> None:
        check_previous(self.previous)
        if self.counts not in HINT_COUNTS:
            known = ", ".join(HINT_COUNTS)
            raise LandmarkDetectionError(f"Recipe field 'counts': '{self.counts}' is not one of {known}.")


def count_probabilities(name: str) -> Tensor:
    """Probability of 0, 1, 2 ... hints."""
    weights = torch.tensor(HINT_COUNTS[name], dtype=torch.float64)
    return weights / weights.sum()


def draw_counts(name: str, batch: int, generator: torch.Generator) -> Tensor:
    """Number of first hints for each image of a batch, drawn for each by itself, shape ``(batch,)``."""
    return torch.multinomial(count_probabilities(name), batch, replacement=True, generator=generator)


def chosen_rows(scores: Tensor, numbers: Tensor, among: int, generator: torch.Generator) -> Tensor:
    """Which landmarks are corrected, boolean ``(B, K)``.

    Args:
        scores: ``(B, K)`` errors; not finite where a landmark cannot be chosen.
        numbers: ``(B,)`` how many to choose in each image, or as many as there are.
        among: they are drawn at random from so many of the greatest scores, or from ``numbers`` if these are more.
    """
    possible = torch.isfinite(scores)
    order = torch.where(possible, scores, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1)
    pool = possible & (place < numbers.clamp(min=among)[:, None])
    keys = torch.rand(scores.shape, generator=generator).to(scores.device)
    drawn = torch.where(pool, keys, torch.inf).argsort(dim=1).argsort(dim=1)
    return pool & (drawn < numbers[:, None])


@dataclass
class Simulation:
    """A batch, and what has been said and predicted about it so far.

    Attributes:
        network: answers to images and maps with logits.
        inputs: ``(B, C, H, W)``.
        truth: ``(B, K, 2)`` index coordinates in them, NaN where unknown: such landmarks are never corrected.
        scales: ``(B, 2)`` pixels of the film per pixel of the input: errors count in those of the film.
        stride: pixels of the input per cell.
        deviation: of a hint, in pixels of the input.
        previous: which heatmaps are passed on.
    """

    network: nn.Module
    inputs: Tensor
    truth: Tensor
    scales: Tensor
    stride: int
    deviation: float
    previous: Previous

    def __post_init__(self) -> None:
        self.hinted = torch.full_like(self.truth, torch.nan)
        self.heatmaps: Tensor | None = None

    def maps(self) -> Tensor:
        """What the network is to see beside the images."""
        size = tuple(n // self.stride for n in reversed(self.inputs.shape[2:]))
        cells = index_to_cell(self.hinted, self.stride)
        return interaction_maps(cells, self.heatmaps, size, self.deviation / self.stride, self.previous)

    @torch.no_grad()
    def predict(self) -> Tensor:
        """Logits in evaluation mode and without gradients; they are what the network sees next."""
        with evaluating(self.network):
            logits = self.network(self.inputs, self.maps()).float()
        self.heatmaps = logits.sigmoid()
        return logits

    def errors(self, cells: Tensor) -> Tensor:
        """Distance ``(B, K)`` of cells to the truth in pixels of the film; 0 where there is a hint, NaN if unknown."""
        apart = (cell_to_index(cells, self.stride) - self.truth) * self.scales[:, None]
        return torch.where(torch.isfinite(self.hinted).all(-1), 0.0, apart.norm(dim=-1))

    def free(self, scores: Tensor) -> Tensor:
        """Scores of landmarks that may still be chosen, NaN elsewhere."""
        return torch.where(torch.isfinite(self.hinted).all(-1), torch.nan, scores)

    def hint(self, rows: Tensor) -> None:
        """Say the truth about landmarks ``(B, K)``."""
        self.hinted = torch.where(rows[..., None], self.truth, self.hinted)

    def correct(self, logits: Tensor, numbers: Tensor, among: int, generator: torch.Generator) -> None:
        """Hint the worst landmarks by the cells of the maxima."""
        self.hint(chosen_rows(self.free(self.errors(mode(logits))), numbers, among, generator))


def interact(simulation: Simulation, interaction: Interaction, generator: torch.Generator) -> Tensor:
    """The maps of one training step, after a random course of interaction."""
    batch, device = len(simulation.inputs), simulation.truth.device
    rounds = int(torch.randint(interaction.rounds + 1, (1,), generator=generator))
    numbers = draw_counts(interaction.counts, batch, generator).to(device)
    if interaction.hints_first:
        anything = simulation.free(simulation.truth.sum(dim=-1) * 0)
        simulation.hint(chosen_rows(anything, numbers, anything.shape[1], generator))
    elif bool((numbers > 0).any()):
        simulation.correct(simulation.predict(), numbers, interaction.among, generator)
        # Where nothing was corrected, no prediction has been made: first predictions have to be learnt as well.
        simulation.heatmaps *= (numbers > 0).view(-1, *[1] * (simulation.heatmaps.ndim - 1))
    one = torch.ones_like(numbers)
    for _ in range(rounds):
        simulation.correct(simulation.predict(), one, interaction.among, generator)
    return simulation.maps()


def errors_by_clicks(simulation: Simulation, clicks: int, decoding: str) -> Tensor:
    """Mean error of each image after 0, 1 ... corrections of its worst landmark, ``(clicks + 1, B)``, in film pixels.

    Everything runs in evaluation mode. A landmark is corrected once, counts as right from then on, and is chosen by the
    error that is reported.
    """
    decode, radius = decoder(decoding), max(1, int(simulation.deviation / simulation.stride))
    means: list[Tensor] = []
    unused = torch.Generator()
    for click in range(clicks + 1):
        errors = simulation.errors(decode(simulation.predict(), radius=radius))
        means.append(errors.nanmean(dim=1))
        if click < clicks:
            one = torch.ones(len(errors), dtype=torch.long, device=errors.device)
            simulation.hint(chosen_rows(simulation.free(errors), one, 1, unused))
    return torch.stack(means)


def mean_after(curves: Tensor, clicks: Sequence[int]) -> float:
    """Mean over the images of the mean error after each number of ``clicks``, from ``(most + 1, B)``."""
    return float(curves[list(clicks)].mean())
