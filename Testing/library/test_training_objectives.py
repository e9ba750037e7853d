"""Objectives learn on phantoms, landmarks by likelihood and presence of the anatomy; calibration finds what is true."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from LandmarkDetectionLib.networks.hourglass import Hourglass
from LandmarkDetectionLib.phantoms.dataset import write_dataset
from LandmarkDetectionLib.training.calibration import ERRONEOUS, Evidence, fit, fit_temperature, threshold_at
from LandmarkDetectionLib.training.film_crops import CropGeometry
from LandmarkDetectionLib.training.films import Films, labelled_films
from LandmarkDetectionLib.training.likelihood import LandmarkLikelihood
from LandmarkDetectionLib.training.region import RegionObjective, presence_logits
from LandmarkDetectionLib.training.trainer import Schedule, train_network
from LandmarkDetectionLib.training.wide_films import WideGeometry


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Films:
    """Twelve phantoms of both sides, read as any data set is; the left ones come out mirrored."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 12, seed=70, size=(112, 112))
    return labelled_films(folder, "train", 112)


def test_likelihood_learns_to_find_landmarks(films, tmp_path):
    """From a guess to under 4 pixels of a film of 224, that is 2 of these, on phantoms that were kept out."""
    train, kept_out = films.select([row >= 4 for row in range(12)]), films.select([row < 4 for row in range(12)])
    geometry = CropGeometry((112, 64), 4.2, rotation=4.0, scale=0.08, shift=0.1)
    torch.manual_seed(0)
    network = Hourglass(1, 16, width=8, depth=3, dropout=0.0).to(memory_format=torch.channels_last)
    objective = LandmarkLikelihood([(train, 1.0)], kept_out, train.points, geometry, 6, network.stride)
    before = objective.validate(network.eval())
    # A short schedule: the average must not remember the first steps.
    schedule = Schedule(epochs=1, steps=70, batch=6, rate=8e-3, average=0.8, precision="float32")
    after = train_network(network, objective, schedule, tmp_path, seed=3)
    assert before > 5 and after < 2


def test_batches_take_their_share_from_every_source(films):
    marked = [films.with_points(torch.full_like(films.points, value)) for value in (1, 2)]
    sources = list(zip(marked, (0.25, 0.75), strict=True))
    objective = LandmarkLikelihood(sources, films, films.points, CropGeometry((112, 64), 4.2), 8, 4)
    images, points = objective.draw(torch.Generator().manual_seed(0))
    assert images.shape == (8, 1, 112, 112) and points[:, 0, 0].tolist() == [1] * 2 + [2] * 6


def test_region_learns_which_films_show_the_anatomy(films):
    """Other anatomy here is stripes; a few steps tell them from knees in films drawn anew."""
    rows = torch.arange(112.0)
    stripes = [(128 + 127 * torch.sin(rows / period)).expand(112, 112).to(torch.uint8) for period in (2, 3, 5, 8)]
    network = Hourglass(1, 17, width=8, depth=3, dropout=0.0)
    objective = RegionObjective(
        films=films,
        wide=films,
        others=torch.stack(stripes)[:, None],
        kept_out=films.select([row < 4 for row in range(12)]),
        geometry=WideGeometry(size=64, smallest=7.0, largest=20.0),
        batch=16,
        stride=network.stride,
    )
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    losses = []
    for _ in range(24):
        loss = objective.loss(network, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert numpy.mean(losses[-6:]) < 0.9 * numpy.mean(losses[:4])
    inputs, points, presence = objective.draw(torch.Generator().manual_seed(99))
    assert inputs.shape == (16, 1, 64, 64) and points.shape == (16, 16, 2) and 0 < presence.mean() < 1
    network.eval()
    assert 0 <= objective.validate(network) < 1.5
    with torch.no_grad():
        knees, others = [], []
        for seed in range(4):
            inputs, _, presence = objective.draw(torch.Generator().manual_seed(100 + seed))
            logits = presence_logits(network(inputs))
            knees.append(logits[presence > 0])
            others.append(logits[12:])
    # Share of pairs in which the knee has the higher logit.
    assert (torch.cat(knees)[:, None] > torch.cat(others)).float().mean() > 0.8


def test_presence_is_the_peak_of_the_last_heatmap():
    logits = torch.zeros(2, 3, 4, 5)
    logits[1, 2, 3, 1], logits[1, 0] = 7.0, 9.0
    assert presence_logits(logits).tolist() == [0, 7]


def known_evidence(sigma: float, temperature: float, spread: float = 1.0, films: int = 150) -> Evidence:
    """Gaussian heatmaps whose logits are ``temperature`` times too large, and truths drawn ``spread`` times as wide."""
    generator = torch.Generator().manual_seed(5)
    centers = 14 + 4 * torch.rand((films, 8, 2), generator=generator)
    axis = torch.arange(32.0)
    squares = (axis - centers[..., 1:]) ** 2, (axis - centers[..., :1]) ** 2
    logits = -temperature * (squares[0][..., :, None] + squares[1][..., None, :]) / (2 * sigma**2)
    truth = centers + spread * sigma * torch.randn(centers.shape, generator=generator)
    return Evidence(logits, truth, torch.full((films,), 0.04))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    assert fit_temperature(known_evidence(1.8, temperature)) == pytest.approx(temperature, rel=0.06)


def test_the_scale_makes_expected_errors_true_on_average():
    evidence = known_evidence(1.8, 2.0)
    values = fit(evidence)
    # A Gaussian without its cells below 5 % of the peak is cut at sqrt(2 ln 20) sigma: its mean radius falls short.
    radius = numpy.linspace(0, math.sqrt(2 * math.log(20)), 4000)
    weight = radius * numpy.exp(-(radius**2) / 2)
    short = (radius * weight).sum() / weight.sum() / math.sqrt(math.pi / 2)
    assert values["temperature"] == pytest.approx(2.0, rel=0.06)
    assert values["error_scale"] == pytest.approx(1 / short, rel=0.06)
    assert values["error_scale"] * float(evidence.expected_errors(values["temperature"]).mean()) == pytest.approx(
        float(evidence.errors().mean()), rel=1e-6
    )


def test_the_review_threshold_flags_half_of_what_is_wrong():
    evidence = known_evidence(1.8, 2.0)
    values = fit(evidence)
    expected = values["error_scale"] * evidence.expected_errors(values["temperature"])
    wrong = evidence.errors() > ERRONEOUS
    assert 0.05 < wrong.float().mean() < 0.6
    assert (expected[wrong] >= values["review_threshold"] - 1e-9).float().mean() == pytest.approx(0.5, abs=0.02)
    assert threshold_at(numpy.array([1.0, 3.0]), numpy.array([False, False])) == 3


def test_landmarks_without_truth_do_not_count():
    evidence = known_evidence(1.8, 2.0)
    truth = torch.cat([evidence.truth, torch.full_like(evidence.truth, math.nan)])
    doubled = Evidence(evidence.logits.repeat(2, 1, 1, 1), truth, evidence.share.repeat(2))
    assert fit(doubled) == pytest.approx(fit(evidence), rel=1e-4)
