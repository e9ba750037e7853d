"""From a SimpleITK image to an array and a frame, with one-slice volumes turned into films."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ImageError
from ..geometry import Frame, SpacingSource
from ..images import check_size, luminance, native

# ITK reports what it thinks of a header on the console; what matters is said in the image's notes or refused.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def open_header(path: Path, image_io: str = "") -> sitk.ImageFileReader:
    """A reader that has read the header and no pixels.

    Args:
        path: the file.
        image_io: name of the ITK reader, found by content where empty.

    Raises:
        ImageError: the header is damaged, or the image is too large or too small.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise damaged(path) from error
    check_size(kept_size(reader.GetSize(), path), path.name)
    return reader


def damaged(path: Path) -> ImageError:
    """The error for a file that cannot be decoded."""
    return ImageError(f"'{path.name}' is damaged or cut short and cannot be read; copy or export it again.")


def kept_axes(size: tuple[int, ...], path: Path) -> list[int]:
    """Axes that stay: up to three, less the axis of a single slice.

    Raises:
        ImageError: more than three axes hold more than one sample.
    """
    axes = [axis for axis, n in enumerate(size) if n > 1]
    if len(axes) > 3:
        raise ImageError(f"'{path.name}' is a series of volumes; choose or export a single image.")
    # A film of one row or column keeps its thin axis, so that the message about its size is the right one.
    spare = [axis for axis in range(len(size)) if axis not in axes]
    while len(axes) < 2:
        axes.append(spare.pop(0))
    return sorted(axes)


def kept_size(size: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Size along `kept_axes`, x first."""
    return tuple(size[axis] for axis in kept_axes(size, path))


def read_pixels(reader: sitk.ImageFileReader, path: Path) -> np.ndarray:
    """Decode the pixels: colour to gray values, spare axes removed, ``shape == kept_size[::-1]``.

    Raises:
        ImageError: the pixels are damaged, cut short, or too many for this computer.
    """
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise damaged(path) from error
    components = image.GetNumberOfComponentsPerPixel()
    if components not in (1, 2, 3, 4):
        raise ImageError(f"'{path.name}' has {components} values in each pixel; choose an image of gray values.")
    array = sitk.GetArrayViewFromImage(image)
    # A copy, because the view dies with the ITK image; luminance makes one by itself.
    array = luminance(array) if components > 1 else np.array(native(array))
    return array.reshape(kept_size(image.GetSize(), path)[::-1])


def placed_frame(
    reader: sitk.ImageFileReader, path: Path, spacing: tuple[float, ...] | None, source: SpacingSource
) -> Frame:
    """The frame of the kept axes, with ITK's origin and directions.

    Args:
        reader: after `open_header`.
        path: the file.
        spacing: step along each axis of the file, or None for what the header says.
        source: what the spacing stands for.
    """
    n = reader.GetDimension()
    axes = kept_axes(reader.GetSize(), path)
    steps = np.asarray(reader.GetSpacing() if spacing is None else spacing, dtype=np.float64)
    direction = np.zeros((max(n, 3), n))
    direction[:n] = np.reshape(reader.GetDirection(), (n, n))
    origin = np.zeros(max(n, 3))
    origin[:n] = reader.GetOrigin()
    try:
        size = kept_size(reader.GetSize(), path)
        return Frame(size, origin[:3], (direction * steps)[:3, axes], source)
    except ImageError as error:
        raise ImageError(f"'{path.name}' cannot be placed in space: {error}") from error


def is_spacing(value: float | None) -> bool:
    """Whether a number can be a spacing."""
    return value is not None and math.isfinite(value) and value > 0


def check_given_spacing(spacing: float | None) -> None:
    """Refuse a spacing that the user cannot have meant.

    Raises:
        ImageError: not a positive finite number.
    """
    if spacing is not None and not is_spacing(spacing):
        raise ImageError(f"A spacing of {spacing} is not possible; give a positive number of millimeters per pixel.")
