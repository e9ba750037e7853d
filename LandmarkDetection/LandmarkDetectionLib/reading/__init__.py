"""Reading image files: which reader takes a file is decided by its first bytes, then by its ending."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ..errors import ImageError
from ..images import Image, check_image
from . import dicom, medical, pictures

SUPPORTED = "DICOM, NIfTI, NRRD, MHA, PNG or JPG"

_ENDINGS = {
    ".dcm": dicom,
    ".dicom": dicom,
    ".ima": dicom,
    ".nii": medical,
    ".nii.gz": medical,
    ".nrrd": medical,
    ".nhdr": medical,
    ".mha": medical,
    ".mhd": medical,
    ".png": pictures,
    ".jpg": pictures,
    ".jpeg": pictures,
}


def read(path: str | PathLike, spacing: float | None = None) -> Image:
    """See `LandmarkDetectionLib.images.read_image`."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"'{path.name}' is a folder; choose one image file.")
        if not path.is_file():
            raise ImageError(f"'{path}' does not exist; check the name and the folder.")
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise ImageError(f"'{path.name}' cannot be opened ({error.strerror}); check the access rights.") from error
    if not start:
        raise ImageError(f"'{path.name}' is empty; copy or export it again.")
    reader = _reader_for(path, start)
    if reader is None:
        raise ImageError(f"'{path.name}' is not of a supported type; use {SUPPORTED}.")
    image = reader.read(path, spacing)
    check_image(image)
    return image


def _reader_for(path: Path, start: bytes):
    """The module that reads the file, or None."""
    if start[128:132] == b"DICM":
        return dicom
    if start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return pictures
    if start.startswith(b"NRRD"):
        return medical
    name = path.name.lower()
    return next((reader for ending, reader in _ENDINGS.items() if name.endswith(ending)), None)
