"""From volume nodes to images: every orientation, color, transforms, and the spacing that may be believed."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from LandmarkDetectionLib.errors import ImageError
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.mrml.volumes import cache_key, is_film, placement_of, volume_image
from mrml.scenes import film_pixels, film_volume
from PIL import Image as Picture
from vtk.util.numpy_support import vtk_to_numpy

LPS = np.array([-1.0, -1.0, 1.0])
ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((1.0, -1.0), repeat=3)]


def oriented_matrix(order, flips) -> np.ndarray:
    """IJK-to-RAS: axis k of the voxels runs along RAS axis order[k], with a spacing of its own."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, list(order)] * np.array(flips) * (1.0, 1.5, 2.5)
    matrix[:3, 3] = (11.0, -7.0, 5.0)
    return matrix


def ras_of(matrix: np.ndarray, ijk) -> np.ndarray:
    return matrix[:3, :3] @ np.asarray(ijk) + matrix[:3, 3]


def rotation(degrees: float, axis: int) -> np.ndarray:
    transform = vtk.vtkTransform()
    (transform.RotateX, transform.RotateY, transform.RotateZ)[axis](degrees)
    transform.Translate(20, -5, 3)
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())


def put_under(node, matrix: np.ndarray):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_there_are_48_orientations():
    assert len(ORIENTATIONS) == 48


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_volume_of_any_orientation_is_turned_and_keeps_its_points(application, order, flips):
    random = np.random.default_rng(1)
    array = random.integers(0, 1000, (36, 33, 40)).astype(np.int16)
    matrix = oriented_matrix(order, flips)
    volume = slicer.util.addVolumeFromArray(array, matrix, "volume")
    taken = volume_image(volume)
    assert np.allclose(taken.image.frame.direction(), np.eye(3), atol=1e-12)
    for i, j, k in random.integers(0, (40, 33, 36), (20, 3)):
        ras = ras_of(matrix, (i, j, k))
        index = taken.placement.to_index(ras)
        assert np.allclose(index, np.round(index), atol=1e-9)
        x, y, z = np.round(index).astype(int)
        assert taken.image.array[z, y, x] == array[k, j, i]
        assert np.allclose(taken.placement.to_local((x, y, z)), ras, atol=1e-9)
    assert np.allclose(placement_of(volume).frame.steps, taken.placement.frame.steps)


def test_oblique_volume_is_turned_to_its_nearest_axes(application):
    matrix = oriented_matrix((1, 2, 0), (1, -1, 1))
    matrix[:3, :3] = rotation(20, 2)[:3, :3] @ matrix[:3, :3]
    array = np.random.default_rng(2).normal(size=(36, 33, 40))
    taken = volume_image(slicer.util.addVolumeFromArray(array, matrix, "oblique"))
    directions = taken.image.frame.direction()
    assert (np.diag(directions) > 0.9).all()
    x, y, z = np.round(taken.placement.to_index(ras_of(matrix, (5, 7, 9)))).astype(int)
    assert taken.image.array[z, y, x] == np.float32(array[9, 7, 5])


def test_volume_is_turned_by_its_parent_transform_but_its_points_stay_in_its_own_space(application):
    array = np.random.default_rng(3).normal(size=(36, 33, 40)).astype(np.float32)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = slicer.util.addVolumeFromArray(array, matrix, "turned")
    put_under(volume, rotation(90, 2))
    taken = volume_image(volume)
    assert taken.image.frame.size == (33, 40, 36)
    assert placement_of(volume).frame == taken.placement.frame
    index = taken.placement.to_index(ras_of(matrix, (5, 7, 9)))
    x, y, z = np.round(index).astype(int)
    assert taken.image.array[z, y, x] == array[9, 7, 5]


def nonlinear_transform(kind: str):
    """A transform that pushes the middle of a large grid by up to 7 mm; a film stays in its plane."""
    node = slicer.mrmlScene.AddNewNodeByClass(kind)
    grid = vtk.vtkImageData()
    grid.SetDimensions(9, 9, 9)
    grid.SetSpacing(60, 60, 60)
    grid.SetOrigin(-352, -352, -240)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    values = vtk_to_numpy(grid.GetPointData().GetScalars())
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij")
    bump = np.exp(-3 * (x**2 + y**2 + z**2)).ravel()
    values[:] = bump[:, None] * (6.0, -4.0, 0.0)
    if kind == "vtkMRMLGridTransformNode":
        transform = slicer.vtkOrientedGridTransform()
        transform.SetDisplacementGridData(grid)
    else:
        transform = slicer.vtkOrientedBSplineTransform()
        transform.SetCoefficientData(grid)
    node.SetAndObserveTransformToParent(transform)
    return node


def test_film_keeps_its_pixels_as_stored(application, film):
    taken = volume_image(film)
    assert is_film(film)
    assert np.array_equal(taken.image.array, film_pixels())
    assert np.allclose(taken.placement.to_local([(0, 0), (10, 20)]), [(0, 0, 0), (-10, -20, 0)])
    assert np.allclose(taken.placement.to_index([(-10, -20, 33)]), [(10, 20)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_film_may_lie_along_any_two_axes(application, axis):
    pixels = film_pixels((64, 50))
    array = np.expand_dims(pixels, 2 - axis)
    taken = volume_image(slicer.util.addVolumeFromArray(array, np.diag([-1.0, -1.0, 1.0, 1.0]), "plane"))
    assert np.array_equal(taken.image.array, pixels)
    last = [63, 49]
    last.insert(axis, 0)
    assert np.allclose(taken.placement.to_local((63, 49)), np.array(last) * LPS)


def test_vector_volume_becomes_luminance(application):
    color = np.random.default_rng(5).integers(0, 256, (1, 48, 40, 3)).astype(np.uint8)
    volume = slicer.util.addVolumeFromArray(color, np.diag([-1.0, -1.0, 1.0, 1.0]), "color", "vtkMRMLVectorVolumeNode")
    gray = np.rint(color[0] @ np.array([0.299, 0.587, 0.114]))
    assert np.array_equal(volume_image(volume).image.array, gray)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_picture_in_the_scene_is_the_picture_of_the_file(application, tmp_path, mode):
    path = tmp_path / "knee é.png"
    pixels = film_pixels()
    if mode == "I;16":
        Picture.fromarray(pixels.astype(np.uint16) * 200).save(path)
    else:
        Picture.fromarray(pixels).convert(mode).save(path)
    taken = volume_image(slicer.util.loadVolume(str(path)))
    from_file = read_image(path)
    assert np.array_equal(taken.image.array, from_file.array)
    assert taken.image.frame == from_file.frame
    assert taken.image.name == from_file.name
    assert taken.image.notes == from_file.notes
    assert taken.image.frame.spacing_source == "unknown"


def test_print_resolution_of_a_jpg_is_no_spacing(application, tmp_path):
    path = tmp_path / "film.jpg"
    Picture.fromarray(film_pixels()).save(path, dpi=(72, 72))
    volume = slicer.util.loadVolume(str(path))
    taken = volume_image(volume)
    assert volume.GetSpacing()[0] == pytest.approx(25.4 / 72)
    assert taken.image.frame == read_image(path).frame
    assert not taken.image.frame.has_millimetres


def test_given_spacing_does_not_move_the_film(application, film):
    taken = volume_image(film, spacing=0.15)
    assert taken.image.frame.spacing_source == "given"
    assert np.allclose(taken.image.frame.spacing, 0.15)
    assert np.allclose(taken.placement.to_local((10, 20)), (-10, -20, 0))


def test_film_spacing_that_is_not_one_is_believed(application):
    volume = film_volume(matrix=np.diag([-0.2, -0.3, 1.0, 1.0]))
    frame = volume_image(volume).image.frame
    assert frame.spacing_source == "calibrated"
    assert np.allclose(frame.spacing, (0.2, 0.3))


def test_spacing_source_of_a_film_survives_the_scene(application, film, tmp_path):
    film.SetSpacing(0.2, 0.2, 1.0)
    film.SetAttribute("LandmarkDetection.spacingSource", "detector")
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert volume_image(slicer.util.getNode("film.png")).image.frame.spacing_source == "detector"


@pytest.mark.parametrize("name", ["RG1_J2KI", "RG3_J2KR", "CT_small", "MR_small"])
def test_dicom_in_the_scene_is_the_dicom_of_the_file(application, landmark_data, name):
    path = landmark_data / "dicom" / f"{name}.dcm"
    taken = volume_image(slicer.util.loadVolume(str(path)))
    from_file = read_image(path)
    assert np.array_equal(taken.image.array, from_file.array)
    assert taken.image.frame.spacing_source == from_file.frame.spacing_source
    assert np.allclose(taken.image.frame.spacing, from_file.frame.spacing)
    assert np.allclose(taken.placement.to_local((3, 5)), from_file.frame.to_physical((3, 5)) * LPS, atol=1e-4)


def test_cache_key_follows_voxels_geometry_and_transform(application, film):
    keys = [cache_key(film)]
    assert cache_key(film) == keys[0]
    slicer.util.arrayFromVolume(film)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(film)
    keys.append(cache_key(film))
    film.SetOrigin(1, 2, 3)
    keys.append(cache_key(film))
    transform = put_under(film, rotation(10, 0))
    keys.append(cache_key(film))
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rotation(11, 0)))
    keys.append(cache_key(film))
    assert len(set(keys)) == len(keys)


def test_bad_volumes_are_refused_in_one_sentence(application):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(ImageError, match="'empty' holds no image"):
        volume_image(empty)
    with pytest.raises(ImageError, match="Choose an image first"):
        volume_image(None)
    flat = slicer.util.addVolumeFromArray(np.full((1, 64, 64), 7.0), np.eye(4), "flat")
    with pytest.raises(ImageError, match="'flat' has the same value"):
        volume_image(flat)
    holes = slicer.util.addVolumeFromArray(np.where(np.eye(64)[None] > 0, np.nan, 1.0), np.eye(4), "holes")
    with pytest.raises(ImageError, match="NaN"):
        volume_image(holes)
    tiny = slicer.util.addVolumeFromArray(np.arange(256.0).reshape(1, 16, 16), np.eye(4), "tiny")
    with pytest.raises(ImageError, match="'tiny' is too small"):
        volume_image(tiny)
    line = slicer.util.addVolumeFromArray(np.arange(64.0).reshape(1, 1, 64), np.eye(4), "line")
    with pytest.raises(ImageError, match="'line' has"):
        volume_image(line)
    labels = slicer.util.addVolumeFromArray(
        np.eye(64, dtype=np.uint8)[None], np.eye(4), "labels", "vtkMRMLLabelMapVolumeNode"
    )
    with pytest.raises(ImageError, match="'labels' is a label map"):
        volume_image(labels)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_given_spacing_is_refused(application, film, spacing):
    with pytest.raises(ImageError, match="positive number"):
        volume_image(film, spacing=spacing)
