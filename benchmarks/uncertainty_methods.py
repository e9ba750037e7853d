"""The methods of `uncertainty.py`: each makes regions and expected errors of films by what other films tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from LandmarkDetectionLib.heatmaps import covariance, expected_radial_error
from LandmarkDetectionLib.training.calibration.figures import calibrated_errors
from LandmarkDetectionLib.training.calibration.fitting import LEVEL, fit, pooled_ratio
from LandmarkDetectionLib.uncertainty.conformal import joint_masses, landmark_quantiles
from LandmarkDetectionLib.uncertainty.regions import ellipse_area, ellipse_distance, region_area, truth_mass
from torch import Tensor
from uncertainty_films import Looks

WEIGHTS = np.arange(10) / 10
"""Shares of the scatter of points in a covariance that are tried; the rest is constant."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a method said of m films, and whether it was true.

    Attributes:
        inside: (m, n) whether the region of a landmark holds it; joint: the same of regions that are to hold all.
        area: (m, n) of the former in cells; expected: (m, n) errors in cells.
        milliseconds: (m,) of processor time that this took, given the heatmaps.
        weight: (m,) share of the scatter of points in the covariances; NaN where there is none.
    """

    inside: np.ndarray
    joint: np.ndarray
    area: np.ndarray
    expected: np.ndarray
    milliseconds: np.ndarray
    weight: np.ndarray

    @classmethod
    def joined(cls, parts: list[Judgement]) -> Judgement:
        """The films of all parts, in their order."""
        return cls(**{field.name: np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls)})


@dataclass(frozen=True, eq=False)
class Fold:
    """Films to calibrate on, films to judge, and the calibration that the former give."""

    calibrating: Looks
    kept_out: Looks
    values: dict

    @classmethod
    def make(cls, calibrating: Looks, kept_out: Looks) -> Fold:
        return cls(calibrating, kept_out, fit(calibrating.evidence))

    def value(self, name: str) -> Tensor:
        """A value of the calibration for each landmark, (n,)."""
        return torch.tensor(self.values[name], dtype=torch.float32)


def raw(fold: Fold) -> Judgement:
    """The heatmap as it is."""
    ones = torch.ones(fold.kept_out.evidence.logits.shape[1])
    return of_density(fold, ones, ones, np.full(len(ones), LEVEL), np.full(len(ones), LEVEL))


def tempered(fold: Fold) -> Judgement:
    """The heatmap at the temperatures that make the truths likeliest, taken at its word."""
    temperature = fold.value("temperature")
    masses = np.full(len(temperature), LEVEL)
    return of_density(fold, temperature, temperature, masses, masses)


def highest_density(fold: Fold) -> Judgement:
    """The regions and expected errors of a calibrated detection."""
    certainty = fold.values["certainty"]
    temperatures = fold.value("temperature"), fold.value("error_temperature")
    found = of_density(fold, *temperatures, certainty.masses, certainty.joint_masses)
    expected = calibrated_errors(fold.kept_out.evidence, found.expected, fold.values)
    return Judgement(**vars(found) | {"expected": expected})


def heatmap_ellipses(fold: Fold) -> Judgement:
    """The ellipses of a calibrated detection, which is what is drawn while points are moved."""
    seen, spread, radius, spent = fold.kept_out.evidence, [], [], []
    temperature, wide = fold.value("temperature"), fold.value("error_temperature")
    for maps, found in zip(seen.logits, seen.found, strict=True):
        maps, start = maps.float(), time.process_time()
        spread.append(covariance(maps / temperature[:, None, None], found).double().numpy())
        radius.append(expected_radial_error(maps / wide[:, None, None], found).double().numpy())
        spent.append(1000 * (time.process_time() - start))
    expected = calibrated_errors(fold.kept_out.evidence, np.stack(radius), fold.values)
    before = fold.calibrating.evidence.spreads(temperature)
    return of_ellipses(fold, before, np.stack(spread), expected, np.array(spent), np.nan)


def constant_ellipses(fold: Fold) -> Judgement:
    """One covariance for each landmark, whatever the film shows."""
    own, both = constant(fold.calibrating.evidence.apart), (fold.calibrating, fold.kept_out)
    before, after = (np.broadcast_to(own, (len(looks.evidence), *own.shape)) for looks in both)
    spent = np.zeros(len(after))
    return of_ellipses(fold, before, after, trace_errors(fold, before, after), spent, np.nan)


def scatter_ellipses(name: str) -> Callable[[Fold], Judgement]:
    """The scatter of points that other members, passes or views find, mixed with the constant covariance.

    The scatter of each landmark is first brought to the mean size of its constant covariance. Its share is the one of
    `WEIGHTS` with which the conformal ellipses of the films calibrated on are smallest (mean of the logarithm).
    """

    def judge(fold: Fold) -> Judgement:
        apart = fold.calibrating.evidence.apart
        own, scatters = constant(apart), (fold.calibrating.scatter[name], fold.kept_out.scatter[name])
        size = np.trace(scatters[0], axis1=-2, axis2=-1).mean(axis=0)
        factor = np.trace(own, axis1=-2, axis2=-1) / np.maximum(size, np.finfo(float).tiny)
        before, after = (factor[:, None, None] * values for values in scatters)
        weight = min(WEIGHTS, key=lambda share: log_area(apart, share * before + (1 - share) * own))
        before, after = (weight * values + (1 - weight) * own for values in (before, after))
        spent = fold.kept_out.milliseconds[name]
        return of_ellipses(fold, before, after, trace_errors(fold, before, after), spent, weight)

    return judge


METHODS: dict[str, Callable[[Fold], Judgement]] = {
    "1 heatmap as it is": raw,
    "2 heatmap, temperature": tempered,
    "3 conformal highest density": highest_density,
    "4 conformal heatmap ellipses": heatmap_ellipses,
    "5 conformal constant ellipses": constant_ellipses,
    "6 conformal, members' scatter": scatter_ellipses("members"),
    "7 conformal, dropout scatter": scatter_ellipses("dropout"),
    "8 conformal, scatter of views": scatter_ellipses("views"),
}


def of_density(
    fold: Fold, temperature: Tensor, error_temperature: Tensor, masses: np.ndarray, joint: np.ndarray
) -> Judgement:
    """Highest-density regions of the films kept out; errors as the heatmaps say them."""
    seen, rows = fold.kept_out.evidence, []
    for maps, found, truth in zip(seen.logits, seen.found, seen.truth.numpy(), strict=True):
        maps, start = maps.float(), time.process_time()
        sharp = (maps / temperature[:, None, None]).numpy()
        area = region_area(sharp, masses)
        expected = expected_radial_error(maps / error_temperature[:, None, None], found).double().numpy()
        spent = 1000 * (time.process_time() - start)
        needed = truth_mass(sharp, truth)
        rows.append((needed <= masses, needed <= joint, area, expected, spent, np.nan))
    return Judgement(*map(np.array, zip(*rows, strict=True)))


def of_ellipses(
    fold: Fold, before: np.ndarray, after: np.ndarray, expected: np.ndarray, spent: np.ndarray, weight: float
) -> Judgement:
    """Conformal ellipses from covariances (films, n, 2, 2) in cells, before: calibrated on, after: kept out."""
    scores = ellipse_distance(fold.calibrating.evidence.apart, before)
    limits = landmark_quantiles(scores, LEVEL)
    # On d / (1 + d) the joint step, which adds to logits, is one factor on all distances.
    masses = joint_masses(scores / (1 + scores), limits / (1 + limits), LEVEL)
    with np.errstate(divide="ignore"):
        together = masses / (1 - masses)
    distance = ellipse_distance(fold.kept_out.evidence.apart, after)
    weights = np.full(len(after), weight)
    return Judgement(distance <= limits, distance <= together, ellipse_area(after, limits), expected, spent, weights)


def trace_errors(fold: Fold, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Expected errors in cells: the root of the trace, scaled to each landmark's mean error where calibrated."""
    said = [np.sqrt(np.trace(values, axis1=-2, axis2=-1)) for values in (before, after)]
    return pooled_ratio(np.linalg.norm(fold.calibrating.evidence.apart, axis=-1), said[0]) * said[1]


def constant(apart: np.ndarray) -> np.ndarray:
    """Second moments (n, 2, 2) of errors (m, n, 2); a landmark without any has that of all."""
    known = np.isfinite(apart).all(axis=-1)
    errors = np.where(known[..., None], apart, 0.0)
    total, count = np.einsum("mni,mnj->nij", errors, errors), known.sum(axis=0)
    own = total / np.maximum(count, 1)[:, None, None]
    return np.where(count[:, None, None] > 0, own, total.sum(axis=0) / max(count.sum(), 1))


def log_area(apart: np.ndarray, covariances: np.ndarray) -> float:
    """Mean logarithm of the areas of conformal ellipses."""
    limits = landmark_quantiles(ellipse_distance(apart, covariances), LEVEL)
    return float(np.log(ellipse_area(covariances, limits)).mean())
