"""Save, clear, reopen, drag again: work goes on as if the scene had never been closed."""

from __future__ import annotations

import numpy as np
import pytest
import slicer.util
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.mrml.display import update_heatmap
from LandmarkDetectionLib.mrml.markups import read_positions
from LandmarkDetectionLib.mrml.parameters import (
    SESSION_ATTRIBUTE,
    find_results,
    has_session,
    restore_placement,
    restore_session,
)
from mrml.scenes import begin, film_volume, track
from mrml.test_tracking import drag, moved
from mrml.test_volumes import nonlinear_transform
from slicer_host import SliceView


def reopen(application, path):
    application.scene.Clear(0)
    slicer.util.loadScene(str(path))
    (node,) = find_results()
    work = track(node, restore_session(node))
    work.placement = restore_placement(node)
    return work


@pytest.mark.parametrize("ending", ["mrb", "mrml", "transformed.mrb"])
def test_save_clear_reopen_and_drag_again(application, tmp_path, ending):
    volume = film_volume("film é")
    if ending == "transformed.mrb":
        volume.SetAndObserveTransformNodeID(nonlinear_transform("vtkMRMLGridTransformNode").GetID())
    work = begin(volume)
    view = SliceView(application, volume)
    first = read_positions(work.node, work.placement)
    drag(view, work, 0)
    drag(view, work, 12, shift=(-15, 20))
    saved = work.session.landmarks
    path = tmp_path / f"scène.{ending}"
    if ending == "mrml":
        for node, name in ((volume, "film.nrrd"), (work.node, "points.mrk.json"), (regions(work.node), "regions.vtk")):
            assert slicer.util.saveNode(node, str(tmp_path / name))
    assert slicer.util.saveScene(str(path))
    view.close()

    work = reopen(application, path)
    assert np.array_equal(work.session.landmarks.positions, saved.positions)
    assert work.session.landmarks.statuses == saved.statuses
    assert work.session.landmarks.sources == saved.sources
    assert work.session.pinned == {"T0", "F3"}
    assert np.allclose(read_positions(work.node, work.placement), saved.positions, atol=1e-5)
    assert not work.session.can_redo

    view = SliceView(application, slicer.util.getNode("film é"))
    before = drag(view, work, 5, shift=(10, 12))
    after = read_positions(work.node, work.placement)
    assert moved(before, after)[5] > 2.0
    assert (moved(before, after) > 0.02).sum() >= 6
    assert np.allclose(after[[0, 12]], saved.positions[[0, 12]], atol=1e-9)
    for _ in range(3):
        assert work.tracker.undo()
    assert np.allclose(read_positions(work.node, work.placement), first, atol=1e-9)
    assert not work.errors


def regions(node):
    return node.GetNodeReference("LandmarkDetection.regions")


def test_regions_are_found_again_and_not_drawn_twice(application, work, tmp_path):
    work.tracker.show(work.session.move("T0", np.array([60.0, 120.0])))
    update_heatmap(work.node, work.detection.heatmaps, 0, work.detection.landmarks.frame, work.placement)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    work = reopen(application, tmp_path / "scene.mrb")
    work.tracker.show(work.session.move("T1", np.array([70.0, 120.0])))
    models = [n for n in slicer.util.getNodesByClass("vtkMRMLModelNode") if "region" in n.GetName()]
    assert models == [regions(work.node)]
    # The heatmap is not kept with the scene: it is large and can be made again.
    assert not [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "heatmap" in n.GetName()]


def test_two_detections_in_one_scene_keep_apart(application, tmp_path):
    left, right = begin(film_volume("a")), begin(film_volume("b"))
    left.node.SetNthControlPointPosition(0, -60.0, -120.0, 0.0)
    right.node.SetNthControlPointPosition(1, -70.0, -120.0, 0.0)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert {n.GetName(): restore_session(n).pinned for n in find_results()} == {
        "a landmarks": {"T0"},
        "b landmarks": {"T1"},
    }


def test_lost_volume_is_said_in_one_sentence(application, work):
    work.tracker.stop()
    application.scene.RemoveNode(work.volume)
    with pytest.raises(LandmarkDetectionError, match="is no longer in the scene; load it again"):
        restore_session(work.node)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 99}', "null"])
def test_damaged_work_is_refused_in_one_sentence(work, text):
    work.tracker.stop()
    work.node.SetAttribute(SESSION_ATTRIBUTE, text)
    with pytest.raises(LandmarkDetectionError, match="detect"):
        restore_session(work.node)


def test_other_markups_are_left_alone(application, work):
    other = application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "mine")
    assert not has_session(other)
    assert find_results() == [work.node]
    with pytest.raises(LandmarkDetectionError, match="'mine' was not made by Landmark Detection"):
        restore_session(other)
