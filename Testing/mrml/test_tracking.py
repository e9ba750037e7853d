"""Real mouse drags in real views: the others follow, what the user placed stays, one undo brings all back."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.mrml.markups import local_positions, read_positions
from mrml.scenes import begin, film_volume, knee_detection
from mrml.test_volumes import nonlinear_transform, put_under, rotation
from slicer_host import SliceView


def world(node, row: int) -> np.ndarray:
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(row, position)
    return position


def drag(view, work, row: int, shift=(25.0, -18.0), steps: int = 8) -> np.ndarray:
    """Drag a point by `shift` window pixels; returns the index coordinates of all points before."""
    before = read_positions(work.node, work.placement)
    start = view.pixel(world(work.node, row))
    view.drag(start, start + np.array(shift), steps)
    return before


def moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.linalg.norm(after - before, axis=1)


def test_a_drag_in_a_slice_view_moves_the_others(work, slice_view):
    before = drag(slice_view, work, 0)
    after = read_positions(work.node, work.placement)
    expected = np.array([-25.0, 18.0]) * slice_view.millimeters_per_pixel()
    wanted = before[0] + expected * (-1, 1)  # R = -x on a film whose view runs from R to L
    assert np.allclose(after[0], wanted, atol=1.5 * slice_view.millimeters_per_pixel())
    assert (moved(before, after)[1:] > 0.05).sum() >= 10
    assert work.session.pinned == {"T0"}
    assert work.session.landmarks.statuses[0] == "moved"
    assert np.allclose(after, work.session.landmarks.positions, atol=1e-9)
    assert "placed by the user" in work.node.GetNthControlPointDescription(0)
    assert not work.errors


def test_the_others_follow_while_the_point_is_held(work, slice_view):
    live = []
    work.tracker.on_change = lambda landmarks, is_live: live.append(is_live)
    before = read_positions(work.node, work.placement)
    start = slice_view.pixel(world(work.node, 0))
    slice_view.press(start)
    slice_view.move(start, start + (25, -18), steps=5)
    during = read_positions(work.node, work.placement)
    assert work.tracker.dragging
    assert live == [True] * 5
    assert (moved(before, during)[1:] > 0.05).any()
    assert not work.session.can_undo
    slice_view.release(start + (25, -18))
    assert live == [True] * 5 + [False]
    assert work.session.can_undo and not work.tracker.dragging


def test_a_point_placed_before_stays_exactly(work, slice_view):
    drag(slice_view, work, 0)
    placed = local_positions(work.node)[0]
    drag(slice_view, work, 12, shift=(-15, 20))
    drag(slice_view, work, 5, shift=(8, 8))
    assert np.array_equal(local_positions(work.node)[0], placed)
    assert work.session.pinned == {"T0", "F3", "T5"}


def test_one_undo_brings_all_back_and_redo_takes_them_away_again(work, slice_view):
    before = drag(slice_view, work, 3)
    after = read_positions(work.node, work.placement)
    assert work.tracker.undo()
    assert np.array_equal(read_positions(work.node, work.placement), before)
    assert not work.tracker.undo()
    assert work.tracker.redo()
    assert np.array_equal(read_positions(work.node, work.placement), after)
    assert not work.tracker.redo()


def test_a_click_without_movement_is_nothing(work, slice_view):
    before = local_positions(work.node)
    for row in (0, 7, 15):
        slice_view.click(slice_view.pixel(world(work.node, row)))
    assert np.array_equal(local_positions(work.node), before)
    assert not work.session.can_undo
    assert not work.session.pinned


def test_a_drag_back_to_the_start_still_counts(work, slice_view):
    start = slice_view.pixel(world(work.node, 2))
    slice_view.press(start)
    slice_view.move(start, start + (20, 0), steps=4)
    slice_view.move(start + (20, 0), start, steps=4)
    slice_view.release(start)
    assert work.session.pinned == {"T2"}
    assert np.allclose(read_positions(work.node, work.placement), work.session.landmarks.positions, atol=1e-9)


def test_a_locked_point_does_not_move_anything(work, slice_view):
    work.node.SetNthControlPointLocked(0, True)
    before = drag(slice_view, work, 0)
    assert np.array_equal(read_positions(work.node, work.placement), before)
    assert not work.session.can_undo


def test_a_drag_in_a_3d_view_ends_on_the_plane_of_the_film(work, three_d_view):
    away = []
    work.tracker.on_change = lambda landmarks, live: away.append(abs(local_positions(work.node)[0][2]))
    before = drag(three_d_view, work, 0, shift=(35.0, 25.0))
    after = read_positions(work.node, work.placement)
    assert max(away) > 1.0  # the drag did leave the plane
    assert np.abs(local_positions(work.node)[:, 2]).max() < 1e-9
    assert moved(before, after)[0] > 5.0
    assert (moved(before, after)[1:] > 0.05).sum() >= 10
    assert work.tracker.undo()
    assert np.array_equal(read_positions(work.node, work.placement), before)


@pytest.mark.parametrize("kind", ["linear", "vtkMRMLGridTransformNode", "vtkMRMLBSplineTransformNode"])
def test_a_drag_under_a_transform(application, kind):
    volume = film_volume()
    if kind == "linear":
        put_under(volume, rotation(25, 2))
    else:
        volume.SetAndObserveTransformNodeID(nonlinear_transform(kind).GetID())
    work = begin(volume)
    view = SliceView(application, volume)
    before = drag(view, work, 0)
    after = read_positions(work.node, work.placement)
    assert moved(before, after)[0] > 3.0
    assert (moved(before, after)[1:] > 0.05).sum() >= 10
    assert np.abs(local_positions(work.node)[:, 2]).max() < 1e-9
    assert np.allclose(after, work.session.landmarks.positions, atol=1e-9)
    assert not work.errors


def test_a_script_that_sets_a_point_counts_as_a_move(work):
    before = read_positions(work.node, work.placement)
    work.node.SetNthControlPointPosition(4, *(local_positions(work.node)[4] + (6.0, 4.0, 9.0)))
    after = read_positions(work.node, work.placement)
    assert work.session.pinned == {"T4"}
    assert np.allclose(after[4], before[4] + (-6.0, -4.0))
    assert local_positions(work.node)[4][2] == pytest.approx(0.0, abs=1e-12)
    assert (moved(before, after)[:4] > 0.01).any()


def test_a_script_that_sets_several_points_at_once(work):
    wanted = local_positions(work.node)
    wanted[[1, 9]] += ((5.0, 5.0, 0.0), (-5.0, 4.0, 0.0))
    with slicer.util.NodeModify(work.node):
        for row in (1, 9):
            work.node.SetNthControlPointPosition(row, *wanted[row])
    assert work.session.pinned == {"T1", "F0"}
    assert np.allclose(local_positions(work.node)[[1, 9]], wanted[[1, 9]], atol=1e-9)


def test_an_edit_waits_until_the_event_is_over_where_the_owner_asks(application, film):
    due = []
    work = begin(film, later=due.append)
    work.node.SetNthControlPointPosition(4, -90.0, -100.0, 0.0)
    work.node.SetNthControlPointPosition(5, -110.0, -100.0, 0.0)
    assert len(due) == 1 and not work.session.pinned
    due.pop()()
    assert work.session.pinned == {"T4", "T5"}


def test_labels_descriptions_and_selection_are_not_moves(work):
    work.node.SetNthControlPointLabel(0, "my name")
    work.node.SetNthControlPointDescription(1, "my words")
    work.node.SetNthControlPointSelected(2, False)
    assert not work.session.can_undo


def test_an_unset_point_is_absent_and_can_be_placed_again(work):
    work.node.UnsetNthControlPointPosition(6)
    assert work.session.landmarks.statuses[6] == "absent"
    assert work.node.GetNthControlPointPositionStatus(6) == work.node.PositionMissing
    work.node.SetNthControlPointPosition(6, -100.0, -120.0, 0.0)
    assert work.session.landmarks.statuses[6] == "moved"
    assert np.allclose(read_positions(work.node, work.placement)[6], (100, 120))
    work.tracker.undo()
    work.tracker.undo()
    assert np.allclose(read_positions(work.node, work.placement), work.detection.landmarks.positions)


def test_release_can_be_given_to_a_worker(application, film):
    asked = []
    work = begin(film, release=lambda name, position: asked.append((name, position)))
    view = SliceView(application, film)
    drag(view, work, 0)
    (name, position), held = asked.pop(), read_positions(work.node, work.placement)[0]
    assert name == "T0" and np.allclose(position, held, atol=1e-9)
    result = work.session.move(name, position + 4.0)
    # The result comes while the user holds another point: it waits for the end of that, which changes nothing.
    start = view.pixel(world(work.node, 9))
    view.press(start)
    work.tracker.show(result)
    assert not np.allclose(read_positions(work.node, work.placement), result.positions, atol=1e-6)
    view.release(start)
    assert np.allclose(read_positions(work.node, work.placement), result.positions, atol=1e-9)
    assert not asked


def test_an_error_on_release_is_told_and_the_next_drag_works(work, slice_view, caplog):
    def fail(name, position):
        raise LandmarkDetectionError("The model is gone; select it again.")

    works = work.tracker.release
    work.tracker.release = fail
    drag(slice_view, work, 0)
    assert [str(error) for error in work.errors] == ["The model is gone; select it again."]
    assert "could not follow" in caplog.text
    work.tracker.release = works
    drag(slice_view, work, 1)
    assert "T1" in work.session.pinned


def test_scene_closed_during_a_drag(application, work, slice_view):
    start = slice_view.pixel(world(work.node, 0))
    slice_view.press(start)
    slice_view.move(start, start + (10, 10), steps=3)
    application.scene.Clear(0)
    assert not work.tracker.active and not work.tracker.dragging
    slice_view.move(start + (10, 10), start + (20, 20), steps=3)
    slice_view.release(start + (20, 20))
    assert not work.tracker.undo()
    assert not work.errors


def test_markups_removed_during_a_drag(application, work, slice_view):
    start = slice_view.pixel(world(work.node, 0))
    slice_view.press(start)
    slice_view.move(start, start + (10, 10), steps=3)
    application.scene.RemoveNode(work.node)
    assert not work.tracker.active
    slice_view.release(start + (20, 20))
    assert not work.errors


def test_volume_deleted_is_said_in_one_sentence(application, work):
    application.scene.RemoveNode(work.volume)
    assert not work.tracker.active
    assert len(work.errors) == 1
    assert "was removed; load it again" in str(work.errors[0])


def test_volume_replaced_by_another_size_is_said(work):
    slicer.util.updateVolumeFromArray(work.volume, np.arange(40.0 * 50).reshape(1, 50, 40))
    assert not work.tracker.active
    assert "another size" in str(work.errors[0])


def test_points_stay_on_the_film_when_it_gets_a_transform_later(work):
    before = read_positions(work.node, work.placement)
    matrix = rotation(40, 0)
    put_under(work.volume, matrix)
    assert work.node.GetTransformNodeID() == work.volume.GetTransformNodeID()
    regions = work.node.GetNodeReference("LandmarkDetection.regions")
    assert regions.GetTransformNodeID() == work.node.GetTransformNodeID()
    expected = (matrix @ (-before[0][0], -before[0][1], 0.0, 1.0))[:3]
    assert np.allclose(world(work.node, 0), expected)
    work.volume.HardenTransform()
    assert work.node.GetTransformNodeID() is None
    assert np.allclose(world(work.node, 0), expected)
    assert np.allclose(read_positions(work.node, work.tracker.placement), before, atol=1e-9)
    assert not work.session.can_undo


def test_stop_leaves_no_observer(work, slice_view):
    work.tracker.stop()
    drag(slice_view, work, 0)
    assert not work.session.can_undo
    work.tracker.start()
    drag(slice_view, work, 1)
    assert work.session.pinned == {"T1"}


def test_a_detection_with_absent_points_can_be_dragged(application, film):
    from LandmarkDetectionLib.inference.session import Session
    from LandmarkDetectionLib.mrml.markups import create_markups
    from LandmarkDetectionLib.mrml.volumes import volume_image
    from mrml.scenes import track

    taken = volume_image(film)
    detection = knee_detection(taken.image.frame, absent=("T8", "F6"))
    node = create_markups(film, detection, taken.placement)
    work = track(node, Session(detection))
    node.SetNthControlPointPosition(0, -60.0, -120.0, 0.0)
    assert work.session.pinned == {"T0"}
    assert node.GetNthControlPointPositionStatus(8) == node.PositionMissing
    assert not work.errors
