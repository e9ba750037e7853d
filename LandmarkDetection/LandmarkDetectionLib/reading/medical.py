"""NIfTI, NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

from pathlib import Path

from ..images import Image
from .nifti import is_complete
from .placing import check_given_spacing, damaged, open_header, placed_frame, read_pixels

_HEADER_BYTES = 65536
_DECLARATIONS = {
    (".nrrd", ".nhdr"): (b"spacings:", b"space directions:"),
    (".mha", ".mhd"): (b"ElementSpacing", b"ElementSize"),
}


def read(path: Path, spacing: float | None = None) -> Image:
    """Read a film or volume; see `LandmarkDetectionLib.images.read_image`."""
    check_given_spacing(spacing)
    reader = open_header(path)
    if path.name.lower().endswith((".nii", ".nii.gz")) and not is_complete(path):
        raise damaged(path)
    notes: tuple[str, ...] = ()
    if spacing is not None:
        frame = placed_frame(reader, path, (spacing,) * reader.GetDimension(), "given")
    elif declares_spacing(path):
        frame = placed_frame(reader, path, None, "calibrated")
    else:
        frame = placed_frame(reader, path, None, "unknown")
        notes = ("The file does not say its pixel spacing, so lengths are in pixels.",)
    scene_frame = placed_frame(reader, path, None, frame.spacing_source)
    return Image(read_pixels(reader, path), frame, path.name, notes, scene_frame=scene_frame)


def declares_spacing(path: Path) -> bool:
    """Whether the header names a spacing; ITK answers 1 where it does not. NIfTI always does."""
    for endings, words in _DECLARATIONS.items():
        if path.name.lower().endswith(endings):
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
            return any(word in header for word in words)
    return True
