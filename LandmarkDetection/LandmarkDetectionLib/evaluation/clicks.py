"""What corrections bring: a simulated user who moves the worst landmark to its true place, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..inference.detection import Detection
from ..inference.session import Session
from .metrics import radial_errors

TARGETS = (1, 2, 3, 5, 10, 20, 30, 40, 50)
"""Mean errors in pixels that a film should reach, for the number of clicks and the failure rate."""


@dataclass(frozen=True)
class Protocol:
    """How published evaluations of corrections differ.

    Attributes:
        repeat: whether a landmark that was corrected may be chosen again.
        failures_cost_cap: whether a film that never reaches the target counts as the greatest number of clicks;
            leaving it out instead flatters the weaker model.
    """

    repeat: bool
    failures_cost_cap: bool


PROTOCOLS = {
    "ours": Protocol(repeat=False, failures_cost_cap=True),
    "kim": Protocol(repeat=False, failures_cost_cap=False),
    "student": Protocol(repeat=True, failures_cost_cap=False),
}


def protocol_named(name: str) -> Protocol:
    """The protocol `name`.

    Raises:
        LandmarkDetectionError: if there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise LandmarkDetectionError(f"'{name}' is not a protocol; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def simulate(detection: Detection, truth: np.ndarray, clicks: int, protocol: Protocol) -> np.ndarray:
    """Mean radial error in pixels after 0, 1, ... `clicks` corrections through a session, shape (clicks + 1,).

    Args:
        truth: (n, d) index coordinates in the order of the detection's schema, NaN where unknown.
    """
    session = Session(detection)
    ids = detection.landmarks.schema.ids
    corrected: set[int] = set()
    means = []
    for click in range(clicks + 1):
        errors = radial_errors(session.landmarks.positions, truth)
        means.append(float(np.nanmean(errors)))
        if click == clicks:
            break
        worst = _worst(errors, set() if protocol.repeat else corrected)
        if worst is not None:
            session.move(ids[worst], truth[worst])
            corrected.add(worst)
    return np.array(means)


def simulate_manual(positions: np.ndarray, truth: np.ndarray, clicks: int) -> np.ndarray:
    """The same without a model: each click replaces the worst landmark by its true place and nothing follows."""
    errors = radial_errors(positions, truth)
    means = [float(np.nanmean(errors))]
    for _ in range(clicks):
        worst = _worst(errors, set())
        if worst is not None:
            errors[worst] = 0.0
        means.append(float(np.nanmean(errors)))
    return np.array(means)


def clicks_to_reach(curves: np.ndarray, target: float, protocol: Protocol) -> tuple[float | None, float]:
    """Mean number of clicks until the mean error is at most `target`, and the share of films that never get there.

    Args:
        curves: (m, clicks + 1) mean error of each film after each click.
    """
    reached = curves <= target
    failed = ~reached.any(axis=1)
    first = np.where(failed, curves.shape[1] - 1, reached.argmax(axis=1))
    counted = first if protocol.failures_cost_cap else first[~failed]
    return (float(counted.mean()) if len(counted) else None), float(failed.mean())


def click_figures(curves: Sequence[np.ndarray], manual: Sequence[np.ndarray], protocol: Protocol) -> dict:
    """``by_clicks``, ``manual_by_clicks``, ``noc`` and ``failure_rate`` (both by target in pixels) of all films."""
    figures: dict = {"by_clicks": [], "manual_by_clicks": [], "noc": {}, "failure_rate": {}}
    if not curves:
        return figures
    figures["by_clicks"] = np.mean(curves, axis=0).tolist()
    figures["manual_by_clicks"] = np.mean(manual, axis=0).tolist()
    if len(curves[0]) > 1:
        for target in TARGETS:
            number, rate = clicks_to_reach(np.array(curves), target, protocol)
            figures["noc"][str(target)], figures["failure_rate"][str(target)] = number, rate
    return figures


def _worst(errors: np.ndarray, excluded: set[int]) -> int | None:
    candidates = errors.copy()
    candidates[list(excluded)] = np.nan
    return int(np.nanargmax(candidates)) if np.isfinite(candidates).any() else None
