"""How published evaluations simulate corrections, and how this project does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import LandmarkDetectionError


@dataclass(frozen=True)
class Protocol:
    """The rules of a simulated user and of the count.

    Attributes:
        repeat: whether a landmark that was corrected may be chosen again.
        overwrite: whether corrected landmarks count as lying at their true places, whatever the model answers.
        previous_map: which channels of its last prediction a network sees again: all, only those of corrected
            landmarks, or as it was trained. Only networks that take their last prediction ask for it.
        failures_cost_cap: whether a film that never reaches the target counts as the greatest number of clicks;
            leaving it out instead flatters the weaker model. `click_figures` gives the other count beside it.
        worst_at: size (x first) in pixels to which the film is stretched before its worst landmark is sought; None for
            the film as it is. Errors are always scored in pixels of the film as it is.
    """

    repeat: bool
    overwrite: bool
    previous_map: Literal["hinted", "all", "trained"]
    failures_cost_cap: bool
    worst_at: tuple[int, int] | None = None


PROTOCOLS = {
    "ours": Protocol(repeat=False, overwrite=True, previous_map="trained", failures_cost_cap=True),
    "kim": Protocol(repeat=False, overwrite=True, previous_map="hinted", failures_cost_cap=False),
    "student": Protocol(
        repeat=True, overwrite=False, previous_map="hinted", failures_cost_cap=False, worst_at=(256, 512)
    ),
}
"""``kim``: Kim et al., MICCAI 2022, who do not say how failures count. ``student``: the UNet variant built on it."""


def protocol_named(name: str) -> Protocol:
    """The protocol `name`.

    Raises:
        LandmarkDetectionError: if there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise LandmarkDetectionError(f"'{name}' is not a protocol; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
