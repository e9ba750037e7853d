"""Counts of the vertebrae that were given their level, on columns made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from LandmarkDetectionLib.evaluation.dataset import Case
from LandmarkDetectionLib.evaluation.level_figures import level_figures
from LandmarkDetectionLib.evaluation.level_sentences import level_sentences
from LandmarkDetectionLib.evaluation.levels import NOWHERE, distances, half_steps, levels_in
from LandmarkDetectionLib.evaluation.outcome import Outcome
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.chain import Chain
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.level_notes import level_notes
from LandmarkDetectionLib.inference.levels import level_rows
from LandmarkDetectionLib.landmarks import LandmarkSet, load_schema
from session_cases import PRIORS

VOLUME, FILM = load_schema("spine-ct"), load_schema("spine-ap")
STEP = 30.0
TURN = np.array([[0.96, 0.0, -0.28], [0.0, 1.0, 0.0], [0.28, 0.0, 0.96]])
ISOTROPIC = Frame((100, 100, 700), np.zeros(3), np.eye(3), "calibrated")
THICK = Frame((200, 200, 140), np.array([5.0, -9.0, 3.0]), TURN * [0.5, 0.5, 5.0], "calibrated").flipped(2)


def column(schema=VOLUME, step: float = STEP) -> np.ndarray:
    """(L, P, 3) places in mm: vertebrae 20 mm high, `step` apart, that run to the feet of a volume or down a film."""
    count, points = level_rows(schema).shape
    down = np.array([0.0, 0.0, -1.0] if schema.dims == 3 else [0.0, 1.0, 0.0])
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
    across = np.array([1.0, 0.0, 0.0])
    vertebra = 15 * np.cos(angle) * across + 10 * np.sin(angle) * down
    return step * np.arange(count)[:, None, None] * down + vertebra


def only(places: np.ndarray, *levels: int) -> np.ndarray:
    """The places of some levels, NaN elsewhere."""
    kept = np.full_like(places, np.nan)
    kept[list(levels)] = places[list(levels)]
    return kept


def renamed(places: np.ndarray, by: int) -> np.ndarray:
    """Each level where the one `by` further down lies."""
    moved = np.full_like(places, np.nan)
    count = len(places)
    moved[max(0, -by) : count - max(0, by)] = places[max(0, by) : count - max(0, -by)]
    return moved


def outcome(truth: np.ndarray, found: np.ndarray, schema=VOLUME, frame=ISOTROPIC, notes=(), review=()) -> Outcome:
    """A detection of places (L, P, 3) against the truth; the levels of `review` are to be reviewed."""
    rows, count = level_rows(schema), len(schema.ids)
    arrays = np.full((2, count, 3), np.nan)
    arrays[0][rows], arrays[1][rows] = truth, found
    truth_index, positions = (np.where(np.isfinite(a[:, : frame.dims]), frame.to_index(a), np.nan) for a in arrays)
    statuses = np.where(np.isfinite(positions).all(axis=1), "predicted", "absent").astype(object)
    for level in review:
        statuses[rows[level]] = np.where(statuses[rows[level]] == "absent", "absent", "review")
    landmarks = LandmarkSet(
        schema, frame, positions, np.broadcast_to(np.eye(frame.dims), (count, frame.dims, frame.dims)),
        np.ones(count), tuple(statuses), ("hand 1",) * count,
    )  # fmt: skip
    detection = Detection("hand", "1", "", "a", landmarks, None, None, 1.0, PRIORS[3], None, notes)
    return Outcome(Case(None, "a", "", truth_index, 1, None), truth_index, detection)


def noise(shape: tuple[int, ...], deviation: float = 2.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, deviation, shape)


def images_of(figures: dict) -> list[str]:
    return [kind for kind, count in figures["images"].items() for _ in range(count)]


def test_a_column_that_is_right():
    truth = only(column(), *range(4, 12))
    figures = level_figures([outcome(truth, truth + noise(truth.shape))] * 3, VOLUME)
    inside, outside = figures["in_view"], figures["out_of_view"]
    assert (inside["count"], inside["whole"], inside["on_its_level"]) == (24, 24, 24)
    assert (inside["on_another_level"], inside["on_none"], inside["missed"], inside["share"]) == (0, 0, 0, 1.0)
    # Three images that are all right do not prove a model without fault.
    assert inside["ci95"][0] == pytest.approx(0.025 ** (1 / 3)) and inside["ci95"][1] == 1
    assert (outside["count"], outside["reported_absent"], outside["reported_present"]) == (42, 42, 0)
    assert images_of(figures) == ["all_right"] * 3 and figures["shifts"] == {}
    assert figures["wrong"] == {"images": 0, "flagged": 0, "other_images": 3, "other_noted": 0}
    assert figures["landmarks"] == {
        "in_view": 168, "in_view_reported_absent": 0, "out_of_view": 294, "out_of_view_reported_absent": 294,
    }  # fmt: skip
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("by", [1, -1, 2])
def test_a_column_that_is_shifted(by):
    truth = only(column(), *range(6, 12))
    figures = level_figures([outcome(truth, renamed(truth, by) + noise(truth.shape))], VOLUME)
    inside, outside = figures["in_view"], figures["out_of_view"]
    assert (inside["on_its_level"], inside["on_another_level"], inside["on_none"]) == (0, 6 - abs(by), 0)
    assert inside["missed"] == outside["reported_present"] == abs(by) and outside["reported_absent"] == 16 - abs(by)
    assert images_of(figures) == ["shifted"] and figures["shifts"] == {f"{by:+d}": 1}
    assert figures["wrong"]["images"] == 1 and figures["wrong"]["flagged"] == 0
    word = {1: "named 1 too high in 1", -1: "named 1 too low in 1", 2: "named 2 too high in 1"}[by]
    assert ("Images with the whole column shifted", f"1 of 1; {word}") in level_sentences(figures)


def test_a_shift_of_one_part_is_none_of_the_column():
    truth = only(column(), *range(6, 12))
    found = np.where(np.arange(22)[:, None, None] < 9, truth, renamed(truth, 1))
    figures = level_figures([outcome(truth, found)], VOLUME)
    assert figures["in_view"]["on_its_level"] == 3 and figures["in_view"]["on_another_level"] == 2
    assert figures["in_view"]["missed"] == 1
    assert images_of(figures) == ["some_wrong"] and figures["shifts"] == {}


def test_what_is_missed_and_what_is_made_up():
    truth = only(column(), *range(6, 12))
    missed = truth.copy()
    missed[11] = np.nan
    beside, upon = truth.copy(), truth.copy()
    beside[2] = column()[2]
    upon[12] = truth[11] + 2.0
    cases = [(missed, "missed_or_invented", 1, 0), (beside, "missed_or_invented", 0, 1), (upon, "some_wrong", 0, 1)]
    for found, kind, count, invented in cases:
        figures = level_figures([outcome(truth, found)], VOLUME)
        assert images_of(figures) == [kind]
        assert figures["in_view"]["missed"] == count and figures["out_of_view"]["reported_present"] == invented
        assert figures["in_view"]["on_its_level"] == 6 - count and figures["in_view"]["on_another_level"] == 0
        assert figures["landmarks"]["in_view_reported_absent"] == 7 * count
        assert figures["landmarks"]["out_of_view_reported_absent"] == 7 * (16 - invented)


def test_a_level_that_lies_on_no_vertebra():
    truth = only(column(), *range(6, 12))
    astray = truth.copy()
    astray[8] += [60.0, 0, 0]
    reading = levels_in(outcome(truth, astray), VOLUME, np.ones(154, dtype=bool))
    assert reading.places[5:12].tolist() == [NOWHERE, 6, 7, NOWHERE, 9, 10, 11]
    figures = level_figures([outcome(truth, astray)], VOLUME)
    assert figures["in_view"]["on_another_level"] == figures["in_view"]["on_none"] == 1
    assert images_of(figures) == ["some_wrong"]


def test_a_vertebra_cut_off_by_the_border():
    """It is compared with what is there of it; one that is found a level further is wrong all the same."""
    truth = only(column(), *range(6, 12))
    truth[11, 3:] = np.nan
    right, wrong = only(column(), *range(6, 12)), only(column(), *range(6, 12))
    wrong[11] = column()[12]
    figures = level_figures([outcome(truth, right), outcome(truth, wrong)], VOLUME)
    inside = figures["in_view"]
    assert (inside["count"], inside["whole"], inside["on_its_level"], inside["on_none"]) == (12, 10, 11, 1)
    assert figures["landmarks"]["in_view"] == 2 * (42 - 4)
    assert figures["landmarks"]["out_of_view_reported_absent"] == figures["landmarks"]["out_of_view"] - 8
    # Nothing in common: the middles are compared.
    seen = only(column(), 11)
    seen[11, :4] = np.nan
    middles = distances(seen, only(truth, 11))[11, 11]
    assert middles == pytest.approx(np.linalg.norm(column()[11, 4:].mean(axis=0) - column()[11, :3].mean(axis=0)))


@pytest.mark.parametrize("frame", [ISOTROPIC, THICK, THICK.permuted((2, 0, 1))])
def test_half_a_step_is_measured_in_millimetres(frame):
    truth = only(column(), *range(6, 12))
    for apart, right in ((0.48, 6), (0.52, 0)):
        for direction in ([0, 0, 1.0], [1.0, 0, 0], [0.6, 0.8, 0]):
            found = truth + apart * STEP * np.array(direction)
            figures = level_figures([outcome(truth, found, frame=frame)], VOLUME)
            assert figures["in_view"]["on_its_level"] == right


def test_steps_of_gaps_ends_and_single_vertebrae():
    places = column()
    places[10:] += [0, 0, -10.0]
    expected = np.full(22, STEP / 2)
    assert half_steps(places, places) == pytest.approx(expected)
    gap = only(places, 3, 4, 6, 9, 10)
    # A third of 100 mm between 9 and 6; 10 lies 40 mm below 9.
    values = half_steps(gap, gap)
    assert values[[3, 4, 6, 9, 10]] == pytest.approx([15, 15, 15, 15, 20])
    assert (np.delete(values, [3, 4, 6, 9, 10]) == 0).all()
    alone = only(places, 7)
    extent = np.linalg.norm(places[7][:, None] - places[7][None], axis=-1).max()
    assert half_steps(alone, alone)[7] == pytest.approx(extent / 2)
    point = alone.copy()
    point[7, 1:] = np.nan
    assert half_steps(point, alone)[7] == pytest.approx(extent / 2)
    for moved, right in ((0.4, 1), (0.6, 0)):
        found = alone + [0, 0, moved * extent]
        assert level_figures([outcome(alone, found)], VOLUME)["in_view"]["on_its_level"] == right


@pytest.mark.parametrize("spacing", [None, (0.2, 0.7)])
def test_films(spacing):
    """A whole column leaves nothing out of view; a level without truth is out of view, wherever it is."""
    frame = Frame.film((400, 600)) if spacing is None else Frame.film((400, 600), spacing, "given")
    truth = column(FILM)
    found = truth + noise(truth.shape) * [1, 1, 0]
    figures = level_figures([outcome(truth, found, FILM, frame)], FILM)
    assert figures["in_view"]["on_its_level"] == 17
    assert figures["out_of_view"] == {
        "count": 0, "reported_absent": 0, "reported_present": 0, "share": None, "ci95": None,
    }  # fmt: skip
    assert dict(level_sentences(figures))["Vertebrae out of view"].startswith("none")
    unknown = truth.copy()
    unknown[5] = np.nan
    figures = level_figures([outcome(truth, found, FILM, frame), outcome(unknown, found, FILM, frame)], FILM)
    assert figures["in_view"]["count"] == figures["in_view"]["on_its_level"] == 33
    assert figures["out_of_view"]["count"] == figures["out_of_view"]["reported_present"] == 1
    assert images_of(figures) == ["all_right", "missed_or_invented"]
    assert figures["landmarks"]["out_of_view"] == 4


def test_levels_that_the_data_set_does_not_know_are_not_counted():
    truth, labelled = column(FILM), np.ones(68, dtype=bool)
    labelled[level_rows(FILM)[:12]] = False
    labelled[level_rows(FILM)[:, 3]] = False
    truth[:12], truth[:, 3] = np.nan, np.nan
    frame = Frame.film((400, 600))
    figures = level_figures([outcome(truth, column(FILM), FILM, frame)], FILM, labelled)
    assert figures["in_view"]["count"] == figures["in_view"]["whole"] == figures["in_view"]["on_its_level"] == 5
    assert figures["out_of_view"]["count"] == 0 and images_of(figures) == ["all_right"]
    assert figures["landmarks"]["in_view"] == 15 and figures["landmarks"]["out_of_view"] == 0
    # Even so, a level that the data set does not know cannot lie on one that it knows.
    shifted = level_figures([outcome(truth, renamed(column(FILM), 1), FILM, frame)], FILM, labelled)
    assert shifted["shifts"] == {"+1": 1}


def doubtful_notes(second: float, gap: bool = False) -> tuple[str, ...]:
    """Notes on a chain whose levels are one off with some probability, or which leaves a level out."""
    members, marginals = np.full(22, -1), np.zeros((22, 8))
    members[6:12] = range(6)
    marginals[range(6, 12), range(6)], marginals[range(6, 11), range(1, 6)] = 1 - second, second
    statuses = np.full(154, "absent", dtype=object)
    statuses[level_rows(VOLUME)[6:12]] = "predicted"
    if gap:
        statuses[level_rows(VOLUME)[8]] = "absent"
    return level_notes(Chain(members, marginals), tuple(statuses), level_rows(VOLUME), VOLUME)


def test_wrong_levels_that_the_user_is_told_of():
    truth = only(column(), *range(6, 12))
    shifted = renamed(truth, 1)
    sure, unsure, broken = doubtful_notes(0.01), doubtful_notes(0.3), doubtful_notes(0.01, gap=True)
    assert sure and "Not in the image" in sure[0]
    wrong = [
        (outcome(truth, shifted, notes=sure), 0),
        (outcome(truth, shifted, notes=unsure), 1),
        (outcome(truth, shifted, notes=broken), 1),
        (outcome(truth, shifted, review=range(5, 11)), 1),
        (outcome(truth, shifted, review=range(6, 11)), 0),
    ]
    for case, flagged in wrong:
        assert level_figures([case], VOLUME)["wrong"]["flagged"] == flagged
    right = [outcome(truth, truth, notes=sure), outcome(truth, truth, notes=unsure), outcome(truth, truth, review=[7])]
    figures = level_figures([case for case, _ in wrong] + right, VOLUME)
    assert figures["wrong"] == {"images": 5, "flagged": 3, "other_images": 3, "other_noted": 1}
    rows = dict(level_sentences(figures))
    assert rows["Images with wrong levels that were flagged"] == "3 of 5"
    assert rows["Other images with a note that levels may be wrong"] == "1 of 3"


def test_nothing_found_and_nothing_there():
    truth = only(column(), *range(6, 12))
    nothing = np.full_like(truth, np.nan)
    figures = level_figures([outcome(truth, nothing), outcome(nothing, nothing)], VOLUME)
    assert figures["in_view"]["missed"] == 6 and figures["in_view"]["share"] == 0.0
    assert images_of(figures) == ["all_right", "missed_or_invented"]
    empty = level_figures([outcome(nothing, truth)], VOLUME)
    assert empty["in_view"]["share"] is None and empty["out_of_view"]["reported_present"] == 6
    assert dict(level_sentences(empty))["Vertebrae in view found on their level"] == "0"
    json.dumps([figures, empty], allow_nan=False)


def test_only_schemas_with_levels_have_them():
    plain = replace(VOLUME, levels=())
    truth = column()
    case = outcome(truth, truth)
    assert level_figures([case], plain) is None and level_sentences(None) == []
