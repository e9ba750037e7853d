"""The session: what the user does, how the others answer, and that nothing is lost on the way back."""

from __future__ import annotations

import numpy as np
import pytest
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.priors import ErrorModel
from LandmarkDetectionLib.priors.errors import condition
from LandmarkDetectionLib.priors.gaussian import expected_radius
from session_cases import NAMES, PRIORS, distances, make_detection, same


def test_detection_is_returned_untouched_until_something_is_corrected():
    detection, _ = make_detection()
    session = Session(detection)
    assert same(session.landmarks, detection.landmarks)
    assert not session.can_undo and not session.can_redo and session.pinned == frozenset()
    assert same(session.undo(), detection.landmarks) and same(session.redo(), detection.landmarks)
    assert same(session.release("A"), detection.landmarks) and not session.can_undo


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("heatmaps", [True, False])
def test_corrections_bring_the_others_closer(dims, heatmaps):
    before, after, live = [], [], []
    for seed in range(12):
        detection, truth = make_detection(seed, dims, heatmaps=heatmaps)
        session = Session(detection)
        for name in ("A", "D"):
            row = NAMES.index(name)
            dragged = session.move(name, truth[row], live=True)
            result = session.move(name, truth[row])
            assert np.array_equal(result.positions[row], truth[row])
            assert np.array_equal(dragged.positions[row], truth[row])
        free = [1, 2, 4, 5]
        before.append(distances(detection.landmarks, truth)[free].mean())
        after.append(distances(result, truth)[free].mean())
        live.append(distances(dragged, truth)[free].mean())
        assert result.expected_errors[[0, 3]].tolist() == [0, 0]
    assert np.mean(after) < 0.9 * np.mean(before)
    assert np.mean(live) < np.mean(before)


def test_moved_point_is_the_users_and_the_rest_stays_the_models():
    detection, truth = make_detection()
    result = Session(detection).move("B", truth[1])
    assert result.statuses[1] == "moved" and result.sources[1] == "user"
    assert set(result.sources) == {"user", "model 1.0.0"} and result.statuses.count("moved") == 1
    assert not result.covariances[1].any()


def test_live_move_leaves_no_trace_and_starts_where_the_points_are():
    detection, _ = make_detection()
    session = Session(detection)
    start = detection.landmarks.positions
    still = session.move("C", start[2], live=True)
    np.testing.assert_allclose(still.positions, start, atol=1e-9)
    near, far = (session.move("C", start[2] + shift, live=True).positions - start for shift in (0.5, 1.0))
    assert (np.linalg.norm(near[[0, 1, 3, 4, 5]], axis=1) > 0).all()
    np.testing.assert_allclose(far, 2 * near, rtol=0.2, atol=0.02)
    assert same(session.landmarks, detection.landmarks) and not session.can_undo and not session.pinned


def test_live_move_works_on_from_the_last_release():
    detection, truth = make_detection()
    session = Session(detection)
    released = session.move("A", truth[0])
    still = session.move("D", released.positions[3], live=True)
    np.testing.assert_allclose(still.positions, released.positions, atol=1e-9)
    assert np.array_equal(session.move("D", truth[3] + 9, live=True).positions[0], truth[0])
    assert np.array_equal(session.move("A", truth[0] + 9, live=True).positions[0], truth[0] + 9)


@pytest.mark.parametrize("live", [True, False])
def test_expected_errors_shrink_on_agreement_and_grow_on_contradiction(live):
    detection, _ = make_detection(3)
    base = detection.landmarks
    expected = base.positions
    others = [0, 2, 3, 4, 5]
    agreeing = Session(detection).move("B", expected[1], live=live)
    contradicting = Session(detection).move("B", expected[1] + [25, 25], live=live)
    assert (agreeing.expected_errors[others] < base.expected_errors[others]).all()
    assert (contradicting.expected_errors[others] > base.expected_errors[others]).all()
    variances = [np.trace(s.covariances, axis1=1, axis2=2)[others] for s in (agreeing, contradicting)]
    assert (variances[0] < variances[1]).all()
    assert set(np.array(contradicting.statuses)[others]) == {"review"}


def test_contradiction_lowers_the_plausibility():
    session = Session(make_detection()[0])
    before = session.plausibility
    session.move("B", [118.0, 3.0])
    assert session.plausibility < 0.7 * before


def test_review_follows_the_threshold_and_is_left_alone_without_one():
    detection, truth = make_detection(threshold=None)
    reviewed = detection.landmarks.replace(statuses=("review",) * 2 + ("predicted",) * 4)
    session = Session(Detection(**{**vars(detection), "landmarks": reviewed}))
    assert session.move("F", truth[5]).statuses == ("review",) * 2 + ("predicted",) * 3 + ("moved",)
    for threshold, status in ((1e-6, "review"), (1e6, "predicted")):
        session = Session(make_detection(threshold=threshold)[0])
        assert session.move("F", truth[5]).statuses == (status,) * 5 + ("moved",)


def test_pinned_points_never_move_and_a_released_one_is_the_models_again():
    detection, truth = make_detection()
    session = Session(detection)
    pinned = session.pin("A")
    assert np.array_equal(pinned.positions[0], detection.landmarks.positions[0])
    assert pinned.statuses[0] == "moved" and session.pinned == {"A"}
    moved = session.move("B", truth[1] + 20)
    assert np.array_equal(moved.positions[0], detection.landmarks.positions[0])
    session.release("A")
    assert session.pinned == {"B"} and session.landmarks.sources[0] == "model 1.0.0"
    assert same(session.landmarks, Session(detection).move("B", truth[1] + 20))
    assert same(session.release("B"), detection.landmarks)
    assert same(session.undo(), Session(detection).move("B", truth[1] + 20))


def test_repeating_an_action_makes_no_history():
    detection, truth = make_detection()
    session = Session(detection)
    session.move("A", truth[0])
    first = session.landmarks
    for again in (session.move("A", truth[0]), session.pin("A"), session.release("B")):
        assert again is first
    session.mark_absent("C")
    session.mark_absent("C")
    session.undo()
    session.undo()
    assert not session.can_undo


def test_absent_points_stay_away_until_they_are_placed():
    detection, truth = make_detection(absent="F")
    session = Session(detection)
    result = session.move("A", truth[0])
    assert result.statuses[5] == "absent" and np.isnan(result.positions[5]).all()
    with pytest.raises(LandmarkDetectionError, match="'F' is absent"):
        session.pin("F")
    live = session.move("F", truth[5], live=True)
    assert np.array_equal(live.positions[5], truth[5]) and np.isfinite(live.positions).all()
    np.testing.assert_allclose(live.positions[1:5], result.positions[1:5], atol=8)
    result = session.move("F", truth[5])
    assert result.statuses[5] == "moved" and np.array_equal(result.positions[5], truth[5])
    assert session.release("F").statuses[5] == "absent"


def test_marking_absent_takes_the_point_out_and_moving_it_brings_it_back():
    detection, truth = make_detection()
    session = Session(detection)
    session.move("A", truth[0])
    with_b = session.landmarks
    result = session.mark_absent("B")
    assert result.statuses[1] == "absent" and result.sources[1] == "user"
    assert np.isnan(result.positions[1]).all() and np.isnan(result.expected_errors[1])
    assert not np.array_equal(result.positions[2:], with_b.positions[2:])
    assert session.suggest_next() in set("CDEF")
    assert same(session.undo(), with_b) and same(session.redo(), result)
    assert session.move("B", truth[1]).statuses[1] == "moved" and session.pinned == {"A", "B"}
    assert session.release("B").statuses[1] == "predicted"
    session.mark_absent("A")
    assert session.pinned == frozenset() and session.landmarks.statuses[0] == "absent"
    np.testing.assert_array_equal(session.landmarks.positions[1:], detection.landmarks.positions[1:])


def test_nearly_everything_absent_is_survived():
    detection, truth = make_detection()
    session = Session(detection)
    for name in "ABCDE":
        session.mark_absent(name)
    assert session.suggest_next() == "F" and session.plausibility == 0.0
    live = session.move("F", truth[5], live=True)
    assert np.array_equal(live.positions[5], truth[5]) and np.isnan(live.positions[:5]).all()
    session.move("F", truth[5])
    assert session.suggest_next() is None
    session.mark_absent("F")
    assert session.suggest_next() is None and set(session.landmarks.statuses) == {"absent"}
    session.move("A", truth[5])
    session.move("B", truth[5])
    assert np.array_equal(session.landmarks.positions[:2], truth[[5, 5]])
    assert np.isnan(session.landmarks.positions[2:]).all()


def test_new_action_forgets_what_was_undone():
    detection, truth = make_detection()
    session = Session(detection)
    session.move("A", truth[0])
    session.undo()
    assert session.can_redo
    result = session.move("B", truth[1])
    assert not session.can_redo and same(session.redo(), result)
    assert session.pinned == {"B"} and same(session.undo(), detection.landmarks)


@pytest.mark.parametrize("position", [[np.nan, 1], [1, np.inf], [1], [1, 2, 3], 5.0])
def test_impossible_positions_are_refused(position):
    session = Session(make_detection()[0])
    for live in (True, False):
        with pytest.raises(LandmarkDetectionError, match="position of 'A' must be 2 finite numbers"):
            session.move("A", position, live=live)
    assert not session.can_undo


@pytest.mark.parametrize("action", ["pin", "release", "mark_absent"])
def test_unknown_names_are_refused(action):
    session = Session(make_detection()[0])
    with pytest.raises(LandmarkDetectionError, match="'T99'"):
        getattr(session, action)("T99")
    with pytest.raises(LandmarkDetectionError, match="'T99'"):
        session.move("T99", [1, 2])


def test_position_outside_the_image_is_accepted():
    session = Session(make_detection()[0])
    result = session.move("A", [-500.0, 1e5])
    assert result.positions[0].tolist() == [-500, 1e5] and result.statuses[0] == "moved"
    assert np.isfinite(result.positions).all() and np.isfinite(result.expected_errors).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_suggestion_is_the_point_that_lowers_the_summed_variance_most(dims):
    """Against fixing each point in turn and summing the variances that are left."""
    detection, truth = make_detection(4, dims, heatmaps=False)
    spacing = detection.landmarks.frame.spacing
    covariances = detection.landmarks.covariances + 0.05**2 * np.eye(dims)
    scaled = detection.landmarks.positions * spacing, covariances * np.outer(spacing, spacing)
    start = PRIORS[dims].posterior(*scaled)
    # Errors exactly those of the posterior, so that the calibration of expected errors is one everywhere.
    errors = expected_radius(start.covariances) / np.sqrt(np.mean(spacing**2))
    landmarks = detection.landmarks.replace(expected_errors=errors)
    session = Session(Detection(**{**vars(detection), "landmarks": landmarks}))
    left = []
    for row in range(len(NAMES)):
        fixed = np.arange(len(NAMES)) == row
        after = PRIORS[dims].posterior(*scaled, fixed, start.positions)
        left.append(np.trace(after.joint) / after.scaling)
    assert session.suggest_next() == NAMES[int(np.argmin(left))]
    suggested = []
    while (name := session.suggest_next()) is not None:
        suggested.append(name)
        session.move(name, truth[NAMES.index(name)])
    assert sorted(suggested) == list(NAMES)


def test_conditioning_agrees_with_the_precision_of_what_is_left():
    """Against the block inverse: the covariance left is the inverse of the free block of the precision."""
    root = np.random.default_rng(0).normal(size=(12, 12))
    joint = root @ root.T + np.eye(12)
    apart = np.array([[0.7, -1.2], [0.1, 0.4]])
    told = condition(joint, np.array([1, 4]), apart, 2)
    known = np.isin(np.arange(12), [2, 3, 8, 9])
    precision = np.linalg.inv(joint)
    left = np.linalg.inv(precision[np.ix_(~known, ~known)])
    np.testing.assert_allclose(told.joint[np.ix_(~known, ~known)], left, rtol=1e-6, atol=1e-6)
    shift = -left @ precision[np.ix_(~known, known)] @ apart.ravel()
    np.testing.assert_allclose(told.shift.ravel()[~known], shift, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(told.shift[[1, 4]], apart, rtol=1e-6)
    assert not told.joint[known].any()
    assert not np.allclose(told.shift[0], condition(joint, np.array([1, 4]), 2 * apart, 2).shift[0])
    assert told.squared == pytest.approx(apart.ravel() @ np.linalg.solve(joint[np.ix_(known, known)], apart.ravel()))


def test_a_point_far_off_tells_little_of_the_others():
    joint = 0.9 * np.tile(np.eye(2), (3, 3)) + 0.1 * np.eye(6)
    moved = [condition(joint, np.array([0]), np.array([[far, 0.0]]), 2).shift for far in (1.0, 3.0, 30.0)]
    np.testing.assert_allclose(moved[0][1:, 0], 0.9, rtol=1e-6)
    assert moved[1][1, 0] == pytest.approx(2.7, rel=1e-6)
    assert moved[2][1, 0] < 1.0 and moved[2][0, 0] < 30


def test_errors_that_go_together_are_repaired_together():
    """All points a little too high and too far right: heatmaps cannot tell, a model of the errors can."""
    detection, truth = make_detection(2)
    spacing = detection.landmarks.frame.spacing
    common = np.random.default_rng(1).normal(size=(200, 1, 2)) + 0.1 * np.random.default_rng(2).normal(size=(200, 6, 2))
    errors = ErrorModel.fit(common, np.ones(200))
    landmarks = detection.landmarks.replace(positions=truth + [3.0, -2.0] / spacing)
    plain, learnt = (
        Session(Detection(**{**vars(detection), "landmarks": landmarks, "errors": model})).move("A", truth[0])
        for model in (None, errors)
    )
    assert distances(learnt, truth)[1:].mean() < 0.6 * distances(landmarks, truth)[1:].mean()
    assert distances(learnt, truth)[1:].mean() < distances(plain, truth)[1:].mean()
    mirror = errors.mirrored(2)
    signs = np.array([-1.0, 1.0])
    expected = errors.covariance.reshape(6, 2, 6, 2) * signs[:, None, None] * signs
    np.testing.assert_array_equal(mirror.covariance, expected.reshape(12, 12))
    np.testing.assert_array_equal(mirror.mirrored(2).covariance, errors.covariance)


def test_a_place_that_the_caller_changes_afterwards_is_not_the_one_of_the_pin():
    session = Session(make_detection()[0])
    place = session.landmarks.positions[0] + 1.0
    wanted = place.copy()
    session.move("A", place)
    place += 50.0
    session.move("B", session.landmarks.positions[1] + 1.0)
    np.testing.assert_array_equal(session.landmarks.positions[0], wanted)
