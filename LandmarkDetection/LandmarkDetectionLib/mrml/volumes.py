"""A volume node as an `Image`, and where that image lies in the scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import slicer.util
import vtk

from ..errors import ImageError
from ..geometry import Frame
from ..images import Image, check_image, check_size, luminance, native
from .orientation import nearest_axes, turned, turned_placement
from .placement import Axes, Placement, image_axes, stored_placement, volume_dimensions
from .spacing import declared, remember, volume_file
from .world import in_world


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


def volume_image(
    volume, spacing: float | None = None, axes: Axes | None = None, frame: Frame | None = None
) -> VolumeImage:
    """Take the image out of a scalar or vector volume node.

    A volume of one slice becomes a film as it is stored, in the node's local space: a film says nothing of where the
    patient is. Any other volume is turned, without interpolation, so that its axes run nearest to L, P and S in the
    world, and its frame is that of the world, parent transforms applied. Color becomes luminance.

    Args:
        volume: a vtkMRMLScalarVolumeNode or vtkMRMLVectorVolumeNode.
        spacing: mm per pixel that the user gives for a film, in place of what the file says.
        axes: those of an earlier image of this volume, and `frame`, its frame: the volume is taken as it was then,
            whatever its parent transforms are by now.

    Raises:
        ImageError: no node, no voxels, a label map, a geometry or values that cannot be used, a volume under a
            transform that is not linear.
    """
    name = image_name(volume)
    array, placement = _oriented(volume, axes)
    frame = _true_frame(volume, placement, spacing) if frame is None else frame
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


def _true_frame(volume, placement: Placement, spacing: float | None) -> Frame:
    """The frame of a film with the spacing the user gave where there is one, that of a volume in the world."""
    frame = placement.frame
    if spacing is None:
        return frame if frame.dims == 2 else in_world(frame, volume)
    if frame.dims != 2:
        raise ImageError(f"A pixel spacing can be given for a film only; '{volume.GetName()}' is a volume.")
    if not (np.isfinite(spacing) and spacing > 0):
        raise ImageError(f"A spacing of {spacing} is not possible; give a positive number of millimeters per pixel.")
    return replace(frame, steps=frame.direction() * spacing, spacing_source="given")


def _oriented(volume, axes: Axes | None) -> tuple[np.ndarray, Placement]:
    """Gray values and their grid: a film as stored, a volume along these axes or in the orientation nearest to LPS."""
    placement = placement_of(volume, axes)
    check_size(placement.frame.size, volume.GetName())
    array = _gray_values(volume)
    if placement.frame.dims == 2:
        return array.reshape(placement.frame.size[::-1]), placement
    return turned(array, placement.axes), placement


def placement_of(volume, axes: Axes | None = None) -> Placement:
    """The placement that `volume_image` gives, without touching a voxel: what a restored session needs.

    Args:
        volume: the volume node.
        axes: those of the image that the session is about; a transform that was put on the volume since then may have
            brought others nearest to L, P and S.

    Raises:
        ImageError: no voxels, or a geometry that cannot be used.
    """
    placement = stored_placement(volume)
    if placement.frame.dims == 2:
        return placement
    return turned_placement(placement, axes or nearest_axes(in_world(placement.frame, volume).steps))


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
