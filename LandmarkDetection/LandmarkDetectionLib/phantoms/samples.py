"""The sample films and volumes kept with the project, with their exact landmarks.

`knee-right.dcm` and `knee-left.png` (landmarks in `landmarks.csv`), `spine-straight.dcm` and `spine-scoliosis.png`
(`landmarks-spine.csv`; its landmarks are others, so that one table could not hold both), and two CT volumes,
`spine-ct.nrrd` (`landmarks-spine-ct.csv`) and `knee-ct.nrrd` (`landmarks-knee-ct.csv`), coarse enough for a repository.

`python -m LandmarkDetectionLib.phantoms.samples FOLDER` writes them again. pydicom is needed for writing only.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from .curves import Curve
from .dataset import spine_row, table_row, to_gray8, write_table
from .knee import KneePhantom, make_knee
from .spine import SpinePhantom, make_spine
from .volume_dataset import volume_row, write_volume
from .volumes import VolumePhantom, make_knee_volume, make_spine_volume

SPACING = 0.3  # mm at the knee
MAGNIFICATION = 1.05  # detector to bone
STRAIGHT_SEED, BENT_SEED = 24, 21
RIGHT_NAME, LEFT_NAME, TABLE_NAME = "knee-right.dcm", "knee-left.png", "landmarks.csv"
STRAIGHT_NAME, SCOLIOSIS_NAME, SPINE_TABLE_NAME = "spine-straight.dcm", "spine-scoliosis.png", "landmarks-spine.csv"
SPINE_CT_NAME, SPINE_CT_TABLE_NAME = "spine-ct.nrrd", "landmarks-spine-ct.csv"
KNEE_CT_NAME, KNEE_CT_TABLE_NAME = "knee-ct.nrrd", "landmarks-knee-ct.csv"
VOLUME_SPACING = 2.0  # mm


def right_knee() -> KneePhantom:
    """The knee of the DICOM sample."""
    return make_knee(10, "right", (448, 480), spacing=SPACING, field="wide")


def left_knee() -> KneePhantom:
    """The knee of the PNG sample, whose spacing the file does not tell."""
    return make_knee(7, "left", (400, 440), field="crop")


def straight_spine() -> SpinePhantom:
    """The nearly straight spine of the DICOM sample."""
    return make_spine(STRAIGHT_SEED, (560, 1560), [Curve("T11", "L4", 8.0, "left")])


def bent_spine() -> SpinePhantom:
    """The spine with a double curve of the PNG sample, whose spacing the file does not tell."""
    curves = [Curve("T5", "T11", 46.0, "left"), Curve("T11", "L4", 38.0, "right")]
    return make_spine(BENT_SEED, (700, 1700), curves)


def lumbar_spine() -> VolumePhantom:
    """The CT of a lumbar spine without implants."""
    return make_spine_volume(STRAIGHT_SEED, "ct", "lumbar", spacing=VOLUME_SPACING, metal=False)


def knee_joint() -> VolumePhantom:
    """The CT of a right knee without implants."""
    return make_knee_volume(10, "ct", "right", "joint", spacing=VOLUME_SPACING, metal=False)


def write_volume_samples(folder: Path) -> None:
    """Write both volumes and their tables into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table, phantom in (
        (SPINE_CT_NAME, SPINE_CT_TABLE_NAME, lumbar_spine()),
        (KNEE_CT_NAME, KNEE_CT_TABLE_NAME, knee_joint()),
    ):
        write_volume(folder / name, phantom.voxels, phantom.frame)
        write_table(folder / table, [volume_row(name, "sample", phantom)])


def write_samples(folder: Path) -> None:
    """Write all films and both tables into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    right, left = right_knee(), left_knee()
    write_dicom(folder / RIGHT_NAME, right)
    Picture.fromarray(to_gray8(left)).save(folder / LEFT_NAME, optimize=True)
    rows = [table_row(RIGHT_NAME, "sample", right, "wide"), table_row(LEFT_NAME, "sample", left, "crop")]
    write_table(folder / TABLE_NAME, rows)
    straight, bent = straight_spine(), bent_spine()
    write_dicom(folder / STRAIGHT_NAME, straight)
    Picture.fromarray(to_gray8(bent)).save(folder / SCOLIOSIS_NAME, optimize=True)
    rows = [spine_row(STRAIGHT_NAME, "sample", straight), spine_row(SCOLIOSIS_NAME, "sample", bent)]
    write_table(folder / SPINE_TABLE_NAME, rows)


def write_dicom(path: Path, phantom: KneePhantom | SpinePhantom) -> None:
    """Write a film as a Digital X-Ray image for presentation; the same film gives the same bytes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    is_knee = isinstance(phantom, KneePhantom)
    name = f"knee phantom {phantom.seed} {phantom.side}" if is_knee else f"spine phantom {phantom.seed}"

    def identifier(part: str) -> UID:
        return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {part}').int}")

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.ImplementationClassUID = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'knee phantom writer').int}")
    film.file_meta.ImplementationVersionName = "KNEE_PHANTOM_1"
    film.SpecificCharacterSet = "ISO_IR 192"
    film.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1.1")
    film.SOPInstanceUID, film.StudyInstanceUID = identifier("instance"), identifier("study")
    film.SeriesInstanceUID, film.FrameOfReferenceUID = identifier("series"), identifier("frame")
    _describe_exam(film, phantom)
    if is_knee:
        _describe_knee(film, phantom)
    else:
        _describe_spine(film)
    _describe_pixels(film, phantom, "knee" if is_knee else "spine")
    film.save_as(path, enforce_file_format=True)


def _describe_exam(film, phantom: KneePhantom | SpinePhantom) -> None:
    """Patient, study and series."""
    film.PatientID = f"PHANTOM-{phantom.seed}"
    film.PatientBirthDate = film.PatientSex = ""
    film.StudyDate, film.StudyTime, film.AccessionNumber, film.ReferringPhysicianName = "", "", "", ""
    film.StudyID, film.SeriesNumber, film.InstanceNumber = "1", 1, 1
    film.Modality, film.PresentationIntentType, film.ImageType = "DX", "FOR PRESENTATION", ["DERIVED", "PRIMARY"]
    film.PatientOrientation = ["L", "F"]
    film.AcquisitionDate = film.ContentDate = film.ContentTime = ""


def _describe_knee(film, phantom: KneePhantom) -> None:
    """View of a knee."""
    film.PatientName, film.ImageLaterality = "Phantom^Knee", phantom.side[0].upper()
    film.Manufacturer, film.SeriesDescription = "Knee phantom generator", "Synthetic PA knee"
    film.BodyPartExamined, film.ViewPosition = "KNEE", "PA"


def _describe_spine(film) -> None:
    """View of a spine, which is on neither side."""
    film.PatientName, film.ImageLaterality = "Phantom^Spine", "U"
    film.Manufacturer, film.SeriesDescription = "Spine phantom generator", "Synthetic AP spine"
    film.BodyPartExamined, film.ViewPosition = "TLSPINE", "AP"


def _describe_pixels(film, phantom: KneePhantom | SpinePhantom, part: str) -> None:
    """Gray values and their size: at the part shown (calibrated) and on the detector (magnified)."""
    film.Rows, film.Columns = phantom.pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PresentationLUTShape = 1, "MONOCHROME2", "IDENTITY"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelSpacing = [f"{phantom.spacing:.4f}"] * 2
    film.ImagerPixelSpacing = [f"{phantom.spacing * MAGNIFICATION:.4f}"] * 2
    film.PixelSpacingCalibrationType, film.EstimatedRadiographicMagnificationFactor = "GEOMETRY", f"{MAGNIFICATION:.2f}"
    film.PixelSpacingCalibrationDescription = f"Size at the {part}, from the projection geometry"
    film.PixelIntensityRelationship, film.PixelIntensityRelationshipSign = "LOG", -1
    film.RescaleIntercept, film.RescaleSlope, film.RescaleType = "0", "1", "US"
    film.WindowCenter, film.WindowWidth = "2048", "4096"
    film.LossyImageCompression, film.BurnedInAnnotation = "00", "NO"
    film.add_new("PixelData", "OW", phantom.pixels.astype(np.dtype("<u2")).tobytes())


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
    write_volume_samples(Path(sys.argv[1]))
