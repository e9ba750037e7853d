"""Sessions written down, read back, and put through any sequence of actions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.detection import Detection, Heatmaps
from LandmarkDetectionLib.inference.session import Session
from session_cases import NAMES, make_detection, same


def test_session_reads_back_and_goes_on_without_and_with_heatmaps():
    detection, truth = make_detection(absent="E")
    session = Session(detection)
    session.move("A", truth[0])
    session.mark_absent("B")
    session.pin("C")
    session.undo()
    text = json.dumps(session.to_dict(), allow_nan=False)
    again = Session.from_dict(json.loads(text))
    assert json.dumps(again.to_dict(), allow_nan=False) == text
    assert same(again.landmarks, session.landmarks) and again.pinned == session.pinned == {"A"}
    assert again.detection.notes == ("A note.",) and again.detection.landmarks.frame == detection.landmarks.frame
    assert again.can_redo and same(again.redo(), session.redo())
    without = again.move("D", truth[3])
    np.testing.assert_allclose(without.positions[[0, 2, 3]], session.landmarks.positions[[0, 2, 3]], atol=40)
    again.undo()
    again.attach_heatmaps(detection.heatmaps)
    assert same(again.landmarks, session.landmarks)
    assert same(again.move("D", truth[3]), session.move("D", truth[3]))
    while again.can_undo:
        again.undo()
    assert same(again.landmarks, detection.landmarks)


def test_reading_back_takes_heatmaps_from_a_new_detection():
    detection, truth = make_detection()
    session = Session(detection)
    session.move("A", truth[0])
    stored = session.to_dict()
    again = Session.from_dict(stored, detection)
    assert again.detection.heatmaps is detection.heatmaps
    assert same(again.move("B", truth[1]), session.move("B", truth[1]))
    other = make_detection(dims=3)[0]
    with pytest.raises(LandmarkDetectionError, match="heatmaps do not belong"):
        Session.from_dict(stored, other)


@pytest.mark.parametrize("damage", ["detection", "history", "cursor", "prior", "format", "landmarks"])
def test_damaged_records_are_refused(damage):
    session = Session(make_detection()[0])
    session.pin("A")
    stored = session.to_dict()
    if damage == "prior":
        stored["detection"]["prior"]["covariance"] = [[1.0]]
    elif damage == "landmarks":
        stored["history"][0]["positions"] = [[1.0, 2.0]]
    elif damage == "cursor":
        stored["cursor"] = 7
    else:
        del stored[damage]
    with pytest.raises(LandmarkDetectionError, match="detect again|positions"):
        Session.from_dict(stored)


def test_heatmaps_must_fit_their_grid():
    with pytest.raises(LandmarkDetectionError, match="do not fit"):
        Heatmaps(np.zeros((6, 10, 12)), Frame.film((10, 12)))


coordinates = st.floats(-50, 200, allow_nan=False)
actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["move", "live"]), st.sampled_from(NAMES), st.tuples(coordinates, coordinates)),
        st.tuples(st.sampled_from(["pin", "release", "mark_absent"]), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["undo", "redo", "reload"])),
    ),
    max_size=12,
)


def perform(session: Session, detection: Detection, action: tuple) -> Session:
    """One random action; returns the session, which a reload replaces."""
    kind, *arguments = action
    if kind == "reload":
        stored = json.loads(json.dumps(session.to_dict(), allow_nan=False))
        again = Session.from_dict(stored, detection)
        assert again.to_dict() == session.to_dict()
        return again
    if kind == "live":
        before = session.to_dict()
        result = session.move(*arguments, live=True)
        assert result.positions[NAMES.index(arguments[0])].tolist() == list(arguments[1])
        assert session.to_dict() == before
    elif kind == "pin" and session.landmarks.statuses[NAMES.index(arguments[0])] == "absent":
        with pytest.raises(LandmarkDetectionError):
            session.pin(*arguments)
    else:
        getattr(session, kind)(*arguments)
    return session


@settings(max_examples=40, deadline=None)
@given(sequence=actions, with_heatmaps=st.booleans(), absent=st.sampled_from(["", "C", "CDE"]))
def test_any_sequence_keeps_its_promises(sequence, with_heatmaps, absent):
    detection, _ = make_detection(7, absent=absent, heatmaps=with_heatmaps)
    session = Session(detection)
    for action in sequence:
        pinned, before = session.pinned, session.landmarks
        session = perform(session, detection, action)
        after = session.landmarks
        for name in pinned & session.pinned:
            if action[0] not in ("undo", "redo") and action[:2] != ("move", name):
                row = NAMES.index(name)
                assert np.array_equal(after.positions[row], before.positions[row])
        for row, name in enumerate(NAMES):
            assert (after.statuses[row] == "moved") == (name in session.pinned)
            assert (after.statuses[row] == "absent") == bool(np.isnan(after.positions[row]).any())
            assert after.expected_errors[row] >= 0 or after.statuses[row] == "absent"
        suggestion = session.suggest_next()
        free = [n for n, s in zip(NAMES, after.statuses, strict=True) if s not in ("moved", "absent")]
        assert suggestion in free if free else suggestion is None
    while session.can_redo:
        session.redo()
    states = [session.landmarks]
    while session.can_undo:
        states.append(session.undo())
    assert same(session.landmarks, detection.landmarks) and session.pinned == frozenset()
    for state in reversed(states[:-1]):
        assert same(session.redo(), state)
    assert not session.can_redo
