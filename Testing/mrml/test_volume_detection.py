"""A spine of 154 points and a knee of 15 in real views of volumes: ellipsoids, names, drags, saving.

The detections are drawn from the truth of the phantoms, with covariances of a few millimeters.
"""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from LandmarkDetectionLib.mrml.display import HEATMAP_ROLE, REGIONS_ROLE, REVIEW
from LandmarkDetectionLib.mrml.following import FOLLOWING
from LandmarkDetectionLib.mrml.markups import HASH_ATTRIBUTE, MODEL_ATTRIBUTE, VERSION_ATTRIBUTE
from LandmarkDetectionLib.mrml.names import NAMES_ROLE
from LandmarkDetectionLib.mrml.parameters import find_results, restore_session
from mrml.test_display import close_to, region_points
from mrml.test_volumes import put_under, rotation
from mrml.volume_scenes import LPS, add_volume, follow_truth, knee_phantom, spine_phantom, world_points
from slicer_host import SliceView, ThreeDView

SLICES = (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))


@pytest.fixture(autouse=True)
def following():
    """The list of followed detections, empty again afterwards."""
    yield
    FOLLOWING.end_all()


@pytest.fixture
def knee(application):
    """A knee under a parent transform, followed; returns its markups node."""
    volume = add_volume(knee_phantom(), "knee")
    put_under(volume, rotation(12, 2))
    return follow_truth(volume, "knee")


@pytest.fixture
def spine(application):
    """A lumbar spine, followed; returns its markups node."""
    return follow_truth(add_volume(spine_phantom(), "spine"), "spine")


def session_of(node):
    return FOLLOWING.tracker(node).session


def row(node, name: str) -> int:
    return session_of(node).landmarks.schema.index(name)


def volume_of(node):
    return node.GetNodeReference("LandmarkDetection.inputVolume")


def slice_at(application, node, name: str, view: str, orientation: str) -> SliceView:
    """A slice view of the volume through a landmark."""
    window = SliceView(application, volume_of(node), view, orientation, rotate_to_volume=False)
    window.node.JumpSliceByCentering(*world_points(node)[row(node, name)])
    return window


def three_d(application, node, name: str, direction=(-0.6, 0.7, -0.2)) -> ThreeDView:
    """A 3-D view that looks at a landmark."""
    view = ThreeDView(application)
    view.look_at(world_points(node)[row(node, name)], direction, distance=350.0)
    return view


def test_points_are_at_the_true_places_of_the_phantom(application):
    for phantom, anatomy in ((spine_phantom(), "spine"), (knee_phantom(), "knee")):
        node = follow_truth(add_volume(phantom, anatomy), anatomy)
        apart = world_points(node) - phantom.physical() * LPS
        assert np.array_equal(np.isnan(apart), np.isnan(phantom.physical()))
        assert np.nanmax(np.abs(apart)) < 1e-6
        absent = [node.GetNthControlPointPositionStatus(k) == node.PositionMissing for k in range(len(apart))]
        assert absent == np.isnan(apart).any(axis=1).tolist()
    assert np.isfinite(apart).all() and np.isnan(world_points(find_results()[0])).any()


@pytest.mark.parametrize(("view", "orientation"), SLICES)
def test_ellipsoids_are_cut_by_every_slice_view(application, knee, view, orientation):
    """What is drawn is where the plane cuts the region of 95 %, and nowhere else."""
    window = slice_at(application, knee, "TT", view, orientation)
    knee.SetDisplayVisibility(False)
    model = knee.GetNodeReference(REGIONS_ROLE)
    FOLLOWING.tracker(knee).review_above(1e-9)  # all of them red, a color that no bone has
    red = close_to(window.pixels(), REVIEW)
    assert red.sum() > 40
    rows, columns = np.nonzero(red)
    xy_to_ras = slicer.util.arrayFromVTKMatrix(window.node.GetXYToRAS())
    pixels = np.stack([columns, window.size[1] - 1 - rows, 0 * rows, 0 * rows + 1], axis=-1)
    landmarks = session_of(knee).landmarks
    apart = landmarks.frame.to_index((pixels @ xy_to_ras.T)[:, :3] * LPS)[:, None] - landmarks.positions
    distance = np.sqrt(np.einsum("pni,nij,pnj->pn", apart, np.linalg.inv(landmarks.covariances), apart))
    assert np.abs(distance - 2.795).min(axis=1).max() < 0.6  # chi-square with three degrees of freedom, 95 %
    model.GetDisplayNode().SetVisibility(False)
    assert not close_to(window.pixels(), REVIEW).any()


def test_ellipsoids_are_seen_in_3d_and_do_not_hide_their_points(application, knee):
    view = three_d(application, knee, "FN")
    with_all = view.pixels()
    model = knee.GetNodeReference(REGIONS_ROLE)
    model.GetDisplayNode().SetVisibility(False)
    points_only = view.pixels()
    assert (with_all != points_only).any(axis=-1).sum() > 500
    knee.SetDisplayVisibility(False)
    empty = view.pixels()
    model.GetDisplayNode().SetVisibility(True)
    # Where the point was drawn, showing it makes a difference although its ellipsoid lies around it.
    glyphs = (points_only != empty).any(axis=-1)
    seen = (view.pixels() != with_all).any(axis=-1)
    assert (glyphs & seen).sum() > 0.5 * glyphs.sum()


def test_one_model_for_all_ellipsoids_updated_in_place(knee):
    model = knee.GetNodeReference(REGIONS_ROLE)
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLModelNode")
    before = region_points(model).copy()
    knee.SetNthControlPointPositionWorld(3, *(world_points(knee)[3] + (2.0, 1.0, -2.0)))
    assert knee.GetNodeReference(REGIONS_ROLE) is model
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLModelNode") == count
    assert len(region_points(model)) == len(before) * 14 // 15  # what the user placed has no region
    assert model.GetTransformNodeID() == knee.GetTransformNodeID() is not None


@pytest.mark.parametrize("kind", ["slice", "3-D"])
def test_a_drag_moves_the_others_and_their_ellipsoids(application, knee, kind):
    name = "TMP"
    if kind == "slice":
        view = slice_at(application, knee, name, "Green", "Coronal")
    else:
        view = three_d(application, knee, name)
    before, regions = world_points(knee), knee.GetNodeReference(REGIONS_ROLE)
    drawn = region_points(regions).copy()
    start = view.pixel(before[row(knee, name)])
    view.press(start)
    view.move(start, start + (14, -9), steps=4)
    live = region_points(regions).copy()
    assert live.shape != drawn.shape and session_of(knee).pinned == frozenset()  # moved, and not released yet
    view.release(start + (14, -9))
    after = world_points(knee)
    assert session_of(knee).pinned == {name}
    moved = np.linalg.norm(after - before, axis=1)
    assert moved[row(knee, name)] > 2.0
    assert (np.delete(moved, row(knee, name)) > 0.05).sum() > 5
    tracker = FOLLOWING.tracker(knee)
    others = np.delete(np.arange(15), row(knee, name))
    centers = region_points(regions).reshape(14, -1, 3).mean(axis=1)
    expected = tracker.placement.to_local(session_of(knee).landmarks.positions[others])
    assert np.abs(centers - expected).max() < 0.05
    assert tracker.undo() and np.allclose(world_points(knee), before, atol=1e-9)


def test_154_points_are_drawn_with_one_name_for_each_vertebra_in_view(application, spine):
    assert not spine.GetDisplayNode().GetPointLabelsVisibility()
    names, landmarks = spine.GetNodeReference(NAMES_ROLE), session_of(spine).landmarks
    shown = [
        names.GetNthControlPointLabel(k)
        for k in range(names.GetNumberOfControlPoints())
        if names.GetNthControlPointPositionStatus(k) == names.PositionDefined
    ]
    present = np.isfinite(landmarks.positions).all(axis=1)
    levels = list(dict.fromkeys(name.split("_")[0] for name in np.array(landmarks.schema.ids)[present]))
    assert shown == levels and 5 <= len(levels) <= 8
    view = slice_at(application, spine, "L3_C", "Yellow", "Sagittal")
    with_names = view.pixels()
    names.SetDisplayVisibility(False)
    assert (view.pixels() != with_names).any(axis=-1).sum() > 10


def test_a_vertebra_is_named_behind_it_in_its_own_plane(spine):
    names, points = world_points(spine.GetNodeReference(NAMES_ROLE)), world_points(spine)
    group = points[[k for k, name in enumerate(session_of(spine).landmarks.schema.ids) if name.startswith("L3_")]]
    name = names[[level[0].split("_")[0] for level in session_of(spine).landmarks.schema.levels].index("L3")]
    assert 3.0 < group[:, 1].min() - name[1] < 25.0  # posterior is negative A
    assert abs(name[0] - group[:, 0].mean()) < 2.0 and abs(name[2] - group[:, 2].mean()) < 2.0


def test_a_selected_landmark_is_named_at_its_own_slices(application, spine):
    FOLLOWING.highlight(spine, "L2_SA")
    names = spine.GetNodeReference(NAMES_ROLE)
    last = names.GetNumberOfControlPoints() - 1
    assert names.GetNthControlPointLabel(last) == "L2_SA"
    apart = world_points(names)[last] - world_points(spine)[row(spine, "L2_SA")]
    assert np.allclose(apart[[0, 2]], 0.0, atol=1.0) and -20 < apart[1] < -1


@pytest.mark.parametrize("name", ["L2_IP", "L4_C"])
def test_a_heatmap_of_its_own_grid_lies_over_its_landmark(application, spine, name):
    """Each landmark has a window of its own; the brightest cells are where the point is."""
    FOLLOWING.show_heatmap(spine, name)
    heat = spine.GetNodeReference(HEATMAP_ROLE)
    values = slicer.util.arrayFromVolume(heat)
    k, j, i = (np.argwhere(values > 0.9).mean(axis=0)).tolist()
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    heat.GetIJKToRASMatrix(matrix)
    place = matrix.MultiplyPoint((i, j, k, 1.0))[:3]
    assert np.linalg.norm(place - world_points(spine)[row(spine, name)]) < 0.1
    assert np.allclose(heat.GetSpacing(), 1.5)
    FOLLOWING.show_heatmap(spine, None)
    assert spine.GetNodeReference(HEATMAP_ROLE) is None


def test_labels_of_a_spine_shift_in_the_scene_and_undo(spine):
    tracker, before = FOLLOWING.tracker(spine), world_points(spine)
    tracker.show(session_of(spine).shift_levels(-1))
    after = world_points(spine)
    assert np.allclose(after[row(spine, "L3_C")], before[row(spine, "L2_C")], atol=1e-9)
    assert np.allclose(after[row(spine, "L3_IP")], before[row(spine, "L2_IP")], atol=1e-9)
    labels = [spine.GetNthControlPointLabel(k) for k in range(154)]
    assert labels == list(session_of(spine).landmarks.schema.ids)
    assert tracker.undo()
    assert np.allclose(world_points(spine), before, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("anatomy", ["spine", "knee"])
def test_a_saved_scene_goes_on_in_3d(application, request, anatomy, tmp_path):
    node = request.getfixturevalue(anatomy)
    name, other = ("L3_SA", "L4_IP") if anatomy == "spine" else ("FLC", "TT")
    node.SetNthControlPointPositionWorld(row(node, name), *(world_points(node)[row(node, name)] + (1.0, 2.0, -1.5)))
    saved, points = session_of(node).landmarks, world_points(node)
    provenance = [node.GetAttribute(key) for key in (MODEL_ATTRIBUTE, VERSION_ATTRIBUTE, HASH_ATTRIBUTE)]
    slicer.util.saveScene(str(tmp_path / "scène.mrb"))
    FOLLOWING.end_all()
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scène.mrb"))

    (again,) = find_results()
    session = session_of(again)
    assert session.pinned == {name} and session.can_undo and not session.can_redo
    assert np.array_equal(session.landmarks.positions, saved.positions, equal_nan=True)
    assert session.landmarks.statuses == saved.statuses and session.landmarks.sources == saved.sources
    assert [again.GetAttribute(key) for key in (MODEL_ATTRIBUTE, VERSION_ATTRIBUTE, HASH_ATTRIBUTE)] == provenance
    assert np.allclose(world_points(again), points, atol=1e-4, equal_nan=True)
    assert restore_session(again).detection.prior.mean.shape == (len(saved.positions), 3)
    view = slice_at(application, again, other, "Yellow", "Sagittal")
    start = view.pixel(world_points(again)[row(again, other)])
    view.drag(start, start + (9, 6))
    assert session.pinned == {name, other}
    assert np.allclose(world_points(again)[row(again, name)], points[row(again, name)], atol=1e-4)
    tracker = FOLLOWING.tracker(again)
    assert tracker.undo() and tracker.undo() and not tracker.undo()
    assert again.GetNodeReference(REGIONS_ROLE) is not None


def test_heatmaps_of_the_same_image_can_be_handed_in_after_reopening(application, knee, tmp_path):
    heatmaps = session_of(knee).detection.heatmaps
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    FOLLOWING.end_all()
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (again,) = find_results()
    assert FOLLOWING.heatmaps(again) is None
    FOLLOWING.attach_heatmaps(again, heatmaps)
    FOLLOWING.show_heatmap(again, "FLC")
    assert again.GetNodeReference(HEATMAP_ROLE).GetTransformNodeID() == again.GetTransformNodeID()
