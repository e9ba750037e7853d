"""All labels of a column moved by one level on request: what moves, what stays, and that it can be undone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.inference.levels import level_rows, renamed_row
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import load_schema
from session_cases import make_detection, same
from spine_cases import column_detection

SCHEMA = load_schema("spine-ap")
ROWS = level_rows(SCHEMA)


def place(session: Session, name: str) -> np.ndarray:
    return session.landmarks.positions[SCHEMA.index(name)]


@pytest.mark.parametrize("step", [-1, 1])
def test_every_level_takes_the_place_of_its_neighbor(step):
    session = Session(column_detection())
    before = session.landmarks
    after = session.shift_levels(step)
    kept, moved = (ROWS[:-1], ROWS[1:]) if step > 0 else (ROWS[1:], ROWS[:-1])
    np.testing.assert_array_equal(after.positions[kept], before.positions[moved])
    way = "down" if step > 0 else "up"
    assert session.message == f"All 17 labels were moved one level {way}; undo brings them back."
    assert same(session.undo(), before) and session.message is None
    assert same(session.redo(), after)
    assert same(session.shift_levels(-step), before)  # there and back again
    stored = Session.from_dict(json.loads(json.dumps(session.to_dict(), allow_nan=False)))
    assert same(stored.undo(), after)


def test_what_the_user_placed_stays_in_the_image_under_its_new_name():
    session = Session(column_detection())
    wanted = place(session, "T8_TL") + (3.0, -2.0)
    session.move("T8_TL", wanted)
    session.mark_absent("T12_BR")
    before = session.landmarks
    session.shift_levels(1)
    assert session.pinned == {"T7_TL"}
    np.testing.assert_array_equal(place(session, "T7_TL"), wanted)
    statuses = dict(zip(SCHEMA.ids, session.landmarks.statuses, strict=True))
    assert statuses["T11_BR"] == "absent" and statuses["T12_BR"] != "absent" and statuses["T7_TL"] == "moved"
    # The neighbors of the corner that was placed follow it just as they did under their old names.
    apart = session.landmarks.positions[ROWS[:-1]] - before.positions[ROWS[1:]]
    assert np.nanmax(np.linalg.norm(apart, axis=-1)) < 1.0
    session.shift_levels(-1)
    assert session.pinned == {"T8_TL"} and same(session.landmarks, before)


def test_what_falls_off_the_end_is_given_up_and_comes_back_with_undo():
    session = Session(column_detection())
    session.pin("T1_TL")
    session.shift_levels(1)
    assert session.pinned == frozenset()
    session.undo()
    assert session.pinned == {"T1_TL"}


def test_a_shift_that_would_leave_no_vertebra_is_refused():
    absent = tuple(name for level in SCHEMA.levels[1:] for name in level)
    session = Session(column_detection(absent=absent))
    with pytest.raises(LandmarkDetectionError, match="No vertebra in the image would be left"):
        session.shift_levels(1)
    assert not session.can_undo
    down = session.shift_levels(-1)
    assert np.isfinite(down.positions[ROWS[1]]).all() and not np.isfinite(down.positions[ROWS[0]]).any()


def test_shifts_of_anything_but_one_level_and_of_no_levels_are_refused():
    with pytest.raises(LandmarkDetectionError, match="shifted by one, up"):
        Session(column_detection()).shift_levels(2)
    with pytest.raises(LandmarkDetectionError, match="have no levels"):
        Session(make_detection()[0]).shift_levels(1)


def test_renamed_rows_keep_corner_and_points_without_level():
    assert renamed_row(ROWS, SCHEMA.index("T8_TR"), 1) == SCHEMA.index("T7_TR")
    assert renamed_row(ROWS, SCHEMA.index("T1_TR"), 1) is None
    assert renamed_row(ROWS, SCHEMA.index("L5_BL"), -1) is None
    assert renamed_row(np.array([[1, 2], [3, 4]]), 0, 1) == 0
