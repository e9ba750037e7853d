"""Reading images of every kind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import write_radiograph
from LandmarkDetectionLib.errors import ImageError
from LandmarkDetectionLib.images import Image, read_image, require_film
from LandmarkDetectionLib.reading.dicom_spacing import DETECTOR_NOTE, MISSING_NOTE, ZERO_NOTE
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def grey8() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


@pytest.fixture
def grey16() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 60000, (HEIGHT, WIDTH), dtype=np.uint16)


@pytest.fixture
def radiograph(tmp_path: Path):
    """Writes a CR object with chosen fields and returns its path."""
    return partial(write_radiograph, tmp_path / "film.dcm")


# Pictures


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_grey_picture(ending: str, grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"Ärztin 膝.{ending}"
    PIL.Image.fromarray(grey8).save(path)
    image = read_image(path)
    assert (image.array == np.asarray(PIL.Image.open(path))).all() and image.array.dtype == np.uint8
    assert image.name == path.name and image.view_side is None
    assert image.frame.spacing_source == "unknown" and "pixels" in image.notes[0]
    assert image.frame.to_physical([3, 4]) == pytest.approx([3, 4, 0])


def test_sixteen_bit_picture_keeps_its_depth(grey16: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    PIL.Image.fromarray(grey16).save(path)
    assert (read_image(path).array == grey16).all() and read_image(path).array.dtype == np.uint16


def test_sixteen_bit_colour_keeps_its_depth(grey16: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    colour = np.stack([grey16, grey16[::-1], grey16[:, ::-1]], axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(path))
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(path).array - expected).max() <= 0.5


def test_colour_becomes_luminance(grey8: np.ndarray, tmp_path: Path) -> None:
    colour = np.stack([grey8, grey8[::-1], grey8[:, ::-1]], axis=-1)
    path = tmp_path / "colour.png"
    PIL.Image.fromarray(colour).save(path)
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(path).array - expected).max() <= 1
    assert np.abs(Image.from_array(colour).array - expected).max() <= 0.5
    assert (Image.from_array(np.stack([grey8] * 3, axis=-1)).array == grey8).all()


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA", "CMYK"])
def test_unusual_picture_modes(mode: str, grey8: np.ndarray, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(grey8).convert("RGB" if mode in ("P", "CMYK") else "L").convert(mode)
    path = tmp_path / ("film.jpg" if mode == "CMYK" else "film.png")
    picture.save(path, quality=100)
    expected = (grey8 > 127).astype(float) if mode == "1" else grey8.astype(float)
    found = read_image(path).array
    assert found.shape == grey8.shape
    # Few colours in a palette, dithering and JPEG lose something; what is left must still be the same picture.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > (0.5 if mode == "1" else 0.95)
    if mode in ("LA", "RGBA"):
        assert (found == grey8).all()


def test_transparent_parts_are_black(grey8: np.ndarray, tmp_path: Path) -> None:
    alpha = np.where(np.arange(WIDTH) < 20, 0, 255).astype(np.uint8) * np.ones((HEIGHT, 1), dtype=np.uint8)
    path = tmp_path / "clear.png"
    PIL.Image.fromarray(np.dstack([grey8, grey8, grey8, alpha])).save(path)
    found = read_image(path).array
    assert (found[:, :20] == 0).all() and (found[:, 20:] == grey8[:, 20:]).all()


def test_print_resolution_places_a_jpg_as_itk_does_but_is_not_trusted(grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.jpg"
    PIL.Image.fromarray(grey8).save(path, dpi=(72, 72))
    image = read_image(path)
    assert image.frame.spacing == pytest.approx(sitk.ReadImage(str(path)).GetSpacing())
    assert not image.frame.has_millimetres


def test_given_spacing_overrules_but_the_scene_stays(grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    PIL.Image.fromarray(grey8).save(path)
    image = read_image(path, spacing=0.15)
    assert image.frame.spacing == pytest.approx([0.15, 0.15]) and image.frame.spacing_source == "given"
    assert image.scene_frame.spacing == pytest.approx([1, 1])
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ImageError, match="positive number of millimeters"):
            read_image(path, spacing=wrong)


# Medical formats


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_volume_lies_where_simpleitk_puts_it(ending: str, tmp_path: Path) -> None:
    volume = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7), dtype=np.int16))
    volume.SetSpacing((0.5, 0.75, 3))
    volume.SetOrigin((-10, 20, 30))
    volume.SetDirection((0, 0, 1, 1, 0, 0, 0, -1, 0))
    path = tmp_path / f"volume.{ending}"
    sitk.WriteImage(volume, str(path))
    image = read_image(path)
    assert image.dims == 3 and image.frame.spacing_source == "calibrated"
    assert (image.array == sitk.GetArrayViewFromImage(volume)).all()
    for index in ((0, 0, 0), (6, 5, 4), (1.5, 2.25, -3)):
        expected = volume.TransformContinuousIndexToPhysicalPoint(index)
        assert image.frame.to_physical(index) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ImageError, match=f"'volume.{ending}' is a volume or has several frames"):
        require_film(image)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volume_of_one_slice_becomes_a_film_in_its_place(axis: int, tmp_path: Path) -> None:
    size = [40, 50, 60]
    size[axis] = 1
    pixels = np.random.default_rng(0).uniform(size=size[::-1]).astype(np.float32)
    volume = sitk.GetImageFromArray(pixels)
    volume.SetSpacing((0.5, 0.75, 2))
    volume.SetOrigin((5, 6, 7))
    path = tmp_path / "slice.mha"
    sitk.WriteImage(volume, str(path))
    image = read_image(path)
    require_film(image)
    assert image.array.shape == tuple(n for n in size[::-1] if n > 1)
    index = np.array([3, 4, 5])
    index[axis] = 0
    assert image.frame.to_physical(np.delete(index, axis)) == pytest.approx(
        volume.TransformIndexToPhysicalPoint(index.tolist())
    )


def test_a_header_without_spacing_is_unknown(grey8: np.ndarray, tmp_path: Path) -> None:
    header = f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: {WIDTH} {HEIGHT}\nencoding: raw\n\n"
    path = tmp_path / "bare.nrrd"
    path.write_bytes(header.encode() + grey8.tobytes())
    image = read_image(path)
    assert (image.array == grey8).all()
    assert image.frame.spacing_source == "unknown" and len(image.notes) == 1


def test_colour_volume_formats(grey8: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "colour.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey8] * 3, axis=-1), isVector=True), str(path))
    assert (read_image(path).array == grey8).all()


# DICOM


@pytest.mark.parametrize("name", ["RG1_J2KI", "RG3_J2KI", "RG3_J2KR"])
def test_real_radiographs_are_inverted_once(name: str, landmark_data) -> None:
    path = landmark_data / "dicom" / f"{name}.dcm"
    dataset = pydicom.dcmread(path)
    image = read_image(path)
    stored = dataset.pixel_array.astype(np.int64)
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    assert (image.array == 2**dataset.BitsStored - 1 - stored).all()
    assert any("MONOCHROME1" in note for note in image.notes)
    assert image.frame.spacing_source == "unknown" and (image.frame.spacing == 1).all()
    assert (ZERO_NOTE if name == "RG1_J2KI" else MISSING_NOTE) in image.notes
    assert image.view_side == (None if name == "RG1_J2KI" else "right")


def test_real_ct_is_rescaled_and_in_place(landmark_data) -> None:
    path = landmark_data / "dicom" / "CT_small.dcm"
    dataset = pydicom.dcmread(path)
    image = read_image(path)
    assert (image.array == dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)).all()
    assert image.dims == 2 and image.frame.spacing_source == "calibrated"
    assert image.frame.origin == pytest.approx([float(v) for v in dataset.ImagePositionPatient])
    assert image.frame.spacing == pytest.approx([0.661468, 0.661468])


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression(compressor: str, landmark_data, tmp_path: Path) -> None:
    source = sitk.ReadImage(str(landmark_data / "dicom" / "MR_small.dcm"))
    path = tmp_path / "lossless.dcm"
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(source)
    expected = {"JPEG": JPEGLosslessSV1, "JPEG2000": JPEG2000Lossless}[compressor]
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == expected
    assert (read_image(path).array == sitk.GetArrayViewFromImage(source)[0]).all()


def test_fractional_rescale_and_monochrome1(radiograph) -> None:
    pixels = np.arange(64 * 64).reshape(64, 64)
    plain = read_image(radiograph(pixels, RescaleSlope="0.5", RescaleIntercept="-7")).array
    assert plain.dtype == np.float32 and np.allclose(plain, pixels * 0.5 - 7)
    inverted = read_image(radiograph(pixels, PhotometricInterpretation="MONOCHROME1", RescaleSlope="1")).array
    assert np.allclose(np.diff(inverted.astype(float), axis=1), -1)


@pytest.mark.parametrize(
    ("fields", "spacing_xy", "source", "word"),
    [
        ({"PixelSpacing": ["0.2", "0.1"]}, (0.1, 0.2), "calibrated", None),
        ({"ImagerPixelSpacing": ["0.2", "0.1"]}, (0.1, 0.2), "detector", DETECTOR_NOTE),
        ({"ImagerPixelSpacing": ["0.2", "0.2"], "PixelSpacing": ["0.2", "0.2"]}, (0.2, 0.2), "detector", DETECTOR_NOTE),
        ({"ImagerPixelSpacing": ["0.2", "0.2"], "PixelSpacing": ["0.18", "0.18"]}, (0.18, 0.18), "calibrated", None),
        (
            {"ImagerPixelSpacing": ["0.2"] * 2, "PixelSpacing": ["0.2"] * 2, "PixelSpacingCalibrationType": "FIDUCIAL"},
            (0.2, 0.2),
            "calibrated",
            None,
        ),
        (
            {"ImagerPixelSpacing": ["0.2", "0.2"], "EstimatedRadiographicMagnificationFactor": "1.25"},
            (0.16, 0.16),
            "calibrated",
            "magnification of 1.25",
        ),
        (
            {"ImagerPixelSpacing": ["0.2", "0.2"], "EstimatedRadiographicMagnificationFactor": "0"},
            (0.2, 0.2),
            "detector",
            DETECTOR_NOTE,
        ),
        ({"ImagerPixelSpacing": ["0.2", "0.2"], "PixelSpacing": ["0.000", "0.000"]}, (0.2, 0.2), "detector", None),
        ({"NominalScannedPixelSpacing": ["0.3", "0.3"]}, (0.3, 0.3), "detector", DETECTOR_NOTE),
        ({"PixelSpacing": ["0.000", "0.000"]}, (1, 1), "unknown", ZERO_NOTE),
        ({"PixelSpacing": ["-1", "-1"]}, (1, 1), "unknown", "cannot be read"),
        ({}, (1, 1), "unknown", MISSING_NOTE),
    ],
)
def test_which_spacing_is_believed(radiograph, fields: dict, spacing_xy, source: str, word: str | None) -> None:
    image = read_image(radiograph(**fields))
    assert image.frame.spacing == pytest.approx(spacing_xy) and image.frame.spacing_source == source
    assert image.frame.has_millimetres == (source != "unknown")
    assert word is None or any(word in note for note in image.notes)


def test_scene_frame_is_the_one_itk_reads(radiograph) -> None:
    path = radiograph(PixelSpacing=["0.18", "0.17"], ImagerPixelSpacing=["0.2", "0.19"])
    image = read_image(path)
    assert image.frame.spacing == pytest.approx([0.17, 0.18])
    assert image.scene_frame.spacing == pytest.approx(sitk.ReadImage(str(path)).GetSpacing()[:2])


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"Laterality": "L"}, "left"),
        ({"ImageLaterality": "R"}, "right"),
        ({"ImageLaterality": "R", "Laterality": "L"}, "right"),
        ({"ImageLaterality": "B"}, None),
        ({"Laterality": ""}, None),
        ({}, None),
    ],
)
def test_declared_side(radiograph, fields: dict, side: str | None) -> None:
    assert read_image(radiograph(**fields)).view_side == side


def test_colour_dicom(radiograph, grey8: np.ndarray) -> None:
    path = radiograph(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        Rows=HEIGHT,
        Columns=WIDTH,
        PixelData=np.stack([grey8] * 3, axis=-1).tobytes(),
    )
    assert (read_image(path).array == grey8).all()


def test_dicom_needs_no_ending_and_tells_no_names(radiograph, capfd, tmp_path: Path) -> None:
    path = radiograph().rename(tmp_path / "IM0001")
    image = read_image(path)
    printed = "".join(capfd.readouterr()) + repr(image.notes) + image.name
    assert "Secret" not in printed and image.dims == 2


def test_several_frames_are_not_a_film(radiograph) -> None:
    frames = np.random.default_rng(0).integers(0, 900, (3, 64, 64))
    path = radiograph(frames, NumberOfFrames=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3")
    with pytest.raises(ImageError, match="'film.dcm' is a volume or has several frames"):
        require_film(read_image(path))


def test_image_and_frame_must_fit(grey8: np.ndarray) -> None:
    image = Image.from_array(grey8)
    with pytest.raises(ImageError, match="geometry"):
        Image(grey8.T, image.frame, "turned")
