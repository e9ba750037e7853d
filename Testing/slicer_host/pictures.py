"""PNG and JPG as Slicer loads them; the wheel's ITK was built without those formats, so pillow reads the pixels."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
from PIL import Image as Picture

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def add_picture(scene, path: str, name: str):
    """Return a one-slice volume with R = -x and A = -y; color becomes a vector volume.

    Pixels are 1 mm, except that ITK takes the print resolution of a JPG for its spacing. The file name stays on the
    storage node, as in Slicer, where the module looks for it.
    """
    with Picture.open(path) as picture:
        if picture.mode in ("P", "LA", "CMYK"):
            picture = picture.convert("RGB")  # ITK reads these as color
        spacing = _print_spacing(picture)
        pixels = np.asarray(picture)
    class_name = "vtkMRMLScalarVolumeNode" if pixels.ndim == 2 else "vtkMRMLVectorVolumeNode"
    if pixels.dtype == bool or pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16 if pixels.dtype == np.int32 else np.uint8)
    matrix = np.diag([-spacing[0], -spacing[1], 1.0, 1.0])
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(pixels[None]), matrix, name, class_name)
    storage = node.CreateDefaultStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    return node


def _print_spacing(picture) -> tuple[float, float]:
    """Millimeters per pixel on paper (JFIF density in dots per inch or per centimeter), 1 where the file has none."""
    unit = {1: 25.4, 2: 10.0}.get(picture.info.get("jfif_unit"))
    across, down = picture.info.get("jfif_density", (0, 0))
    return (unit / across, unit / down) if unit and across > 0 and down > 0 else (1.0, 1.0)
