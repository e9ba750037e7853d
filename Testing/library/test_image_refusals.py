"""Images that cannot be used are refused, each in one sentence that names the file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
from dicom_files import write_radiograph
from LandmarkDetectionLib.errors import ImageError
from LandmarkDetectionLib.images import MAX_PIXELS, Image, read_image

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def grey8() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def refusal(path: Path, *words: str) -> str:
    """The one sentence with which a file is refused; it names the file."""
    with pytest.raises(ImageError) as caught:
        read_image(path)
    sentence = str(caught.value)
    assert path.name in sentence and sentence.endswith(".") and "\n" not in sentence
    for word in words:
        assert word in sentence
    return sentence


def test_real_truncated_dicom_is_refused(landmark_data) -> None:
    refusal(landmark_data / "dicom" / "MR_truncated.dcm", "damaged or cut short")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["dicom/CT_small.dcm", "dicom/RG3_J2KI.dcm", "volumes/example_mr_sm.nii.gz"])
def test_cut_medical_files_are_refused(name: str, kept: float, landmark_data, tmp_path: Path) -> None:
    source = landmark_data / name
    path = tmp_path / source.name
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refusal(path, "damaged or cut short")


@pytest.mark.parametrize("ending", ["png", "jpg", "mha", "nrrd", "nii"])
@pytest.mark.parametrize("kept", [0.01, 0.6, 0.95])
def test_cut_pictures_are_refused(ending: str, kept: float, grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(grey8), str(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refusal(path)


def test_what_is_not_an_image_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    refusal(missing, "does not exist")
    empty = tmp_path / "empty.dcm"
    empty.touch()
    refusal(empty, "is empty")
    text = tmp_path / "notes.txt"
    text.write_text("not an image")
    refusal(text, "not of a supported type", "DICOM, NIfTI, NRRD, MHA, PNG or JPG")
    for ending in ("dcm", "png", "jpg", "nii.gz", "mha", "nrrd"):
        fake = tmp_path / f"fake.{ending}"
        fake.write_text("not an image" * 100)
        refusal(fake, "damaged")
    refusal(tmp_path, "folder")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_numbers(value: float, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH)).astype(np.float32)
    pixels[5, 5] = value
    path = tmp_path / "nan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    refusal(path, "not numbers")
    with pytest.raises(ImageError, match="'my film' holds values that are not numbers"):
        Image.from_array(pixels, name="my film")


def test_constant_and_small_images(grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    PIL.Image.new("L", (64, 64), 7).save(path)
    refusal(path, "same value")
    PIL.Image.fromarray(grey8[:16, :16]).save(path)
    refusal(path, "too small", "16 x 16", "32")
    medical = tmp_path / "small.mha"
    sitk.WriteImage(sitk.GetImageFromArray(grey8[:16, :16]), str(medical))
    refusal(medical, "too small")
    with pytest.raises(ImageError, match="too small"):
        Image.from_array(grey8[:31])
    with pytest.raises(ImageError, match="not a film"):
        Image.from_array(np.zeros((40, 40, 40)))
    with pytest.raises(ImageError, match="not gray values"):
        Image.from_array(grey8.astype(complex))


def test_huge_films_are_refused_from_the_header(tmp_path: Path) -> None:
    picture = tmp_path / "huge.png"
    PIL.Image.new("1", (20000, 20000)).save(picture)
    meta = tmp_path / "huge.mha"
    meta.write_text("NDims = 2\nDimSize = 20000 20000\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n")
    dicom = write_radiograph(tmp_path / "huge.dcm", Rows=20000, Columns=20000)
    barely = tmp_path / "barely.png"
    PIL.Image.new("1", (8200, 8200)).save(barely)
    assert MAX_PIXELS < 8200 * 8200
    tracemalloc.start()
    for path in (picture, meta, dicom, barely):
        refusal(path, "too large", "64 million pixels")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20
