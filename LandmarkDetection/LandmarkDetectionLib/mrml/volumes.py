"""A volume node as an `Image`, and where that image lies in the scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import slicer.util
import vtk

from ..errors import ImageError
from ..images import Image, check_image, check_size, luminance, native
from .orientation import reoriented, world_directions
from .placement import Placement, image_axes, stored_placement, volume_dimensions
from .spacing import declared, remember, volume_file


@dataclass(frozen=True)
class VolumeImage:
    """An image taken from the scene.

    Attributes:
        image: gray values with their true spacing, for the detector.
        placement: the same grid as the scene shows it; index coordinates are the same in both.
        key: changes when the voxels, the geometry or the parent transform of the node change.
    """

    image: Image
    placement: Placement
    key: tuple


def volume_image(volume, spacing: float | None = None) -> VolumeImage:
    """Take the image out of a scalar or vector volume node.

    A volume of one slice becomes a film as it is stored; any other volume is turned, without interpolation, so that its
    axes run nearest to L, P and S in the world (parent transforms included). Color becomes luminance. The frame is in
    the node's local space, whatever its parent transforms.

    Args:
        volume: a vtkMRMLScalarVolumeNode or vtkMRMLVectorVolumeNode.
        spacing: mm per pixel that the user gives for a film, in place of what the file says.

    Raises:
        ImageError: no node, no voxels, a label map, a geometry or values that cannot be used.
    """
    name = image_name(volume)
    array, placement = _oriented(volume)
    frame = _true_frame(volume, placement, spacing)
    notes, side = (), None
    if spacing is None:
        origin = declared(volume, placement.frame.dims, placement.frame.spacing)
        remember(volume, origin.source)
        frame = replace(frame, spacing_source=origin.source)
        if origin.spacing is not None:
            frame = replace(frame, steps=frame.direction() * np.array(origin.spacing))
        notes, side = origin.notes, origin.side
    image = Image(native(array), frame, name, notes, side)
    check_image(image)
    return VolumeImage(image, placement, cache_key(volume))


def _true_frame(volume, placement: Placement, spacing: float | None):
    """The frame of the scene, with the spacing the user gave where there is one."""
    frame = placement.frame
    if spacing is None:
        return frame
    if frame.dims != 2:
        raise ImageError(f"A pixel spacing can be given for a film only; '{volume.GetName()}' is a volume.")
    if not (np.isfinite(spacing) and spacing > 0):
        raise ImageError(f"A spacing of {spacing} is not possible; give a positive number of millimeters per pixel.")
    return replace(frame, steps=frame.direction() * spacing, spacing_source="given")


def _oriented(volume) -> tuple[np.ndarray, Placement]:
    """Gray values and their grid: a film as stored, a volume in the orientation nearest to L, P, S."""
    placement = stored_placement(volume)
    check_size(placement.frame.size, volume.GetName())
    array = _gray_values(volume)
    if placement.frame.dims == 2:
        return array.reshape(placement.frame.size[::-1]), placement
    return reoriented(array, placement, world_directions(volume, placement))


def placement_of(volume) -> Placement:
    """The placement that `volume_image` gives, without touching a voxel: what a restored session needs.

    Raises:
        ImageError: no voxels, or a geometry that cannot be used.
    """
    placement = stored_placement(volume)
    if placement.frame.dims == 2:
        return placement
    # A view of one value with the right shape: only its axes are turned.
    shape = np.broadcast_to(np.zeros(1, dtype=np.uint8), placement.frame.size[::-1])
    return reoriented(shape, placement, world_directions(volume, placement))[1]


def _gray_values(volume) -> np.ndarray:
    """(k, j, i) gray values."""
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise ImageError(f"'{volume.GetName()}' is a label map; choose the image itself.")
    array = slicer.util.arrayFromVolume(volume)
    if array.ndim == 4:
        if array.shape[-1] not in (1, 2, 3, 4):
            raise ImageError(
                f"'{volume.GetName()}' has {array.shape[-1]} values in each voxel; choose a gray or color image."
            )
        # As rows, since `luminance` needs memory for one entry of the first axis at a time.
        return luminance(array.reshape(-1, *array.shape[2:])).reshape(array.shape[:3])
    return array


def image_name(volume) -> str:
    """The name of an image in messages and tables: its file name where it has one, else the node's name.

    Raises:
        ImageError: there is no node, or it holds no voxels.
    """
    volume_dimensions(volume)
    path = volume_file(volume)
    return path.name if path is not None else volume.GetName()


def is_film(volume) -> bool:
    """Whether a node holds a single image plane."""
    return len(image_axes(volume_dimensions(volume), volume.GetName())) == 2


def cache_key(volume) -> tuple:
    """What a kept image depends on: node, voxels, size, IJK-to-RAS matrix and parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    parent = volume.GetParentTransformNode()
    return (
        volume.GetID(),
        volume.GetImageData().GetPointData().GetScalars().GetMTime(),
        volume_dimensions(volume),
        tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4)),
        (parent.GetID(), parent.GetTransformToWorldMTime()) if parent is not None else None,
    )
