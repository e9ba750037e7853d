"""PNG and JPG pictures, 8 and 16 bit, gray, palette, colour or with transparency."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import PIL.Image

from ..errors import ImageError
from ..geometry import Frame
from ..images import MAX_PIXELS, Image, check_size, given_film_frame, luminance, native
from .placing import check_given_spacing, damaged, open_header, read_pixels

UNKNOWN_SPACING = "A picture does not say its pixel spacing, so lengths are in pixels."
_MODES_OF_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_MILLIMETRES_PER_UNIT = {1: 25.4, 2: 10.0}


def read(path: Path, spacing: float | None = None) -> Image:
    """Read a film; see `LandmarkDetectionLib.images.read_image`. EXIF rotation is not applied, as in Slicer."""
    check_given_spacing(spacing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            picture = PIL.Image.open(path)
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as error:
        raise ImageError(
            f"'{path.name}' is too large: it has more than {MAX_PIXELS // 2**20} million pixels; "
            "reduce it before loading."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise damaged(path) from error
    with picture:
        check_size(picture.size, path.name)
        if getattr(picture, "n_frames", 1) > 1:
            raise ImageError(f"'{path.name}' has several frames; choose a single radiograph.")
        array = _grey_values(picture, path)
        scene_frame = _scene_frame(picture)
    if spacing is None:
        return Image(array, scene_frame, path.name, (UNKNOWN_SPACING,))
    return Image(array, given_film_frame(picture.size, spacing), path.name, scene_frame=scene_frame)


def _grey_values(picture: PIL.Image.Image, path: Path) -> np.ndarray:
    """Decode to gray values (h, w), keeping 16 bits where the file has them."""
    try:
        picture.load()
        if picture.mode in _MODES_OF_GREY:
            array = native(np.array(picture))
            return array.astype(np.uint16) if picture.mode == "I" and _fits_16_bits(array) else array
        if picture.format == "PNG" and _has_16_bit_colour(path):
            # Pillow would cut these to 8 bits.
            return read_pixels(open_header(path), path)
        if picture.mode == "LA":
            return luminance(np.asarray(picture))
        if picture.has_transparency_data:
            return luminance(np.asarray(picture.convert("RGBA")))
        return np.array(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise damaged(path) from error


def _fits_16_bits(array: np.ndarray) -> bool:
    return array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max


def _has_16_bit_colour(path: Path) -> bool:
    """Bit depth and colour type are bytes 24 and 25 of a PNG; types 2 and 6 are RGB and RGBA."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24] == 16 and header[25] in (2, 6)


def _scene_frame(picture: PIL.Image.Image) -> Frame:
    """The frame Slicer gives the file: 1 mm, except that ITK takes a JPG's print resolution for its spacing.

    The source stays unknown: dots per inch describe paper, not the patient.
    """
    horizontal, vertical = picture.info.get("jfif_density", (0, 0))
    unit = _MILLIMETRES_PER_UNIT.get(picture.info.get("jfif_unit"))
    if unit is None or horizontal <= 0 or vertical <= 0:
        return Frame.film(picture.size)
    return Frame.film(picture.size, (unit / horizontal, unit / vertical))
