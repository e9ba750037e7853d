"""Points steadied by the shape: against the closed form of the posterior, and how much of it is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.steadying import steadied
from LandmarkDetectionLib.phantoms.dataset import write_dataset
from LandmarkDetectionLib.priors import ErrorModel, ShapePrior
from LandmarkDetectionLib.training.calibration import recalibration
from LandmarkDetectionLib.training.calibration.fitting import Evidence
from LandmarkDetectionLib.training.calibration.steadying import SCATTERS, best_scatter
from LandmarkDetectionLib.training.data.films import read_groups, read_labels

COUNT = 8
USUAL = np.zeros(COUNT)
"""Expected errors that are nothing unusual."""


def shapes(count: int, deviation: float, seed: int) -> np.ndarray:
    """Shapes of centroid size one about a ring, with a single mode of variation."""
    generator = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, COUNT, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mode = np.stack([np.cos(2 * angles), np.zeros(COUNT)], axis=1)
    return ring + deviation * generator.normal(size=(count, 1, 1)) * mode


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    return ShapePrior.fit(shapes(200, 0.1, 1))


@pytest.fixture(scope="module")
def errors() -> ErrorModel:
    return ErrorModel(0.05**2 * np.eye(2 * COUNT))


def test_a_point_off_the_shape_comes_back_and_the_others_hardly_move(prior, errors):
    truth = 40 * shapes(1, 0.1, 2)[0] + 100
    seen = truth.copy()
    seen[3] += [5.0, 4.0]
    found = steadied(seen, USUAL, np.ones(2), prior, errors, 1.0)
    before, after = (np.linalg.norm(points - truth, axis=1) for points in (seen, found))
    assert after[3] < 0.5 * before[3] and np.delete(after, 3).max() < 0.25 * before[3]


def test_the_posterior_is_that_of_errors_in_units_of_the_shape(prior, errors):
    seen = 40 * shapes(1, 0.1, 2)[0] + np.random.default_rng(3).normal(size=(COUNT, 2))
    size = np.sqrt(((seen - seen.mean(axis=0)) ** 2).sum(axis=1).mean())
    covariances = np.broadcast_to(0.5 * (0.05 * size) ** 2 * np.eye(2), (COUNT, 2, 2))
    expected = prior.posterior(seen, covariances).positions
    np.testing.assert_allclose(steadied(seen, USUAL, np.ones(2), prior, errors, 0.5), expected, atol=1e-9)
    # Pixels that are not square: the shape is one of lengths, not of pixels.
    spacing = np.array([0.5, 2.0])
    found = steadied(seen / spacing, USUAL, spacing, prior, errors, 0.5)
    np.testing.assert_allclose(found, expected / spacing, atol=1e-9)


def test_nothing_moves_without_errors_share_or_a_point(prior, errors):
    seen = 40 * shapes(1, 0.5, 2)[0]
    assert steadied(seen, USUAL, np.ones(2), prior, errors, 0.0) is seen
    assert steadied(seen, USUAL, np.ones(2), prior, None, 1.0) is seen
    seen[2] = np.nan
    assert steadied(seen, USUAL, np.ones(2), prior, errors, 1.0) is seen


def test_a_point_that_is_not_sure_of_itself_counts_for_less(prior, errors):
    truth = 40 * shapes(1, 0.1, 2)[0] + 100
    seen = truth.copy()
    seen[3] += [15.0, 12.0]
    doubt = USUAL.copy()
    doubt[3] = 30.0
    found, told = (steadied(seen, expected, np.ones(2), prior, errors, 1.0) for expected in (USUAL, doubt))
    apart = [np.linalg.norm(np.delete(points - truth, 3, axis=0), axis=1).mean() for points in (found, told)]
    assert apart[1] < 0.2 * apart[0]


def evidence(apart: np.ndarray) -> Evidence:
    """Films whose points are off by ``apart`` (m, n, 2), in units of the centroid size."""
    truth = torch.tensor(40 * shapes(len(apart), 0.1, 5) + 100)
    return Evidence(
        groups=tuple(f"subject {row // 2}" for row in range(len(apart))),
        logits=torch.zeros(len(apart), COUNT, 1, 1),
        truth=truth,
        found=truth + torch.tensor(40 * apart),
        cell=np.ones(len(apart)),
        size=np.full(len(apart), 40.0),
        strange=np.zeros((len(apart), COUNT)),
        radius=np.zeros((len(apart), COUNT)),
    )


def test_scatter_of_single_points_is_steadied_and_that_of_the_whole_is_not(prior):
    generator = np.random.default_rng(6)
    single = evidence(0.05 * generator.normal(size=(40, COUNT, 2)))
    whole = evidence(0.05 * generator.normal(size=(40, 1, 2)) * np.ones((1, COUNT, 1)))
    assert best_scatter(single, prior) == max(SCATTERS)
    # Moved as a whole the shape is as it should be: nothing is gained, and the smallest share is kept.
    assert best_scatter(whole, prior) <= 0.25


@pytest.mark.parametrize("learns", [True, False])
def test_a_joint_model_is_calibrated_on_the_points_that_it_gives(tmp_path, monkeypatch, learns):
    write_dataset(tmp_path, 4, seed=60, size=(224, 224))
    names, subjects = list(read_labels(tmp_path)[1]), set(read_groups(tmp_path).values())
    shipped = find_bundle("knee-ap-radiograph")
    assert shipped.calibration.scatter > 0
    found = {}
    for scatter in (0.0, 0.5):
        monkeypatch.setattr(recalibration, "best_scatter", lambda *_, scatter=scatter: scatter)
        unsteadied = replace(shipped, calibration=replace(shipped.calibration, scatter=0.0))
        part = recalibration.Part(unsteadied if learns else shipped, names)
        found[scatter] = recalibration.calibrated([part], tmp_path, learnt_from=subjects if learns else None)
    moved = (found[0.5].evidence.found - found[0.0].evidence.found).norm(dim=-1)
    if learns:
        assert [result.calibration.scatter for result in found.values()] == [0.0, 0.5]
        assert moved.mean() > 0.02
    else:
        # A user's films calibrate what the model says of its points; where these lie stays the model's own.
        assert {result.calibration.scatter for result in found.values()} == {shipped.calibration.scatter}
        assert moved.max() == 0 and found[0.5].errors is shipped.errors
