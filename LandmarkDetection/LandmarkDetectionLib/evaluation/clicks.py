"""What corrections bring: a simulated user who moves the worst landmark to its true place, again and again."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..inference.detection import Detection
from ..inference.session import Session
from .metrics import placed, radial_errors
from .protocols import Protocol
from .regions import REGION_LEVEL, ellipse_regions

RIGHT_BELOW = 10.0
"""Pixels (mm in a volume): a landmark with a smaller error was right."""

WORSE_BY = 10.0
"""Pixels (mm in a volume): a landmark whose error grew by more got worse."""


class Annotator(typing.Protocol):
    """Whatever predicts landmarks and reacts to a correction."""

    @property
    def positions(self) -> np.ndarray:
        """(n, d) index coordinates in the image as loaded, NaN where a landmark is absent."""

    @property
    def predicted(self) -> np.ndarray:
        """The same before corrected landmarks are put where the user wants them; `Protocol.overwrite` tells when."""

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        """Tells the true position (d,) of one landmark; returns all positions (n, d) after that."""


@typing.runtime_checkable
class KnowsDoubt(typing.Protocol):
    """An annotator that says how far off its landmarks may be."""

    @property
    def covariances(self) -> np.ndarray:
        """(n, d, d) of the errors of `Annotator.positions`, index units squared; NaN where unknown."""


class SessionAnnotator:
    """A session, as the user has it: corrected landmarks stay, the others follow."""

    def __init__(self, detection: Detection) -> None:
        self.session = Session(detection)

    @property
    def positions(self) -> np.ndarray:
        """(n, d) index coordinates."""
        return self.session.landmarks.positions

    @property
    def predicted(self) -> np.ndarray:
        """The same: a session never disputes what the user said."""
        return self.positions

    @property
    def covariances(self) -> np.ndarray:
        """(n, d, d), index units squared, of corrected landmarks zero."""
        return self.session.landmarks.covariances

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        """Moves one landmark as if it had been dragged and released."""
        name = self.session.landmarks.schema.ids[row]
        return self.session.move(name, position).positions


class ManualAnnotator:
    """Revision by hand, the baseline: a landmark goes where it is put, and the others keep their places and doubts."""

    def __init__(self, positions: np.ndarray, covariances: np.ndarray | None = None) -> None:
        self.positions = np.array(positions, dtype=float)
        unknown = np.full((*self.positions.shape, self.positions.shape[-1]), np.nan)
        self.covariances = unknown if covariances is None else np.array(covariances, dtype=float)

    @property
    def predicted(self) -> np.ndarray:
        """The same: there is no model."""
        return self.positions

    def correct(self, row: int, position: np.ndarray) -> np.ndarray:
        """Moves one landmark."""
        self.positions[row] = position
        return self.positions


@dataclass(frozen=True, eq=False)
class ClickRecord:
    """One film under simulated corrections.

    Attributes:
        means: (clicks + 1,) mean radial error in pixels (mm in a volume) after 0, 1, ... clicks.
        right: (made,) for each correction made, the landmarks that were right and that no correction touched.
        worsened: (made,) how many of those got worse by it.
        inside: (clicks + 1,) after 0, 1, ... clicks, the landmarks not yet corrected that lie in their error ellipses.
        judged: (clicks + 1,) of how many that was asked: they were found, and have an ellipse and a truth.
    """

    means: np.ndarray
    right: np.ndarray
    worsened: np.ndarray
    inside: np.ndarray
    judged: np.ndarray


def simulate(
    annotator: Annotator,
    truth: np.ndarray,
    clicks: int,
    protocol: Protocol,
    size: Sequence[int],
    progress: Callable[[int], None] = lambda done: None,
    steps: np.ndarray | None = None,
) -> ClickRecord:
    """Corrects the worst landmark `clicks` times; a click does nothing once no landmark is left to correct.

    An absent landmark that has a truth counts as lying in the middle of the image, see `metrics.placed`.

    Args:
        truth: (n, d) index coordinates in the order of the annotator's landmarks, NaN where unknown, not all of them.
        size: of the image, x first.
        progress: told the clicks done.
        steps: (d,) lengths of the steps of an index in which errors are scored; one pixel where not given.

    Raises:
        LandmarkDetectionError: the protocol looks for the worst landmark on a film, and this is a volume.
    """
    unit = np.ones(len(size)) if steps is None else np.asarray(steps)
    scale = unit * _scale(protocol, size)
    touched = np.zeros(len(truth), dtype=bool)
    found = _scored(annotator, truth, touched, protocol, size)
    errors = radial_errors(found * unit, truth * unit)
    means, right, worsened = [np.nanmean(errors)], [], []
    held = [_held(annotator, truth, touched)]
    for click in range(clicks):
        worst = _worst(radial_errors(found * scale, truth * scale), touched & (not protocol.repeat))
        if worst is not None:
            annotator.correct(worst, truth[worst])
            touched[worst] = True
            found = _scored(annotator, truth, touched, protocol, size)
            before, errors = errors, radial_errors(found * unit, truth * unit)
            was_right = ~touched & (before < RIGHT_BELOW)
            right.append(was_right.sum())
            worsened.append((was_right & (errors - before > WORSE_BY)).sum())
        means.append(np.nanmean(errors))
        held.append(_held(annotator, truth, touched))
        progress(click + 1)
    inside, judged = np.array(held, dtype=int).T
    return ClickRecord(np.array(means), np.array(right, dtype=int), np.array(worsened, dtype=int), inside, judged)


def _held(annotator: Annotator, truth: np.ndarray, touched: np.ndarray) -> tuple[int, int]:
    """How many untouched landmarks have their truth in their error ellipse, and how many could be asked."""
    if not isinstance(annotator, KnowsDoubt):
        return 0, 0
    inside = ellipse_regions(annotator.positions, annotator.covariances, truth, REGION_LEVEL).inside[~touched]
    return int(np.nansum(inside)), int(np.isfinite(inside).sum())


def _scale(protocol: Protocol, size: Sequence[int]) -> np.ndarray:
    if protocol.worst_at is None:
        return np.ones(len(size))
    if len(size) != len(protocol.worst_at):
        raise LandmarkDetectionError("This protocol is one for films; choose the protocol 'ours' for a volume.")
    return np.array(protocol.worst_at) / np.array(size)


def _scored(
    annotator: Annotator, truth: np.ndarray, touched: np.ndarray, protocol: Protocol, size: Sequence[int]
) -> np.ndarray:
    if not protocol.overwrite:
        return placed(annotator.predicted, size)
    return np.where(touched[:, None], truth, placed(annotator.positions, size))


def _worst(errors: np.ndarray, excluded: np.ndarray) -> int | None:
    candidates = np.where(excluded | ~np.isfinite(errors), 0.0, errors)
    worst = int(candidates.argmax())
    return worst if candidates[worst] > 0 else None
