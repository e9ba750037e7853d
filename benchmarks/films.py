"""Films that the contestants are measured on."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "Resources" / "Samples"
LARGE_SIDE = 4000


def sample_film() -> Path:
    """The first sample radiograph, DICOM before PNG.

    Raises:
        FileNotFoundError: there is none.
    """
    films = sorted(SAMPLES.glob("*.dcm")) + sorted(SAMPLES.glob("*.png"))
    if not films:
        raise FileNotFoundError(f"No sample radiograph in {SAMPLES}; run `python -m LandmarkDetectionLib.phantoms`.")
    return films[0]


def write_large(source: Path, target: Path, side: int = LARGE_SIDE) -> None:
    """Writes the film at `source` on ``side`` x ``side`` pixels of 16 bits; its edge goes on where it is not square."""
    import numpy as np
    import SimpleITK as sitk
    from LandmarkDetectionLib.images import read_image
    from LandmarkDetectionLib.preprocessing.resample import sample

    image = read_image(source)
    longest = max(image.frame.size)
    start = [-(longest - n) // 2 for n in image.frame.size]
    frame = image.frame.cropped(start, (longest, longest)).resampled(size=(side, side))
    array = sample(image, frame)
    array = np.round((array - array.min()) / np.ptp(array) * 4095).astype(np.uint16)
    film = sitk.GetImageFromArray(array)
    film.SetSpacing([float(n) for n in frame.spacing])
    sitk.WriteImage(film, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write_large.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write_large(arguments.source, arguments.target)
