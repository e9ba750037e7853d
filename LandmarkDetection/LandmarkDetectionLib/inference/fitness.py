"""How well a film fits the model that is to read it: one score, and the refusal of a film that does not fit.

A score of 0.5 is the limit. It is the logistic function of a margin: how far the film lies on the right side of the
limits of its model, by the limit that it comes nearest to. Where that is not far, the first look is taken again with
the film turned; a film that fits better in another orientation does not fit as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log

import numpy as np

from ..errors import NotThisAnatomyError
from ..images import Image
from .bundle import Bundle, Calibration
from .detection import Detection
from .orientation import Turn, best_turn

LIMIT = 0.5
"""Score below which a film is refused."""

CLEAR = 6.0
"""Margin from which a film is not looked at turned: of 54 knees and 32 spines upside down none reached it."""

_TOLERANCE = 1.0  # by which a turned film may fit better, as that of a part of a column does by chance
_NAMED = 4.0  # margin of a turned film from which it is said how to turn it; 30 of 32 spines upside down reach it
_DOUBT = 4.0  # margin for a mean expected error e times smaller than the limit


@dataclass(frozen=True)
class Fit:
    """A margin in the unit of a logit, positive for films that fit, and the orientation in which the film would fit."""

    margin: float
    turn: Turn | None = None

    @property
    def score(self) -> float:
        """0 to 1, `LIMIT` at the limit."""
        return 1 / (1 + exp(-max(-700.0, self.margin)))

    @property
    def refused(self) -> bool:
        """Whether the film does not fit."""
        return not self.score >= LIMIT

    def limited(self, margin: float) -> Fit:
        """With one more limit to be kept."""
        return replace(self, margin=min(self.margin, margin))


def judged(image: Image, margin: float, first: float, look: Callable[[Image], float], turns: Sequence[Turn]) -> Fit:
    """The fit of a film, compared with the same film turned where it is not clear.

    Args:
        margin: of the film as it is.
        first: what ``look`` says of the film as it is.
        look: margin of a film by the first look alone.
        turns: orientations to be tried.
    """
    if margin >= CLEAR or not turns:
        return Fit(margin)
    best, turn = best_turn(image, look, turns)
    # What a closer look said of the film as it is counts as well: the first may be mistaken where the others are not.
    ahead = max(first, margin) - best + _TOLERANCE
    return Fit(min(margin, ahead), turn if ahead < 0 and best > _NAMED else None)


def doubt_margin(detection: Detection, calibration: Calibration) -> float:
    """Margin of the mean of a detection's ``doubts`` against the largest that is accepted.

    What a film cut off does not show does not count, unless that is more than a half: so little is at home anywhere.
    """
    counted = np.isfinite(detection.landmarks.positions).all(axis=1)
    counted |= counted.mean() < 0.5
    error = detection.doubts[counted].mean() / detection.review_threshold
    limit = calibration.refusal_threshold / calibration.review_threshold
    return inf if limit == inf else _DOUBT * log(limit / max(error, 1e-9))


def refusal(image: Image, bundle: Bundle, fit: Fit) -> NotThisAnatomyError:
    """The sentence for a film that does not fit, with its score."""
    advice = "choose another image or another model" if fit.turn is None else fit.turn.sentence
    return NotThisAnatomyError(
        f"'{image.name}' does not look like what this model reads ({bundle.title}), since it fits to "
        f"{100 * fit.score:.0f} % and {100 * LIMIT:.0f} % are needed; {advice}.",
        fit.score,
    )


def fit_notes(fit: Fit) -> tuple[str, ...]:
    """What to say of a film that was read although it does not fit."""
    if not fit.refused:
        return ()
    advice = "" if fit.turn is None else f"; {fit.turn.sentence}"
    return (f"The image fits the model to {100 * fit.score:.0f} % only, so its landmarks may be meaningless{advice}.",)
