"""Does a film at half its resolution give the same points and the same review flags? One row for each model.

    python benchmarks/half_resolution.py DATA_FOLDER [MODEL...] [--films N] [--enlarge]

The folder holds the data sets of `out_of_place.py`; the films are those of a model's own split for reporting. Half the
resolution is the mean of two by two pixels. With ``--enlarge`` each film is made twice as large before, with noise of
its own: so finely a scanner would give it, and its half is about as fine as the film that the data set has. Films that
are fine enough are halved before a network sees them, and are then the same by construction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.errors import NotThisAnatomyError
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.bundle import find_bundle, list_bundles
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.inference.detector import Detector
from out_of_place import SETS, films
from PIL import Image as Picture
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

NOISE = 0.02
"""Standard deviation of the noise of an enlarged film, as a share of its range."""

LIMIT = 0.5
"""Pixels of the finer film by which a point may move."""


def enlarged(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film of twice the size, float32, with noise."""
    rows, columns = array.shape
    large = Picture.fromarray(array.astype(np.float32)).resize((2 * columns, 2 * rows), Picture.Resampling.BICUBIC)
    return np.asarray(large) + rng.normal(scale=NOISE * np.ptp(array), size=(2 * rows, 2 * columns)).astype(np.float32)


def even(array: np.ndarray) -> np.ndarray:
    """A film without the odd row or column that its half does not show, float32."""
    rows, columns = (n // 2 * 2 for n in array.shape)
    return np.ascontiguousarray(array[:rows, :columns], dtype=np.float32)


def halved(array: np.ndarray) -> np.ndarray:
    """Means of two by two pixels by Pillow."""
    return np.asarray(Picture.fromarray(array).reduce(2))


def detected(detector: Detector, array: np.ndarray, name: str) -> Detection | None:
    """The detection, or None where the film is refused."""
    try:
        return detector.detect(Image.from_array(array, name=name))
    except NotThisAnatomyError:
        return None


def compared(whole: Detection, half: Detection) -> tuple[np.ndarray, np.ndarray]:
    """How far the landmarks found in both lie apart, in pixels of the finer film; and whether flags differ, (n,)."""
    fine, coarse = whole.landmarks, half.landmarks
    apart = np.linalg.norm(2 * coarse.positions + 0.5 - fine.positions, axis=1)
    return apart[np.isfinite(apart)], np.array(fine.statuses) != np.array(coarse.statuses)


def measure(model: str, data: Path, most: int, enlarge: bool, table: Table, progress: Progress) -> None:
    """Add the row of one model."""
    bundle = find_bundle(model)
    folder, split, _ = SETS[bundle.schema.name]
    detector, rng = Detector(bundle, "cpu"), np.random.default_rng(0)
    moves, flags, once = [], [], 0
    images = films(data, folder, split, most)[0]
    for image in progress.track(images, description=bundle.name):
        array = enlarged(image.array, rng) if enlarge else even(image.array)
        whole, half = (detected(detector, pixels, image.name) for pixels in (array, halved(array)))
        if whole is None or half is None:
            once += (whole is None) != (half is None)
            continue
        apart, differ = compared(whole, half)
        moves.append(apart)
        flags.append(differ)
    apart = np.concatenate(moves)
    table.add_row(
        bundle.name,
        f"{len(moves)} ({once} refused once)",
        f"{apart.mean():.3f}",
        f"{np.quantile(apart, 0.99):.2f}",
        f"{apart.max():.2f}",
        f"{(apart <= LIMIT).mean():.2%}",
        f"{np.concatenate(flags).mean():.2%}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("models", nargs="*", help="names of bundles or folders; all for films by default")
    parser.add_argument("--films", type=int, default=40, help="most films of a model")
    parser.add_argument("--enlarge", action="store_true", help="enlarge every film twice before")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title="Points at half the resolution, in pixels of the finer film")
    for heading in ("model", "films", "mean", "99th percentile", "most", f"within {LIMIT} px", "flags that differ"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    models = arguments.models or [b.name for b in list_bundles() if b.schema.name in SETS]
    with Progress(transient=True) as progress:
        for model in models:
            measure(model, arguments.data, arguments.films, arguments.enlarge, table, progress)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
