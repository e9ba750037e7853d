"""How well films fit their models, and what is said of metal and of bad exposures."""

from __future__ import annotations

import pickle
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from LandmarkDetectionLib.errors import NotThisAnatomyError, SideError
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.chain import Chain, ChainWeights, level_doubt, link
from LandmarkDetectionLib.inference.column import Reading
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.exposure import exposure_note
from LandmarkDetectionLib.inference.fitness import CLEAR, LIMIT, Fit, doubt_margin, fit_notes, judged
from LandmarkDetectionLib.inference.metal import hidden_by_metal, metal
from LandmarkDetectionLib.inference.orientation import HALF
from LandmarkDetectionLib.inference.vertebrae import Vertebrae
from LandmarkDetectionLib.phantoms.implants import capsule, with_metal
from LandmarkDetectionLib.phantoms.knee import make_knee
from LandmarkDetectionLib.phantoms.spine import make_spine

SEED = 61000


@pytest.fixture(scope="module")
def knees() -> Detector:
    return Detector(find_bundle("knee-ap-radiograph"), "cpu")


@pytest.fixture(scope="module")
def knee():
    return make_knee(SEED, "right")


def film(array: np.ndarray, name: str = "film") -> Image:
    return Image.from_array(array, name=name)


def test_the_score_is_a_half_at_the_limit_and_keeps_its_order():
    margins = [-800.0, -3.0, 0.0, 2.0, 900.0]
    scores = [Fit(margin).score for margin in margins]
    assert scores == sorted(scores) and scores[2] == LIMIT and scores[0] >= 0 and scores[-1] <= 1
    assert [Fit(margin).refused for margin in margins] == [True, True, False, False, False]
    assert Fit(nan).refused
    assert Fit(3.0).limited(-1.0).margin == -1.0 and Fit(-3.0).limited(inf).margin == -3.0


def test_doubt_counts_from_the_limit_and_only_in_the_film(knees, knee):
    detection, calibration = knees.detect(film(knee.pixels)), knees.bundle.calibration
    landmarks = detection.landmarks
    limit = calibration.refusal_threshold / calibration.review_threshold * detection.review_threshold

    def margin(errors: float, absent: int = 0) -> float:
        positions, expected = landmarks.positions.copy(), np.full(len(landmarks.positions), errors)
        positions[:absent], expected[:absent] = np.nan, 100 * limit
        seen = replace(detection, landmarks=landmarks.replace(positions=positions), doubts=expected)
        return doubt_margin(seen, calibration)

    assert margin(limit) == pytest.approx(0.0)
    assert margin(limit / 2) > 0 > margin(2 * limit)
    assert margin(limit / 2, absent=5) == pytest.approx(margin(limit / 2)) and margin(limit / 2, absent=9) < 0
    assert margin(50 * limit) < 0 and doubt_margin(detection, replace(calibration, refusal_threshold=inf)) == inf


def test_only_films_that_do_not_fit_clearly_are_looked_at_turned():
    asked = []
    image = film(np.arange(4096.0).reshape(64, 64))
    look = lambda turned: asked.append(turned) or 8.0  # noqa: E731
    assert judged(image, CLEAR + 1, CLEAR + 1, look, (HALF,)).turn is None and not asked
    fit = judged(image, 2.0, 1.0, look, (HALF,))
    assert len(asked) == 1 and fit.turn is HALF and fit.refused
    # What fits badly either way is not told to be turned.
    assert judged(image, -2.0, -2.0, lambda turned: 1.0, (HALF,)) == Fit(-2.0)


def test_a_film_read_against_advice_says_so():
    assert fit_notes(Fit(1.0)) == ()
    (note,) = fit_notes(Fit(-2.0, HALF))
    assert "12 %" in note and "upside down" in note


def test_films_keep_their_score(knees, knee):
    detection = knees.detect(film(knee.pixels))
    assert detection.fitness > 0.9
    assert Detection.from_dict(detection.to_dict()).fitness == detection.fitness


def test_the_refusal_names_score_and_limit(knees):
    noise = np.random.default_rng(3).normal(size=(300, 260))
    with pytest.raises(NotThisAnatomyError, match=r"it fits to \d+ % and 50 % are needed") as caught:
        knees.detect(film(noise))
    assert 0 <= caught.value.score < LIMIT
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.score == caught.value.score
    forced = knees.detect(film(noise), force=True)
    assert forced.fitness < LIMIT and any("meaningless" in note for note in forced.notes)


def test_a_knee_that_contradicts_its_side_is_refused_however_the_side_was_declared(knees, knee):
    for pixels, wrong in ((knee.pixels, "left"), (knee.pixels[:, ::-1], "right")):
        with pytest.raises(SideError, match=wrong):
            knees.detect(film(pixels), side=wrong)
    declared = film(knee.pixels)
    declared = Image(declared.array, declared.frame, declared.name, view_side="left")
    assert any("says left" in note for note in knees.detect(declared).notes)
    assert any("says left" in note for note in knees.detect(declared, side="right").notes)


def test_candidates_beyond_the_film_are_left_out():
    corners = np.array([[[0.0, 0], [4, 0], [0, 4], [4, 4]]]) + np.array([[[5.0, 3]], [[5, -9]], [[30, 3]]])
    found = Vertebrae(np.array([0.9, 0.8, 0.7]), corners, np.zeros((3, 4, 2, 2)), np.ones((3, 4)), np.zeros((3, 17)))
    kept = found.within(np.zeros(2), np.full(2, 20.0))
    np.testing.assert_array_equal(kept.presence, [0.9])
    assert len(kept.corners) == len(kept.levels) == 1
    nothing = found.within(np.full(2, 50.0), np.full(2, 60.0))
    chain = link(nothing, (), 0.0, 20.0, ChainWeights())
    assert (chain.members < 0).all() and not level_doubt(chain, nothing).any()


def test_a_reading_is_recognised_by_what_is_seen_named_and_agreed_on():
    def recognised(presence: float, level: float, agreement: float) -> float:
        corners = np.zeros((2, 4, 2))
        seen = Vertebrae(np.full(2, presence), corners, np.zeros((2, 4, 2, 2)), np.ones((2, 4)), np.full((2, 2), level))
        return Reading(None, Chain(np.arange(2), agreement * np.eye(2)), seen, None, 0.0).recognised

    best = recognised(0.8, -0.5, 0.9)
    assert best > max(recognised(0.4, -0.5, 0.9), recognised(0.8, -2.0, 0.9), recognised(0.8, -0.5, 0.2))
    nothing = Reading(None, Chain(np.full(2, -1), np.zeros((2, 0))), None, None, 0.0)
    assert nothing.recognised == -np.inf


def test_metal_is_flat_bright_and_sharp():
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.linspace(0, 80, 200), np.linspace(0, 60, 160)) + rng.normal(0, 1, (200, 160))
    assert not metal(ramp).any()
    assert not metal(np.full((50, 50), 3.0)).any()
    cover = capsule(ramp.shape, np.array([40, 60]), np.array([110, 90]), 5.0)
    found = metal(ramp * (1 - cover) + 220 * cover)
    assert (found & (cover > 0.9)).sum() > 0.9 * (cover > 0.9).sum() and not (found & (cover == 0)).any()


@pytest.mark.parametrize("kind", ["plate", "prosthesis"])
def test_a_drawn_implant_is_noted_and_what_it_hides_is_to_be_reviewed(knees, knee, kind):
    drawn, cover = with_metal(knee.pixels.astype(np.float32), knee.landmarks["right"], kind, np.random.default_rng(4))
    clean, detection = knees.detect(film(knee.pixels)), knees.detect(film(drawn), force=True)
    assert not any("metal" in note for note in clean.notes)
    assert any("metal" in note for note in detection.notes)
    there, hidden = hidden_by_metal(film(drawn), detection.landmarks.positions)
    assert there
    statuses = np.array(detection.landmarks.statuses)
    assert (statuses[hidden] == "review").all()
    assert (detection.landmarks.expected_errors[hidden] > detection.review_threshold).all()
    assert cover.any()


def test_rods_along_a_spine_are_metal():
    spine = make_spine(SEED)
    drawn, cover = with_metal(spine.pixels.astype(np.float32), spine.landmarks, "rods", np.random.default_rng(2))
    assert hidden_by_metal(film(drawn), spine.landmarks)[0]
    assert not hidden_by_metal(spine.image(), spine.landmarks)[0]


def test_extreme_exposures_are_noted_and_usual_ones_are_not(knee):
    assert exposure_note(knee.pixels) is None
    values = knee.pixels.astype(float)
    low, high = np.percentile(values, (45, 55))
    assert "over- or underexposed" in exposure_note(np.clip(values, low, high))
    assert "gray values" in exposure_note(np.rint(values / values.max() * 12))


def test_real_films_have_no_notes_on_exposure(landmark_data):
    for folder, suffix in (("knee_xray", "png"), ("spine_xray", "jpg"), ("cephalogram", "jpg")):
        for path in sorted((landmark_data / folder / "images").glob(f"*.{suffix}"))[:3]:
            assert exposure_note(read_image(path).array) is None
