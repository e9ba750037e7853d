"""Which of DICOM's spacings to believe (PS3.3 C.7.6.3, 10.7 Basic Pixel Spacing Calibration, C.8.7.10).

Pixel Spacing refers to the patient where the file says that it was calibrated, or where it differs from Imager Pixel
Spacing. Imager Pixel Spacing, and a Pixel Spacing equal to it, refers to the detector, where the anatomy is magnified.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..geometry import SpacingSource

_PIXEL_SPACING = "0028|0030"
_CALIBRATION_TYPE = "0028|0a02"
_IMAGER_PIXEL_SPACING = "0018|1164"
_NOMINAL_SCANNED_PIXEL_SPACING = "0018|2010"
_MAGNIFICATION = "0018|1114"

DETECTOR_NOTE = (
    "The pixel spacing is that of the detector; lengths in the patient are shorter, "
    "by 5 to 25 percent in most radiographs."
)
ZERO_NOTE = "The file gives a pixel spacing of zero, so lengths are in pixels."
DAMAGED_NOTE = "The file's pixel spacing cannot be read as numbers, so lengths are in pixels."
MISSING_NOTE = "The file does not say its pixel spacing, so lengths are in pixels."


@dataclass(frozen=True)
class Spacing:
    """Spacing along (x, y) in mm, what it stands for, and what to tell the reader."""

    xy: tuple[float, float]
    source: SpacingSource
    notes: tuple[str, ...]


def find_spacing(field: Callable[[str], str]) -> Spacing:
    """Choose the spacing of a DICOM image.

    Args:
        field: text of a header field by its tag "gggg|eeee", empty where absent.

    Returns:
        A spacing of 1 with the source ``unknown`` where the file gives none that can be used.
    """
    pixel = _pair(field(_PIXEL_SPACING))
    detector = _pair(field(_IMAGER_PIXEL_SPACING))
    if pixel and _is_calibrated(field(_CALIBRATION_TYPE), pixel, detector):
        return Spacing(pixel, "calibrated", ())
    at_detector = detector or pixel or _pair(field(_NOMINAL_SCANNED_PIXEL_SPACING))
    if at_detector:
        return _from_detector(at_detector, _number(field(_MAGNIFICATION)))
    return Spacing((1.0, 1.0), "unknown", (_why_unknown(field(_PIXEL_SPACING)),))


def _is_calibrated(calibration_type: str, pixel: tuple[float, float], detector: tuple[float, float] | None) -> bool:
    """Whether Pixel Spacing refers to the patient. Alone (CT, MR, older films) it is taken at its word."""
    if calibration_type.upper() in ("GEOMETRY", "FIDUCIAL") or detector is None:
        return True
    return not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(pixel, detector, strict=True))


def _from_detector(spacing: tuple[float, float], magnification: float | None) -> Spacing:
    """Divide by the estimated magnification where there is one that can be true."""
    if magnification is None or not 1.0 <= magnification <= 3.0:
        return Spacing(spacing, "detector", (DETECTOR_NOTE,))
    note = f"The detector's pixel spacing was divided by the file's estimated magnification of {magnification:g}."
    return Spacing((spacing[0] / magnification, spacing[1] / magnification), "calibrated", (note,))


def _why_unknown(pixel_spacing: str) -> str:
    if not pixel_spacing:
        return MISSING_NOTE
    numbers = [_number(part) for part in pixel_spacing.split("\\")]
    return ZERO_NOTE if all(number == 0 for number in numbers) else DAMAGED_NOTE


def _pair(text: str) -> tuple[float, float] | None:
    """ "row\\column" distances as (x, y), or None where they are not two positive numbers."""
    numbers = [_number(part) for part in text.split("\\")]
    if len(numbers) != 2 or any(number is None or number <= 0 for number in numbers):
        return None
    return numbers[1], numbers[0]


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
