"""DICOM files, through SimpleITK's GDCM: also JPEG 2000 and lossless JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import SimpleITK as sitk

from ..images import Image
from .dicom_spacing import Spacing, find_spacing
from .placing import check_given_spacing, kept_axes, open_header, placed_frame, read_pixels

_PHOTOMETRIC = "0028|0004"
_IMAGE_LATERALITY = "0020|0062"
_LATERALITY = "0020|0060"
_SIDES = {"L": "left", "R": "right"}


def read(path: Path, spacing: float | None = None) -> Image:
    """Read a film or volume; see `LandmarkDetectionLib.images.read_image`.

    GDCM applies the rescale slope and intercept and turns MONOCHROME1 into MONOCHROME2, so bone is bright.
    No field that identifies the patient is read.
    """
    check_given_spacing(spacing)
    reader = open_header(path, "GDCMImageIO")
    n = reader.GetDimension()
    if spacing is not None:
        found = Spacing((spacing, spacing), "given", ())
    else:
        found = find_spacing(lambda tag: field(reader, tag))
    # ITK picks a tag of its own by the class of the object; only its distance between slices is kept.
    steps = found.xy + tuple(reader.GetSpacing()[2:n])
    frame = placed_frame(reader, path, steps, found.source)
    notes = found.notes
    if field(reader, _PHOTOMETRIC) == "MONOCHROME1":
        notes += ("The file stores bone dark (MONOCHROME1); its gray values were inverted.",)
    if len(kept_axes(reader.GetSize(), path)) == 3 and field(reader, "0028|0008") not in ("", "1"):
        notes += ("The file holds several frames.",)
    array = read_pixels(reader, path)
    scene_frame = placed_frame(reader, path, None, found.source)
    return Image(array, frame, path.name, notes, declared_side(reader), scene_frame)


def field(reader: sitk.ImageFileReader, tag: str) -> str:
    """Text of a header field without padding, empty where absent."""
    return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""


def declared_side(reader: sitk.ImageFileReader) -> Literal["left", "right"] | None:
    """The side of the body from Image Laterality, else Laterality; None where absent, both or unpaired."""
    value = field(reader, _IMAGE_LATERALITY) or field(reader, _LATERALITY)
    return _SIDES.get(value.upper())
