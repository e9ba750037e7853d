"""A vertebra that the user gives the name of a level far off: it moves as a whole, and nothing else keeps that name."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.levels import level_rows
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.phantoms.spine import make_spine
from session_cases import same

SCHEMA = load_schema("spine-ap")
ROWS = level_rows(SCHEMA)
NAMES = [level[0].split("_")[0] for level in SCHEMA.levels]


@functools.cache
def detection():
    """Of a phantom whose levels could be one off: where the image is sure of them, names do not move up."""
    return Detector(find_bundle("spine-ap-radiograph"), device="cpu").detect(make_spine(7004, field="column").image())


def base() -> np.ndarray:
    return detection().landmarks.positions


def on(name: str) -> np.ndarray:
    """A place on the vertebra where a corner was found, some pixels off."""
    return base()[SCHEMA.index(name)] + [3.0, 2.0]


def vertebrae(session: Session) -> list[str | None]:
    """For each level the name that its vertebra had at first."""
    centres = base()[ROWS].mean(axis=1)
    found = []
    for centre in session.landmarks.positions[ROWS].mean(axis=1):
        apart = np.linalg.norm(centres - centre, axis=1)
        near = np.isfinite(centre).all() and apart.min() < 0.3 * np.linalg.norm(np.diff(centres, axis=0), axis=1).min()
        found.append(NAMES[int(apart.argmin())] if near else None)
    return found


def put(level: str, vertebra: str) -> list[str]:
    """The names with one taken out of the list and put in elsewhere."""
    names = [name for name in NAMES if name != vertebra]
    names.insert(NAMES.index(level), vertebra)
    return names


@pytest.mark.parametrize(("name", "target"), [("L5_TL", "T1_TL"), ("T1_BR", "L5_BR"), ("T8_TL", "T3_TL")])
def test_a_vertebra_takes_its_name_with_all_its_corners(name, target):
    session = Session(detection())
    assert vertebrae(session) == NAMES
    after = session.move(name, on(target))
    level, vertebra = name.split("_")[0], target.split("_")[0]
    assert vertebrae(session) == put(level, vertebra)
    assert session.message == (
        f"The vertebra on which you put {name} is now {level}; the others were named again without it."
    )
    np.testing.assert_array_equal(after.positions[SCHEMA.index(name)], on(target))
    corners = ROWS[NAMES.index(level)]
    free = [row for row in corners if SCHEMA.ids[row] != name]
    assert (after.expected_errors[free] > 0).all() and set(np.array(after.statuses)[free]) <= {"predicted", "review"}
    np.linalg.cholesky(after.covariances[free])
    old = base()[ROWS[NAMES.index(vertebra)]]
    np.testing.assert_allclose(after.positions[corners], old, atol=8)
    assert same(session.undo(), detection().landmarks) and session.message is None
    assert same(session.redo(), after)
    session.release(name)
    assert same(session.landmarks, detection().landmarks)


def test_it_is_there_again_after_saving_and_goes_on():
    session = Session(detection())
    session.move("L5_TL", on("T1_TL"))
    stored = json.loads(json.dumps(session.to_dict(), allow_nan=False))
    again = Session.from_dict(stored, detection())
    assert same(again.landmarks, session.landmarks) and again.message == session.message
    place = session.landmarks.positions[SCHEMA.index("T8_TL")] + [2.0, 1.0]
    assert same(again.move("T8_TL", place), session.move("T8_TL", place))
    assert vertebrae(again) == put("L5", "T1")
    again.undo()
    assert same(again.undo(), detection().landmarks)
    alone = Session.from_dict(stored)
    assert same(alone.landmarks, again.redo())
    alone.attach_heatmaps(None, detection().repredict)
    assert same(alone.move("T8_TL", place), session.landmarks)


def test_several_vertebrae_can_be_named_and_given_back_one_by_one():
    session = Session(detection())
    session.move("T12_TL", on("T4_TL"))
    first = vertebrae(session)
    assert first == put("T12", "T4")
    session.move("T2_BR", on("L3_BR"))
    both = vertebrae(session)
    assert both[NAMES.index("T12")] == "T4" and both[NAMES.index("T2")] == "L3"
    assert len({name for name in both if name}) == len([name for name in both if name])
    session.release("T2_BR")
    assert vertebrae(session) == first


def test_more_corners_of_a_level_out_of_order_stay_with_it():
    session = Session(detection())
    session.move("L5_TL", on("T1_TL"))
    others = [row for row in range(68) if row not in ROWS[-1]]
    before = session.landmarks.positions
    session.move("L5_BR", on("T1_BR"))
    assert session.message is None and vertebrae(session) == put("L5", "T1")
    np.testing.assert_array_equal(session.landmarks.positions[others], before[others])
    session.release("L5_TL")
    assert vertebrae(session) == put("L5", "T1")
    # Back in its place, the level is what it was.
    session.move("L5_BR", on("L5_BR"))
    assert vertebrae(session) == NAMES and session.message is None


def test_a_drag_far_off_moves_its_own_point_only():
    session = Session(detection())
    others = [row for row in range(68) if SCHEMA.ids[row] != "L5_TL"]
    for _ in range(2):
        before = session.landmarks
        live = session.move("L5_TL", on("T1_TL") + 1.0, live=True)
        np.testing.assert_array_equal(live.positions[others], before.positions[others])
        assert session.landmarks is before
        session.move("L5_TL", on("T1_TL"))


def test_far_off_and_on_no_vertebra_leaves_the_others_alone():
    session = Session(detection())
    others = [row for row in range(68) if SCHEMA.ids[row] != "L5_TL"]
    after = session.move("L5_TL", np.array([20.0, 20.0]))
    np.testing.assert_array_equal(after.positions[others], base()[others])
    assert "L5_TL" in session.message and "left as they are" in session.message


def test_local_corrections_and_shifts_are_what_they_were():
    """Beside a level out of order as without one."""
    for far in (False, True):
        session = Session(detection())
        if far:
            session.move("L5_TL", on("T1_TL"))
        before, named = session.landmarks.positions, vertebrae(session)
        session.move("T8_TL", before[SCHEMA.index("T8_TL")] + [3.0, -2.0])
        assert session.message is None and vertebrae(session) == named
        np.testing.assert_allclose(session.landmarks.positions[ROWS[-1]], before[ROWS[-1]], atol=12)
        session.undo()
        # Beside a level out of order the others have moved up: one level up they are where they were found.
        session.move("T8_TL", before[SCHEMA.index("T7_TL" if far else "T9_TL")])
        assert f"17 levels were moved one level {'up' if far else 'down'}" in session.message
        kept, taken = (slice(3, 15), slice(2, 14)) if far else (slice(2, 14), slice(3, 15))
        assert vertebrae(session)[kept] == named[taken]
        if far:
            np.testing.assert_allclose(session.landmarks.positions[ROWS[-1]], before[ROWS[-1]], atol=12)


def test_labels_moved_on_request_take_a_level_out_of_order_with_them():
    session = Session(detection())
    session.move("L5_TL", on("T1_TL"))
    session.shift_levels(1)
    assert session.pinned == {"L4_TL"} and vertebrae(session)[NAMES.index("L4")] == "T1"
    session.shift_levels(-1)
    assert session.pinned == {"L5_TL"} and vertebrae(session) == put("L5", "T1")


def test_the_next_point_to_correct_is_a_free_one():
    session = Session(detection())
    session.move("L5_TL", on("T1_TL"))
    suggestion = session.suggest_next()
    assert suggestion in SCHEMA.ids and suggestion not in session.pinned
