"""Names beside a spine's vertebrae instead of 68 labels: what is drawn, where, and that the mouse is not disturbed."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import slicer.util
from LandmarkDetectionLib.mrml.following import FOLLOWING
from LandmarkDetectionLib.mrml.markups import read_positions
from LandmarkDetectionLib.mrml.names import NAMES_ROLE, highlight, update_names
from LandmarkDetectionLib.mrml.parameters import find_results
from mrml.scenes import begin, film_volume
from mrml.test_volumes import put_under, rotation
from slicer_host import SliceView
from spine_cases import SIZE, column_detection


@pytest.fixture
def column(application):
    """A detection of 68 corners in the scene, with its names."""
    work = begin(film_volume("column.png", SIZE), column_detection)
    update_names(work.node, work.session.landmarks, work.placement)
    return work


def names_of(work):
    return work.node.GetNodeReference(NAMES_ROLE)


def texts(node) -> list[str]:
    return [node.GetNthControlPointLabel(k) for k in range(node.GetNumberOfControlPoints())]


def test_each_vertebra_has_one_name_beside_it(column):
    names = names_of(column)
    schema = column.session.landmarks.schema
    levels = [name.split("_")[0] for name in schema.ids[::4]]
    assert texts(names) == [*levels, ""]
    assert names.GetNthControlPointPositionStatus(17) != names.PositionDefined
    places = read_positions(names, column.placement)[:17]
    corners = read_positions(column.node, column.placement).reshape(17, 4, 2)
    assert (places[:, 0] > corners[:, :, 0].max(axis=1)).all()
    assert np.allclose(places[:, 1], corners[:, :, 1].mean(axis=1))


def test_the_points_keep_their_labels_without_drawing_them(column):
    assert texts(column.node) == list(column.session.landmarks.schema.ids)
    assert not column.node.GetDisplayNode().GetPointLabelsVisibility()
    assert find_results() == [column.node]
    assert names_of(column).GetHideFromEditors() and names_of(column).GetLocked()


def test_sixteen_points_carry_their_own_labels(work):
    assert work.node.GetDisplayNode().GetPointLabelsVisibility()
    assert update_names(work.node, work.session.landmarks, work.placement) is None
    assert names_of(work) is None


def test_names_follow_a_move_and_the_transform_in_place(column):
    names = names_of(column)
    before = read_positions(names, column.placement)
    rows = slice(32, 36)
    wanted = column.session.landmarks.positions[32] + (5.0, 2.0)
    column.node.SetNthControlPointPosition(32, *column.placement.to_local(wanted))
    after = read_positions(names, column.placement)
    assert names_of(column) is names
    assert np.allclose(after[8, 1], column.session.landmarks.positions[rows, 1].mean())
    assert not np.allclose(after[8], before[8])
    put_under(column.volume, rotation(25, 2))
    assert names.GetTransformNodeID() == column.volume.GetTransformNodeID()


def test_the_highlighted_corner_is_named_beside_its_point(column):
    landmarks = column.session.landmarks
    highlight(column.node, "T7_TL", landmarks, column.placement)
    names = names_of(column)
    assert texts(names)[-1] == "T7_TL"
    place = read_positions(names, column.placement)[-1]
    corner = landmarks.positions[landmarks.schema.index("T7_TL")]
    assert place[1] == pytest.approx(corner[1]) and corner[0] + 2 < place[0] < corner[0] + 20
    highlight(column.node, None, landmarks, column.placement)
    assert texts(names)[-1] == ""
    assert names.GetNthControlPointPositionStatus(17) != names.PositionDefined


def test_a_vertebra_that_is_not_on_the_film_has_no_name(application):
    absent = ("L5_TL", "L5_TR", "L5_BL", "L5_BR")
    work = begin(film_volume("column.png", SIZE), functools.partial(column_detection, absent=absent))
    names = update_names(work.node, work.session.landmarks, work.placement)
    states = [names.GetNthControlPointPositionStatus(k) == names.PositionDefined for k in range(17)]
    assert states == [True] * 16 + [False]


def test_names_are_seen_and_hidden_with_the_points(application, column):
    view = SliceView(application, column.volume, size=(560, 1200))
    shown = view.pixels()
    names_of(column).SetDisplayVisibility(False)
    without = view.pixels()
    assert (shown != without).any(axis=-1).sum() > 400  # seventeen short texts
    names_of(column).SetDisplayVisibility(True)
    column.node.SetDisplayVisibility(False)
    assert not names_of(column).GetDisplayVisibility()
    column.node.SetDisplayVisibility(True)
    assert names_of(column).GetDisplayVisibility()


def test_names_do_not_take_the_mouse(application, column):
    """A press where a name is grabs nothing, and a press on a corner grabs the corner although its name is near."""
    view = SliceView(application, column.volume, size=(560, 1200))
    landmarks = column.session.landmarks
    highlight(column.node, "T12_TR", landmarks, column.placement)
    names = names_of(column)
    start = view.pixel(slicer.util.arrayFromMarkupsControlPoints(names, world=True)[11])
    before = slicer.util.arrayFromMarkupsControlPoints(names).copy()
    view.drag(start, start + (30, 10))
    assert np.array_equal(slicer.util.arrayFromMarkupsControlPoints(names), before)
    assert not column.session.can_undo
    row = landmarks.schema.index("T12_TR")
    start = view.pixel(slicer.util.arrayFromMarkupsControlPoints(column.node, world=True)[row])
    view.drag(start, start + (10, 6))
    assert column.session.pinned == {"T12_TR"}


def test_names_come_back_with_the_scene_and_go_with_the_points(application, column, tmp_path):
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (node,) = find_results()
    names = node.GetNodeReference(NAMES_ROLE)
    assert texts(names)[:2] == ["T1", "T2"] and names.GetHideFromEditors()
    assert not node.GetDisplayNode().GetPointLabelsVisibility()
    FOLLOWING.removed(node)
    assert names.GetScene() is None
