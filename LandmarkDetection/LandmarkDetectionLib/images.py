"""An image: an array of grey values and the frame that places it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np

from .errors import ImageError
from .geometry import Frame

MAX_PIXELS = 64 * 2**20
"""Films with more pixels are refused from their header, before any pixel is read."""

MAX_VOXELS = 256 * 2**20
"""The same bound for volumes."""

MIN_SIDE = 32
"""Films with a shorter side are refused: no bone can be recognised on them."""

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Rec. 601 weights of red, green and blue; they sum to 1, so a grey picture stored as colour keeps its values."""


@dataclass(frozen=True, eq=False)
class Image:
    """Grey values with their geometry.

    Attributes:
        array: ``frame.size[::-1]``, so (h, w) for a film or (d, h, w) for a volume; native integers or float32.
        frame: where each pixel lies, with the spacing to measure by.
        name: file name with extension, or the name given to an array.
        notes: plain sentences on what a reader should know (spacing missing, magnification, inverted gray values).
        view_side: side of the body declared by the file, or None.
        scene_frame: where 3D Slicer puts the file when it loads it. It differs from `frame` where the user gave the
            spacing, or a DICOM file has a better one than ITK picks; points meant for a scene are placed in it.
    """

    array: np.ndarray
    frame: Frame
    name: str
    notes: tuple[str, ...] = ()
    view_side: Literal["left", "right"] | None = None
    scene_frame: Frame | None = None

    def __post_init__(self) -> None:
        if self.scene_frame is None:
            object.__setattr__(self, "scene_frame", self.frame)
        if self.array.shape != self.frame.size[::-1]:
            raise ImageError(
                f"The pixels of '{self.name}' have the shape {self.array.shape}, but its geometry says "
                f"{self.frame.size[::-1]}."
            )

    @property
    def dims(self) -> int:
        """2 for a film, 3 for a volume."""
        return self.frame.dims

    @classmethod
    def from_array(cls, array: np.ndarray, spacing: float | None = None, name: str = "array") -> Image:
        """A film from gray values (h, w) or colour (h, w, 3 or 4), placed as Slicer places pictures.

        Args:
            array: any real number type.
            spacing: mm per pixel where known.
            name: used in messages.

        Raises:
            ImageError: see `check_image`.
        """
        array = np.asarray(array)
        if array.ndim == 3 and array.shape[-1] in (1, 2, 3, 4):
            array = luminance(array)
        if array.ndim != 2:
            raise ImageError(f"'{name}' is not a film: it has {array.ndim} axes instead of 2.")
        image = cls(native(array), given_film_frame(array.shape[::-1], spacing), name)
        check_image(image)
        return image


def given_film_frame(size: tuple[int, int], spacing: float | None) -> Frame:
    """The frame of a picture whose spacing (mm) the user gave, or whose spacing is unknown."""
    if spacing is None:
        return Frame.film(size)
    return Frame.film(size, spacing, "given")


def native(array: np.ndarray) -> np.ndarray:
    """The array in a type that costs little: booleans as 8 bit, all floating point as float32, integers as they are."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind not in "iu":
        raise ImageError(f"Pixels of the type {array.dtype} are not gray values.")
    return np.ascontiguousarray(array)


def luminance(array: np.ndarray) -> np.ndarray:
    """Colour (..., c) to gray values (...): Rec. 601 luma; an alpha channel (c = 2 or 4) is laid over black.

    Works row by row, so that a large film needs no second copy in floating point. Integers stay integers.
    """
    channels = array.shape[-1]
    result = np.empty(array.shape[:-1], dtype=array.dtype)
    integer = array.dtype.kind in "iu"
    opaque = float(np.iinfo(array.dtype).max) if integer else 1.0
    rows_in = array.reshape(-1, *array.shape[-2:])
    rows_out = result.reshape(-1, array.shape[-2])
    for row_in, row_out in zip(rows_in, rows_out, strict=True):
        colour = row_in.astype(np.float64)
        grey = colour[..., :3] @ np.array(LUMA_WEIGHTS) if channels >= 3 else colour[..., 0]
        if channels in (2, 4):
            grey = grey * (colour[..., -1] / opaque)
        row_out[...] = np.rint(grey) if integer else grey
    return result


def check_size(size: tuple[int, ...], name: str) -> None:
    """Refuse what is too large or too small, from the size (x first) alone.

    Raises:
        ImageError: names the image and the bound.
    """
    shape = " x ".join(str(n) for n in size)
    limit = MAX_PIXELS if len(size) == 2 else MAX_VOXELS
    if np.prod([float(n) for n in size]) > limit:
        raise ImageError(
            f"'{name}' is too large: {shape} is more than {limit // 2**20} million pixels; reduce it before loading."
        )
    if len(size) == 2 and min(size) < MIN_SIDE:
        raise ImageError(f"'{name}' is too small: {shape} pixels, but each side needs at least {MIN_SIDE}.")


def check_image(image: Image) -> None:
    """Refuse an image on which nothing can be found.

    Raises:
        ImageError: too large, too small, values that are not finite, or one value everywhere.
    """
    check_size(image.frame.size, image.name)
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise ImageError(f"'{image.name}' holds values that are not numbers (NaN or infinite); export it again.")
    if image.array.min() == image.array.max():
        raise ImageError(f"'{image.name}' has the same value in every pixel; choose an image that shows something.")


def require_film(image: Image) -> None:
    """Refuse a volume or a multi-frame image where a film is needed.

    Raises:
        ImageError: names the image and its size.
    """
    if image.dims != 2:
        shape = " x ".join(str(n) for n in image.frame.size)
        raise ImageError(f"'{image.name}' is a volume or has several frames ({shape}); choose a single radiograph.")


def require_volume(image: Image) -> None:
    """Refuse a film where a volume is needed, and a volume of unknown spacing.

    Raises:
        ImageError: names the image.
    """
    if image.dims != 3:
        shape = " x ".join(str(n) for n in image.frame.size)
        raise ImageError(f"'{image.name}' is a single picture ({shape}); choose a CT or MR volume for this model.")
    if not image.frame.has_millimetres:
        raise ImageError(f"The spacing of '{image.name}' is not known; load it from a file that tells its millimeters.")


def read_image(path: str | PathLike, spacing: float | None = None) -> Image:
    """Read a DICOM, NIfTI, NRRD, MHA, PNG or JPG file.

    Args:
        path: the file; the type is recognised by content, then by ending.
        spacing: mm per pixel that overrides what the file says (``spacing_source`` is then ``given``).

    Returns:
        A film (2-D) or a volume (3-D); a volume of one slice becomes a film in its place in space.

    Raises:
        ImageError: the file is missing, of another type, damaged, too large, too small, or shows nothing.
    """
    # Deferred: SimpleITK takes a quarter of a second to load and arrays do not need it.
    from .reading import read

    return read(path, spacing)
