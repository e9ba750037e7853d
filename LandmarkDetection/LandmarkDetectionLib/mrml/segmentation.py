"""The bones of a film as a segmentation node: one for each volume, beside it, under its transform, updated in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..errors import LandmarkDetectionError
from ..inference.segmentation import LABELS, BoneSegmentation, segment
from .following import FOLLOWING
from .markups import VOLUME_ROLE, input_volume
from .placement import volume_dimensions
from .volumes import volume_image

BONES_ATTRIBUTE = "LandmarkDetection.bones"
REPRESENTATION = "Binary labelmap"
"""What Slicer calls voxels that belong to a segment."""

TITLES = {"femur": "Femur", "tibia": "Tibia"}
COLORS = {"femur": (0.945, 0.839, 0.569), "tibia": (0.565, 0.769, 0.871)}
"""Of bone in Slicer's own table, and one that differs from it in brightness, too."""

CODES = {"femur": "SCT^71341001^Femur", "tibia": "SCT^12611008^Tibia"}
TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^272673000^Bone~^^~"
    "Anatomic codes - DICOM master list~{code}~^^"
)
OPACITY = 0.3
"""Of the areas in slice views: the film has to be seen through them."""


def segment_bones(node) -> tuple[object, BoneSegmentation]:
    """Draw the bones about the landmarks of a detection as they are now. Takes less than a second.

    Args:
        node: the markups node of a detection that is being followed.

    Returns:
        The vtkMRMLSegmentationNode, and what was found.

    Raises:
        LandmarkDetectionError: no detection, its image is lost, or the landmarks are not of a knee film.
    """
    tracker = FOLLOWING.tracker(node) if node is not None else None
    if tracker is None:
        raise LandmarkDetectionError("There are no landmarks yet; detect them first, the bones are looked for there.")
    volume = input_volume(node)
    if volume is None or volume.GetImageData() is None:
        raise LandmarkDetectionError(f"The image of '{node.GetName()}' is no longer in the scene; load it again.")
    session = tracker.session
    frame = session.landmarks.frame
    given = float(np.mean(frame.spacing)) if frame.spacing_source == "given" else None
    image = volume_image(volume, given).image
    found = segment(replace(session.detection, landmarks=session.landmarks), image)
    return update_segmentation(volume, found), found


def find_segmentation(volume):
    """The segmentation of the bones of a volume, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(BONES_ATTRIBUTE) and node.GetNodeReference(VOLUME_ROLE) is volume:
            return node
    return None


def update_segmentation(volume, found: BoneSegmentation):
    """Put a label map into the scene; the node of a volume is made once. Returns the vtkMRMLSegmentationNode.

    Segments that the user added to it stay.

    Raises:
        LandmarkDetectionError: the label map does not have the size of the volume.
    """
    shape = volume_dimensions(volume)[::-1]
    if found.labels.size != np.prod(shape):
        raise LandmarkDetectionError(f"'{volume.GetName()}' changed since its landmarks were found; detect them again.")
    node = find_segmentation(volume) or _add_segmentation(volume)
    labelmap = _labelmap(volume, found.labels.reshape(shape))
    with slicer.util.NodeModify(node):
        node.SetAttribute(BONES_ATTRIBUTE, found.model)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for bone, value in LABELS.items():
            put_segment(node, bone, value, labelmap)
    node.GetSegmentation().Modified()
    return node


def put_segment(node, bone: str, value: int, labelmap) -> None:
    """Let the segment of a bone, new where there is none, be the voxels of a value; bones share one label map."""
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(bone)
    if segment is not None:
        # What other representations show is of an older label map.
        segment.RemoveAllRepresentations()
        segment.SetLabelValue(value)
        segment.AddRepresentation(REPRESENTATION, labelmap)
        return
    segment = slicer.vtkSegment()
    segment.SetName(TITLES[bone])
    segment.SetColor(*COLORS[bone])
    segment.SetTag(segment.GetTerminologyEntryTagName(), TERMINOLOGY.format(code=CODES[bone]))
    segment.SetLabelValue(value)
    segment.AddRepresentation(REPRESENTATION, labelmap)
    segmentation.AddSegment(segment, bone)


def _labelmap(volume, labels: np.ndarray):
    """Labels ``(k, j, i)`` as an oriented image in the place of the volume's voxels."""
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetDimensions(*labels.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(labels).ravel(), deep=True)
    scalars.SetName("ImageScalars")
    labelmap.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    labelmap.SetGeometryFromImageToWorldMatrix(matrix)
    return labelmap


def _add_segmentation(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} bones")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity2DFill(OPACITY)
    node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))
    return node
