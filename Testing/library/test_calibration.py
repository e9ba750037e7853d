"""Calibration finds what was put in, and what it promises holds for films that it has not seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.inference.doubt import bounded
from LandmarkDetectionLib.training.calibration.figures import calibrated_errors, kept_out_figures
from LandmarkDetectionLib.training.calibration.fitting import ERRONEOUS, LEVEL, Evidence, expected_errors, fit


def known_evidence(sigma: float, temperature: float, films: int = 150, strange: float = 0.0, seed: int = 5) -> Evidence:
    """Gaussian heatmaps whose logits are ``temperature`` times too large, with truths drawn as wide as they say.

    A share ``strange`` of the landmarks lies elsewhere, and the other landmarks know it.
    """
    generator = torch.Generator().manual_seed(seed)
    centers = 14 + 4 * torch.rand((films, 8, 2), generator=generator)
    axis = torch.arange(32.0)
    rows, columns = (axis - centers[..., 1:]) ** 2, (axis - centers[..., :1]) ** 2
    logits = -temperature * (rows[..., :, None] + columns[..., None, :]) / (2 * sigma**2)
    truth = centers + sigma * torch.randn(centers.shape, generator=generator)
    elsewhere = torch.rand(centers.shape[:2], generator=generator) < strange
    truth = torch.where(elsewhere[..., None], centers + 8.0, truth)
    noise = torch.rand(centers.shape[:2], generator=generator)
    return Evidence(
        groups=tuple(str(film) for film in range(films)),
        logits=logits,
        truth=truth,
        found=centers,
        cell=np.full(films, 2.0),
        size=np.full(films, 50.0),
        strange=(noise + 8.0 * elsewhere).double().numpy(),
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    assert np.mean(fit(known_evidence(1.8, temperature))["temperature"]) == pytest.approx(temperature, rel=0.06)


def test_expected_errors_are_true_on_average():
    evidence = known_evidence(1.8, 2.0)
    said = expected_errors(evidence, torch.full((8,), 2.0))
    assert said.expected.mean() == pytest.approx(evidence.errors.mean(), rel=1e-3)
    assert max(said.shape_scale) < 0.3 * np.mean(said.error_scale), "what the others say tells nothing here"


def test_a_ceiling_is_found_where_flat_heatmaps_say_too_much():
    """A tenth of the films has heatmaps four times as wide as their errors, as where a window bounds these."""
    plain, wide = known_evidence(1.2, 1.0), known_evidence(1.2, 1.0, films=15, seed=1)
    flat = replace(wide, logits=wide.logits / 16, groups=tuple(f"other {film}" for film in range(len(wide))))
    together = plain.joined(flat)
    radii = together.radii(torch.ones(8))
    assert radii[len(plain) :].mean() > 3.5 * radii[: len(plain)].mean()
    found = expected_errors(together, torch.ones(8))
    assert math.isfinite(found.ceiling)
    assert found.expected[len(plain) :].mean() < 2.5 * found.expected[: len(plain)].mean()


def test_a_bounded_error_is_what_was_said_until_the_ceiling_is_near():
    said = np.array([0.1, 1.0, 10.0, 100.0])
    np.testing.assert_allclose(bounded(said, np.inf), said)
    np.testing.assert_allclose(bounded(said, 10.0)[:2], said[:2], rtol=1e-3)
    assert bounded(said, 10.0)[2] == pytest.approx(10 / 2**0.25)
    assert bounded(said, 10.0)[3] == pytest.approx(10.0, rel=1e-3)


def test_landmarks_that_the_others_doubt_are_expected_to_be_wrong():
    plain, doubted = known_evidence(1.2, 1.0), known_evidence(1.2, 1.0, strange=0.05)
    blind = replace(doubted, strange=plain.strange)
    known, unknown = (kept_out_figures(evidence)["auc_erroneous"] for evidence in (doubted, blind))
    assert known > unknown + 0.1
    assert min(fit(doubted)["shape_scale"]) > 0.1


def test_the_review_threshold_flags_half_of_what_is_wrong():
    evidence = known_evidence(1.8, 2.0, strange=0.1)
    values = fit(evidence)
    radius = evidence.radii(torch.tensor(values["error_temperature"], dtype=torch.float32))
    expected = calibrated_errors(evidence, radius, values) * 2 / 50
    wrong = evidence.errors > ERRONEOUS
    assert 0.05 < wrong.mean() < 0.6
    assert (expected[wrong] > values["review_threshold"]).mean() == pytest.approx(0.5, abs=0.02)


def test_landmarks_without_truth_do_not_count():
    evidence = known_evidence(1.8, 2.0)
    unknown = replace(evidence, truth=torch.full_like(evidence.truth, math.nan))
    one, other = fit(evidence), fit(evidence.joined(unknown))
    assert other["temperature"] == pytest.approx(one["temperature"], rel=1e-4)
    assert other["covariance_scale"] == pytest.approx(one["covariance_scale"], rel=1e-6)


def test_figures_of_films_kept_out_keep_the_promise():
    figures = kept_out_figures(known_evidence(1.8, 2.0, films=300))
    for kind in ("coverage", "coverage_ellipses"):
        assert figures[kind] == pytest.approx(LEVEL, abs=0.015)
    assert figures["coverage_joint"] == pytest.approx(LEVEL, abs=0.04)
    # The exact region of a Gaussian: 2 pi sigma^2 ln 20 cells of four square pixels each.
    assert figures["median_area_px2"] == pytest.approx(4 * 2 * math.pi * 1.8**2 * math.log(20), rel=0.08)
    assert figures["ece"] < 2.5 and figures["absent"] == 0


def test_absent_landmarks_are_counted_and_left_out():
    evidence = known_evidence(1.8, 2.0)
    found = evidence.found.clone()
    found[:, 3] = math.nan
    figures = kept_out_figures(replace(evidence, found=found))
    assert figures["absent"] == len(evidence)
    assert all(value is None or np.isfinite(value) for value in figures.values() if not isinstance(value, dict))
