"""Levels of a spine under correction: shifts of the whole chain, drops that fit nowhere, a network that looks again."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from LandmarkDetectionLib.inference.detection import Seen
from LandmarkDetectionLib.inference.levels import level_rows, level_step, shifted
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import load_schema
from session_cases import same
from spine_cases import column_detection

SCHEMA = load_schema("spine-ap")
ROWS = level_rows(SCHEMA)


def place(session: Session, name: str) -> np.ndarray:
    return session.landmarks.positions[SCHEMA.index(name)]


def test_levels_are_rows_of_like_corners():
    assert ROWS.shape == (17, 4) and [SCHEMA.ids[row] for row in ROWS[7]] == ["T8_TL", "T8_TR", "T8_BL", "T8_BR"]


@pytest.mark.parametrize(("target", "step"), [("T7_TL", -1), ("T9_TL", 1)])
def test_a_drop_on_the_neighbor_shifts_the_chain_and_says_so(target, step):
    session = Session(column_detection())
    before = session.landmarks
    live = session.move("T8_TL", place(session, target), live=True)
    others = np.arange(68) != SCHEMA.index("T8_TL")
    np.testing.assert_allclose(live.positions[others], before.positions[others], atol=1e-9)
    after = session.move("T8_TL", place(session, target) + 1.0)
    kept = ROWS[1:] if step < 0 else ROWS[:-1]
    moved = ROWS[:-1] if step < 0 else ROWS[1:]
    shift = after.positions[kept] - before.positions[moved]
    assert np.linalg.norm(shift, axis=-1).max() < 4
    assert "17 levels" in session.message and ("up" if step < 0 else "down") in session.message
    assert same(session.undo(), before) and session.message is None
    assert same(session.redo(), after) and "17 levels" in session.message
    stored = json.loads(json.dumps(session.to_dict(), allow_nan=False))
    again = Session.from_dict(stored)
    assert same(again.landmarks, after) and again.message == session.message
    assert same(again.move("L1_BR", place(again, "L1_BR") + 2.0), session.move("L1_BR", place(session, "L1_BR") + 2.0))


def test_a_level_that_was_absent_is_there_once_a_shift_brings_it_in():
    session = Session(column_detection(absent=tuple(SCHEMA.levels[-1])))
    assert session.landmarks.statuses[-4:] == ("absent",) * 4
    landmarks = session.move("T8_TL", place(session, "T7_TL"))
    assert "absent" not in landmarks.statuses[-4:] and np.isfinite(landmarks.expected_errors[-4:]).all()
    present = np.isfinite(landmarks.positions).all(axis=1)
    assert (present == (np.array(landmarks.statuses) != "absent")).all()
    np.linalg.cholesky(landmarks.covariances[[row for row in range(68) if landmarks.statuses[row] != "moved"]])


def test_two_shifts_of_opposite_sign_leave_the_levels_as_they_were():
    session = Session(column_detection())
    before = session.landmarks.positions
    session.move("T8_TL", place(session, "T9_TL"))
    session.move("T4_BR", place(session, "T3_BR"))
    free = [row for row in range(68) if SCHEMA.ids[row] not in session.pinned]
    np.testing.assert_allclose(session.landmarks.positions[free], before[free], atol=4)


def test_a_pinned_point_stays_when_the_chain_is_shifted():
    session = Session(column_detection())
    pinned = place(session, "T3_TR") + [3.0, 1.0]
    session.move("T3_TR", pinned)
    session.move("T10_BL", place(session, "T11_BL"))
    assert np.array_equal(place(session, "T3_TR"), pinned)


def test_a_drop_that_fits_nowhere_is_accepted_reported_and_leaves_the_others_alone():
    session = Session(column_detection())
    before = session.landmarks.positions.copy()
    session.move("L5_TL", before[SCHEMA.index("T1_TL")] - [0.0, 5.0])
    others = np.arange(68) != SCHEMA.index("L5_TL")
    np.testing.assert_array_equal(session.landmarks.positions[others], before[others])
    assert "L5_TL" in session.message and "left as they are" in session.message
    step = session.move("L4_TL", before[SCHEMA.index("L3_TL")])
    assert np.linalg.norm(step.positions[SCHEMA.index("T9_TL")] - before[SCHEMA.index("T8_TL")]) < 4


def test_a_small_correction_says_nothing_and_moves_the_neighbors():
    session = Session(column_detection())
    before = session.landmarks.positions.copy()
    session.move("T8_TL", before[SCHEMA.index("T8_TL")] + [1.0, 1.0])
    moved = np.linalg.norm(session.landmarks.positions - before, axis=1)
    assert session.message is None
    assert moved[SCHEMA.index("T8_BL")] > moved[SCHEMA.index("L5_BR")]


def test_the_network_is_asked_with_the_pins_that_count_and_the_answer_is_used():
    """A network that answers with everything a quarter of a pixel on, and notes what it was told."""
    asked = []
    base = column_detection()

    def repredict(hints, start):
        asked.append((dict(hints), start))
        return Seen(start.replace(positions=start.positions + 0.25))

    session = Session(dataclasses.replace(base, repredict=repredict))
    target = place(session, "T8_TL") + [1.0, 0.0]
    session.move("T8_TL", target, live=True)
    assert not asked
    session.move("T8_TL", target)
    hints, start = asked[-1]
    assert start is base.landmarks and list(hints) == [SCHEMA.index("T8_TL")]
    far = SCHEMA.index("L5_BR")
    np.testing.assert_allclose(session.landmarks.positions[far], base.landmarks.positions[far] + 0.25, atol=0.25)
    session.move("L5_TL", np.array([1.0, 1.0]))
    hints, start = asked[-1]
    assert list(hints) == [SCHEMA.index("T8_TL")]
    assert [SCHEMA.ids[row] for row in range(68) if start.statuses[row] == "moved"] == ["L5_TL"]
    np.testing.assert_array_equal(start.positions[SCHEMA.index("L5_TL")], [1.0, 1.0])
    session.move("T5_TL", place(session, "T6_TL"))
    hints, start = asked[-2]  # then without the shift, which the image bears out as well
    shift = start.positions[ROWS[3:15]] - base.landmarks.positions[ROWS[4:16]]
    np.testing.assert_allclose(shift, 0, atol=1e-9)
    assert list(hints) == [SCHEMA.index("T5_TL")]


def test_the_network_is_not_asked_twice_for_the_same():
    asked = []
    base = column_detection()

    def repredict(hints, start):
        asked.append(dict(hints))
        return Seen(start)

    session = Session(dataclasses.replace(base, repredict=repredict))
    for share in (0.3, 0.6, 1.0):
        session.move("T8_TL", share * place(session, "T9_TL") + (1 - share) * place(session, "T8_TL"), live=True)
    assert not asked
    session.move("T8_TL", place(session, "T9_TL"))
    assert "levels" in session.message and len(asked) == 2  # as a shift, and as a vertebra found wrongly
    session.undo()
    session.move("T8_TL", place(session, "T9_TL"))
    assert len(asked) == 2


def test_the_image_decides_between_a_shift_and_one_vertebra_found_wrongly():
    base = column_detection()

    def repredict(hints, start):
        shifted_by = np.abs(start.positions - base.landmarks.positions).max()
        return Seen(start, evidence=-20.0 if shifted_by > 1 else 0.0)

    session = Session(dataclasses.replace(base, repredict=repredict))
    before = base.landmarks.positions
    session.move("T8_TL", before[SCHEMA.index("T9_TL")])
    far = SCHEMA.index("L4_BR")
    assert np.linalg.norm(session.landmarks.positions[far] - before[far]) < 5
    assert "levels" not in (session.message or "")


def test_a_shift_is_counted_from_levels_that_have_moved_up_already():
    """A network that gives the uppermost vertebra the name that is put on it, and lets the others move up."""
    base = column_detection()
    first = base.landmarks.positions

    def repredict(hints, start):
        moved = [row for row in range(68) if start.statuses[row] == "moved"]
        if not moved:
            return Seen(start)
        upper = start.positions[ROWS[0]]
        places = shifted(first, ROWS, 1)
        if np.abs(upper - first[ROWS[2]]).max() < 1:
            places = shifted(places, ROWS, 1)
        places[ROWS[-1]] = first[ROWS[0]]
        return Seen(start.replace(positions=places), out_of_order=frozenset({16}))

    session = Session(dataclasses.replace(base, repredict=repredict))
    named = session.move("L5_TL", place(session, "T1_TL") + 1.0)
    np.testing.assert_allclose(named.positions[ROWS[:-1]], first[ROWS[1:]], atol=1e-9)
    assert session.message == "The vertebra on which you put L5_TL is now L5; the others were named again without it."
    after = session.move("T8_TL", named.positions[SCHEMA.index("T9_TL")])
    assert "one level down" in session.message
    np.testing.assert_allclose(after.positions[ROWS[:14]], first[ROWS[2:16]], atol=4)
    np.testing.assert_allclose(after.positions[ROWS[-1]], first[ROWS[0]], atol=2)
    assert same(session.undo(), named)


def test_steps_and_shifts_are_exact_inverses_inside_the_column():
    positions = column_detection().landmarks.positions
    there = shifted(positions, ROWS, 1)
    np.testing.assert_array_equal(there[ROWS[:-1]], positions[ROWS[1:]])
    back = shifted(there, ROWS, -1)
    np.testing.assert_allclose(back[ROWS[1:]], positions[ROWS[1:]], atol=1e-9)
    row = SCHEMA.index("T8_TL")
    for name, expected in (("T8_TL", 0), ("T9_TL", 1), ("T7_TL", -1), ("T10_TL", 0)):
        assert level_step(positions, ROWS, row, positions[SCHEMA.index(name)])[0] == expected
    assert level_step(positions, ROWS, row, positions[SCHEMA.index("T9_TL")])[1] == pytest.approx(1.0, rel=0.1)
    squeezed = positions.copy()
    squeezed[ROWS[6]] = positions[ROWS[7]] - 1.0  # T7 was found where T8 is
    assert level_step(squeezed, ROWS, row, positions[SCHEMA.index("T10_TL")])[1] == pytest.approx(2.0, rel=0.1)
    above = 2 * positions[ROWS[0, 0]] - positions[ROWS[1, 0]]
    assert level_step(positions, ROWS, ROWS[0, 0], above)[0] == -1
