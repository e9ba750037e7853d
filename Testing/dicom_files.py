"""Small DICOM radiographs written for tests, with the fields a test is about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"


def write_radiograph(path: Path, pixels: np.ndarray | None = None, **fields) -> Path:
    """Write a signed 16-bit CR object without any spacing; `fields` replace or add attributes by keyword.

    Args:
        path: file to write.
        pixels: (h, w) or (frames, h, w); noise of 64 x 64 where None.
        fields: DICOM keywords and values.
    """
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 2000, (64, 64))
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = COMPUTED_RADIOGRAPHY
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["radiograph"])
    dataset.Modality = "CR"
    dataset.PatientName = "Secret^Person"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = pixels.astype(np.int16).tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path
