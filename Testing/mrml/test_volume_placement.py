"""Volumes of any orientation under any linear transform: the image lies in the world, and points come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from LandmarkDetectionLib.errors import ImageError, LandmarkDetectionError
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.mrml.following import FOLLOWING
from LandmarkDetectionLib.mrml.markups import AXES_ATTRIBUTE, create_markups, read_positions
from LandmarkDetectionLib.mrml.parameters import find_results, restore_placement, restore_session
from LandmarkDetectionLib.mrml.volumes import placement_of, volume_image
from mrml.scenes import film_volume, track
from mrml.test_volumes import ORIENTATIONS, nonlinear_transform, oriented_matrix, put_under, rotation
from mrml.volume_scenes import LPS, detection_at, world_points

SIZE = (14, 12, 16)
"""(i, j, k)"""


def shear() -> np.ndarray:
    """The correction of a tilted gantry: slices slide along A as S grows, and the couch moves in its own steps."""
    matrix = np.diag([1.0, 1.0, 0.8, 1.0])
    matrix[1, 2] = np.tan(np.radians(17.0))
    matrix[:3, 3] = (4.0, 30.0, -12.0)
    return matrix


PARENTS = {
    "none": (),
    "turned by 90 degrees": (rotation(90, 2),),
    "gantry": (shear(),),
    "oblique in a moved one": (rotation(23, 0) @ rotation(-31, 1), rotation(0, 0), rotation(90, 1)),
}
"""Matrices from the volume's own transform to the outermost one."""


def nest(volume, matrices) -> np.ndarray:
    """Put a volume under nested transforms; returns the whole way to the world (4, 4)."""
    node, whole = volume, np.eye(4)
    for matrix in matrices:
        node, whole = put_under(node, matrix), matrix @ whole
    return whole


def numbered_volume(matrix: np.ndarray, name: str = "box"):
    """A volume each of whose voxels has a value of its own."""
    array = np.arange(np.prod(SIZE), dtype=np.int32).reshape(SIZE[::-1])
    return slicer.util.addVolumeFromArray(array, matrix, name), array


def check_world(volume, array: np.ndarray, matrix: np.ndarray) -> None:
    """Voxels lie where the world shows them, and points that are found there come back there.

    Args:
        matrix: (4, 4) from stored index to world RAS.
    """
    taken = volume_image(volume)
    frame = taken.image.frame
    random = np.random.default_rng(7)
    ijk = random.integers(0, SIZE, (15, 3))
    world = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    index = frame.to_index(world * LPS)
    assert np.allclose(index, np.rint(index), atol=1e-9)
    x, y, z = np.rint(index).astype(int).T
    assert np.array_equal(taken.image.array[z, y, x], array[ijk[:, 2], ijk[:, 1], ijk[:, 0]])
    assert np.abs(frame.to_physical(index) * LPS - world).max() < 1e-6
    # Points anywhere between the voxels, and outside of them.
    world = (random.uniform(-3, np.array(SIZE) + 3, (15, 3)) @ matrix[:3, :3].T) + matrix[:3, 3]
    node = create_markups(volume, detection_at(frame, world * LPS), taken.placement)
    assert np.abs(world_points(node) - world).max() < 1e-6
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    back = frame.to_physical(read_positions(node, restore_placement(node))) * LPS
    assert np.abs(back - world).max() < 1e-6


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_any_axis_order_under_any_linear_transform(application, order, flips):
    for name, matrices in PARENTS.items():
        volume, array = numbered_volume(oriented_matrix(order, flips), name)
        whole = nest(volume, matrices) @ oriented_matrix(order, flips)
        check_world(volume, array, whole)
        steps = volume_image(volume).image.frame.direction()
        nearest = np.abs(steps).argmax(axis=0)
        assert name == "oblique in a moved one" or (nearest == range(3)).all()
        assert np.trace(steps) > 1.6  # L, P, S as nearly as voxels can run there: no axis order gives more


@pytest.mark.parametrize("name", PARENTS)
def test_oblique_anisotropic_and_tilted_volumes(application, name):
    for matrix in (rotation(20, 2) @ oriented_matrix((1, 2, 0), (1, -1, 1)), shear() @ np.diag([-0.7, -0.7, 5.0, 1.0])):
        volume, array = numbered_volume(matrix)
        check_world(volume, array, nest(volume, PARENTS[name]) @ matrix)


def test_a_mirrored_world_is_seen_mirrored(application):
    """A transform may mirror: what the world shows as left is then left, whatever the file said."""
    volume, array = numbered_volume(np.diag([-1.0, -1.0, 2.0, 1.0]))
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    check_world(volume, array, nest(volume, (mirror,)) @ np.diag([-1.0, -1.0, 2.0, 1.0]))
    assert np.array_equal(volume_image(volume).image.array, array[:, :, ::-1])


@pytest.mark.parametrize("kind", ["vtkMRMLGridTransformNode", "vtkMRMLBSplineTransformNode"])
def test_a_nonlinear_transform_is_refused_with_what_to_do(application, kind):
    volume, _ = numbered_volume(np.eye(4), "bent")
    warp = nonlinear_transform(kind)
    inner = put_under(volume, rotation(10, 0))
    inner.SetAndObserveTransformNodeID(warp.GetID())  # also when it is not the nearest one
    sentence = "'bent' lies under a non-linear transform; harden the transform on it and apply again."
    with pytest.raises(ImageError) as refused:
        volume_image(volume)
    assert str(refused.value) == sentence
    volume.HardenTransform()
    assert volume_image(volume).image.dims == 3


def test_a_film_needs_no_place_in_the_world(application):
    """Its frame stays its own, as before, also where nothing linear leads to the world."""
    film = film_volume()
    before = volume_image(film).image.frame
    nest(film, (rotation(30, 1),))
    assert volume_image(film).image.frame == before
    film.SetAndObserveTransformNodeID(nonlinear_transform("vtkMRMLGridTransformNode").GetID())
    assert volume_image(film).image.frame == before


@pytest.fixture
def work(application):
    """A detection in a volume, under a tracker."""
    volume, _ = numbered_volume(np.diag([-1.0, -1.0, 2.0, 1.0]))
    taken = volume_image(volume)
    lps = taken.image.frame.to_physical(np.random.default_rng(3).uniform(2, 10, (15, 3)))
    detection = detection_at(taken.image.frame, lps)
    node = create_markups(volume, detection, taken.placement)
    yield track(node, Session(detection))
    FOLLOWING.end_all()


@pytest.mark.parametrize("degrees", [90, 180, 40])
def test_points_stay_on_the_anatomy_when_the_volume_is_turned_later(work, degrees):
    """A quarter turn makes other axes run nearest to L, P and S; what was found is still counted along the old ones."""
    volume, before = work.tracker.volume, world_points(work.node)
    indices = work.session.landmarks.positions.copy()
    matrix = rotation(degrees, 0)
    nest(volume, (matrix,))
    expected = before @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(world_points(work.node) - expected).max() < 1e-6
    assert np.allclose(read_positions(work.node, work.tracker.placement), indices, atol=1e-9)
    wanted = work.node.GetNthControlPointPositionWorld(4) + np.array([0.0, 1.0, 0.5])
    work.node.SetNthControlPointPositionWorld(4, *wanted)
    assert work.session.pinned == {work.session.landmarks.schema.ids[4]}
    assert np.allclose(world_points(work.node)[4], wanted, atol=1e-6)
    volume.HardenTransform()
    assert work.node.GetTransformNodeID() is None
    assert np.allclose(world_points(work.node)[4], wanted, atol=1e-6)
    work.tracker.undo()
    assert np.abs(world_points(work.node) - expected).max() < 1e-6
    assert not work.errors


def test_a_scene_saved_after_a_turn_opens_with_the_points_in_place(application, work, tmp_path):
    from LandmarkDetectionLib.mrml.parameters import save_session

    nest(work.tracker.volume, (rotation(90, 1),))
    save_session(work.node, work.session)
    before = world_points(work.node)
    slicer.util.saveScene(str(tmp_path / "turned.mrb"))
    work.tracker.stop()
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "turned.mrb"))
    (node,) = find_results()
    again = track(node, restore_session(node))
    again.tracker.show(again.session.landmarks)
    assert np.abs(world_points(node) - before).max() < 1e-6
    node.SetAttribute(AXES_ATTRIBUTE, "1 1 3")
    with pytest.raises(LandmarkDetectionError, match="orientation saved with .* is damaged"):
        restore_placement(node)


def test_the_same_image_can_be_taken_again_after_a_turn(work):
    volume = work.tracker.volume
    first = volume_image(volume)
    nest(volume, (rotation(90, 2),))
    again = volume_image(volume, axes=first.placement.axes, frame=first.image.frame)
    assert np.array_equal(again.image.array, first.image.array) and again.image.frame == first.image.frame
    assert volume_image(volume).image.frame != first.image.frame
    assert placement_of(volume, first.placement.axes).frame == first.placement.frame
