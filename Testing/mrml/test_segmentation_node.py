"""The bones as a segmentation node: in the place of the volume, made once, saved with the scene."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.segmentation import LABELS, segment
from LandmarkDetectionLib.mrml.following import FOLLOWING
from LandmarkDetectionLib.mrml.markups import create_markups
from LandmarkDetectionLib.mrml.parameters import find_results
from LandmarkDetectionLib.mrml.segmentation import (
    BONES_ATTRIBUTE,
    REPRESENTATION,
    find_segmentation,
    segment_bones,
    update_segmentation,
)
from LandmarkDetectionLib.mrml.volumes import volume_image


@pytest.fixture(scope="module")
def detector():
    return Detector(find_bundle("knee-ap-radiograph"), "cpu")


@pytest.fixture
def volume(application, repository):
    return slicer.util.loadVolume(str(repository / "Resources" / "Samples" / "knee-right.dcm"))


@pytest.fixture
def detected(volume, detector):
    """The markups node of a detection that is being followed."""
    from LandmarkDetectionLib.inference.session import Session

    taken = volume_image(volume)
    detection = detector.detect(taken.image)
    node = create_markups(volume, detection, taken.placement)
    FOLLOWING.begin(node, Session(detection))
    yield node
    FOLLOWING.end_all()


def labelmap(node, bone: str) -> np.ndarray:
    """Labels (k, j, i) that a segment is stored in."""
    return slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, bone)


def geometry(image) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def nodes() -> list:
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_bones_lie_on_the_voxels_of_the_volume(volume, detected):
    node, found = segment_bones(detected)
    segmentation = node.GetSegmentation()
    assert node.GetName() == f"{volume.GetName()} bones"
    assert [segmentation.GetNthSegment(k).GetName() for k in range(2)] == ["Femur", "Tibia"]
    assert node.GetAttribute(BONES_ATTRIBUTE) == found.model
    np.testing.assert_array_equal(labelmap(node, "femur").squeeze(), found.labels)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image = segmentation.GetSegment("tibia").GetRepresentation(REPRESENTATION)
    np.testing.assert_allclose(geometry(image), slicer.util.arrayFromVTKMatrix(matrix), atol=1e-9)
    for bone, value in LABELS.items():
        assert segmentation.GetSegment(bone).GetLabelValue() == value
    entry = vtk.reference("")
    assert segmentation.GetSegment("femur").GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    assert "Femur" in str(entry)
    reference = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(reference) is volume


def test_second_request_updates_the_same_node_and_keeps_what_was_added(volume, detected, detector):
    node, before = segment_bones(detected)
    own = slicer.vtkSegment()
    own.SetName("Patella")
    own.AddRepresentation(REPRESENTATION, slicer.vtkOrientedImageData())
    node.GetSegmentation().AddSegment(own, "patella")
    position = np.array(detected.GetNthControlPointPosition(2))
    detected.SetNthControlPointPosition(2, *(position + [0.0, 40.0, 0.0]))
    again, after = segment_bones(detected)
    assert again is node and len(nodes()) == 1
    assert node.GetSegmentation().GetNumberOfSegments() == 3
    row = after.distances.argmax()
    assert before.distances[2] < after.distances[2] and row == 2
    np.testing.assert_array_equal(labelmap(node, "tibia").squeeze(), after.labels)
    assert "T2" in after.flagged and "T2 (" in after.notes[-1]


def test_bones_follow_the_transform_of_the_volume(volume, detected):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node, _ = segment_bones(detected)
    assert node.GetParentTransformNode() is transform
    volume.SetAndObserveTransformNodeID(None)
    assert segment_bones(detected)[0].GetParentTransformNode() is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_film_may_be_stored_along_any_axis(application, detector, repository, axis):
    from LandmarkDetectionLib.images import read_image

    image = read_image(repository / "Resources" / "Samples" / "knee-right.dcm")
    found = segment(detector.detect(image), image)
    volume = slicer.util.addVolumeFromArray(np.expand_dims(image.array, axis), np.diag([-1.0, -1.0, 1.0, 1.0]), "film")
    node = update_segmentation(volume, found)
    stored = labelmap(node, "femur")
    assert stored.shape == slicer.util.arrayFromVolume(volume).shape
    np.testing.assert_array_equal(np.take(stored, 0, axis=axis), found.labels)


def test_saved_scene_reopens_and_goes_on(application, volume, detected, tmp_path):
    node, found = segment_bones(detected)
    name = node.GetName()
    assert slicer.util.saveScene(str(tmp_path / "scène.mrb"))
    FOLLOWING.end_all()
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scène.mrb"))
    restored = find_results()[0]
    reopened = nodes()
    assert [one.GetName() for one in reopened] == [name]
    np.testing.assert_array_equal(labelmap(reopened[0], "tibia").squeeze(), found.labels)
    again, after = segment_bones(restored)
    assert again is reopened[0] and len(nodes()) == 1
    np.testing.assert_array_equal(after.labels, found.labels)
    np.testing.assert_array_equal(labelmap(again, "femur").squeeze(), found.labels)


def test_each_volume_has_its_own_bones(volume, detected):
    node, found = segment_bones(detected)
    other = slicer.util.addVolumeFromArray(np.zeros((1, *found.labels.shape), np.uint8), np.eye(4), "other")
    assert find_segmentation(other) is None
    second = update_segmentation(other, found)
    assert second is not node and find_segmentation(volume) is node and find_segmentation(other) is second


def test_what_cannot_be_drawn_is_said(application, volume, detected):
    with pytest.raises(LandmarkDetectionError, match="no landmarks yet"):
        segment_bones(None)
    _, found = segment_bones(detected)
    small = slicer.util.addVolumeFromArray(np.zeros((1, 40, 50), np.uint8), np.eye(4), "small")
    with pytest.raises(LandmarkDetectionError, match="'small' changed"):
        update_segmentation(small, found)
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(LandmarkDetectionError, match="no longer in the scene"):
        segment_bones(detected)
