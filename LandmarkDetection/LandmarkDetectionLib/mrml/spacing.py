"""Whether the millimeters of a volume node mean anything, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer

from ..errors import ImageError
from ..geometry import SpacingSource
from ..reading import dicom, medical
from ..reading.dicom_spacing import find_spacing
from ..reading.pictures import UNKNOWN_SPACING
from ..reading.placing import open_header

SOURCE_ATTRIBUTE = "LandmarkDetection.spacingSource"
"""On the volume node: keeps the answer when the scene is saved and the film's own file is no longer beside it."""

DICOM_ATTRIBUTE = "DICOM.instanceUIDs"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
NOT_KNOWN = "The image does not say its pixel spacing, so lengths are in pixels."


@dataclass(frozen=True)
class Declared:
    """What the file behind a volume node says.

    Attributes:
        source: see `Frame.spacing_source`.
        spacing: (x, y) mm per pixel where the file's own rule differs from the node's spacing, else None.
        notes: plain sentences for the user.
        side: side of the body, or None.
    """

    source: SpacingSource
    spacing: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    side: str | None = None


def declared(volume, dimensions: int, node_spacing: np.ndarray) -> Declared:
    """What is known of the millimeters of a volume node.

    The DICOM header decides where it can be reached, then what was remembered on the node. A picture has no
    millimeters of its own, whatever print resolution it carries; and a film of exactly 1 mm pixels from another file
    is most likely a picture that was saved with a scene.

    Args:
        volume: the volume node.
        dimensions: 2 for a film, 3 for a volume.
        node_spacing: (d,) spacing of the node in the scene.
    """
    path = volume_file(volume)
    header = _dicom_header(path)
    if header is not None:
        found = find_spacing(lambda tag: dicom.field(header, tag))
        xy = found.xy if dimensions == 2 and found.source != "unknown" else None
        return Declared(found.source, xy, found.notes, dicom.declared_side(header))
    remembered = volume.GetAttribute(SOURCE_ATTRIBUTE)
    if remembered in ("calibrated", "detector", "given", "unknown"):
        return Declared(remembered, notes=(NOT_KNOWN,) if remembered == "unknown" else ())
    if dimensions == 3:
        return Declared("calibrated")
    if path is not None and path.name.lower().endswith(PICTURE_SUFFIXES):
        return Declared("unknown", notes=(UNKNOWN_SPACING,))
    silent = path is not None and path.is_file() and not medical.declares_spacing(path)
    if silent or np.allclose(node_spacing, 1.0, rtol=0.0, atol=1e-9):
        return Declared("unknown", notes=(NOT_KNOWN,))
    return Declared("calibrated")


def remember(volume, source: SpacingSource) -> None:
    """Keep on the node where its spacing comes from."""
    if volume.GetAttribute(SOURCE_ATTRIBUTE) != source:
        volume.SetAttribute(SOURCE_ATTRIBUTE, source)


def volume_file(volume) -> Path | None:
    """The file a volume came from, or None: the first instance in the DICOM database, else its storage node's."""
    instances = (volume.GetAttribute(DICOM_ATTRIBUTE) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    name = database.fileForInstance(instances[0]) if instances and database is not None else None
    storage = volume.GetStorageNode()
    if not name and storage is not None and storage.GetFileName():
        name = storage.GetFullNameFromFileName()
    return Path(name) if name else None


def _dicom_header(path: Path | None):
    """A reader holding the header of a DICOM file, or None where the file is none or is gone."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if not is_dicom:
        return None
    try:
        return open_header(path, "GDCMImageIO")
    except ImageError:
        # The voxels are in the scene already; a header that cannot be read again only leaves the spacing unknown.
        return None
