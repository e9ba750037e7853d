"""``detect``: every image is tried, a refused one is named, and the others still finish."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import LandmarkDetectionError
from ..images import Image, read_image
from ..landmarks import LandmarkSet
from ..markups_file import reported_errors, write_markups
from .output import INCOMPLETE, console, error_console, load_bundle, output_folder

COLUMNS = (
    *("image", "model", "landmark", "status", "x_px", "y_px", "z_px", "r_mm", "a_mm", "s_mm"),
    *("expected_error", "error_unit", "review"),
)


_NAMED = 20
"""Landmarks to be reviewed that are named one by one."""


def run_detect(
    images: list[Path],
    model: str,
    out: Path,
    spacing: float | None,
    side: str,
    device: str,
    overlay: bool,
    force: bool,
) -> int:
    """Write the table, the Markups files and the pictures; 0 only when every image was handled."""
    from ..inference.detector import Detector

    folder = output_folder(out)
    detector = Detector(load_bundle(model), device=device)
    console.print(f"Computing on {detector.device}: {detector.device_reason}")
    table = folder / "landmarks.csv"
    stems: set[str] = set()
    refused = 0
    with _opened(table) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for path in images:
            try:
                detection = _detect_one(detector, path, folder, stems, spacing, side, overlay, force)
            except LandmarkDetectionError as error:
                refused += 1
                error_console.print(f"{path.name}: {error}")
                writer.writerow({"image": path.name, "status": "refused"})
            else:
                writer.writerows(landmark_rows(path.name, detection.bundle_name, detection.landmarks))
                console.print(_sentence(path.name, detection))
                for note in detection.notes:
                    console.print(f"  {note}")
            file.flush()
    console.print(f"{len(images) - refused} of {len(images)} images handled, results in {folder}")
    return INCOMPLETE if refused else 0


def _opened(table: Path):
    try:
        return table.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise LandmarkDetectionError(f"'{table}' cannot be written ({error.strerror}); close or remove it.") from error


def _detect_one(
    detector, path: Path, folder: Path, stems: set[str], spacing: float | None, side: str, overlay: bool, force: bool
):
    stem = stem_of(path)
    if stem in stems:
        raise LandmarkDetectionError(
            f"Another image of this run is called '{stem}' too and its results would be overwritten; run it apart."
        )
    image = read_image(path, spacing=spacing)
    detection = detector.detect(image, side=side, force=force)
    try:
        target = folder / f"{stem}.mrk.json"
        write_markups(
            target, detection.landmarks, image.scene_frame, detection.certainty, detection.review_threshold
        )
        if overlay:
            _write_overlay(folder / f"{stem}.png", path, image, detection.landmarks)
    except OSError as error:
        raise LandmarkDetectionError(f"The results of '{path.name}' cannot be written ({error}).") from error
    stems.add(stem)
    return detection


def stem_of(path: Path) -> str:
    """The name of an image without its ending, of which ``.nii.gz`` is one."""
    return path.stem.removesuffix(".nii") if path.suffix == ".gz" else path.stem


def _write_overlay(target: Path, source: Path, image: Image, landmarks: LandmarkSet) -> None:
    """The film with its landmarks, or three slices of a volume through the middle of them."""
    from ..overlay import draw_landmarks, draw_slices

    if target.resolve() == source.resolve():
        raise LandmarkDetectionError(f"The picture would replace the film '{source}' itself; choose another --out.")
    draw = draw_landmarks if image.dims == 2 else draw_slices
    draw(image, landmarks).save(target)


def landmark_rows(image: str, model: str, landmarks: LandmarkSet) -> Iterator[dict[str, str]]:
    """One row of the table for each landmark; millimetres stay empty where the spacing is unknown, z on a film."""
    errors, unit = reported_errors(landmarks)
    ras = landmarks.physical() * [-1, -1, 1]
    for k, id in enumerate(landmarks.schema.ids):
        row = {"image": image, "model": model, "landmark": id, "status": landmarks.statuses[k]}
        row["review"] = "true" if landmarks.statuses[k] == "review" else "false"
        if np.isfinite(landmarks.positions[k]).all():
            row.update(zip(("x_px", "y_px", "z_px"), map(_text, landmarks.positions[k]), strict=False))
            row.update(expected_error=_text(errors[k]), error_unit=unit)
            if landmarks.frame.has_millimetres:
                row.update(zip(("r_mm", "a_mm", "s_mm"), map(_text, ras[k]), strict=True))
        yield row


def _text(value: float) -> str:
    return f"{value + 0.0:.4f}" if np.isfinite(value) else ""


def _sentence(name: str, detection) -> str:
    errors, unit = reported_errors(detection.landmarks)
    states = zip(detection.landmarks.schema.ids, detection.landmarks.statuses, strict=True)
    review = [id for id, status in states if status == "review"]
    more = f" and {len(review) - _NAMED} more" if len(review) > _NAMED else ""
    check = f"; please review {', '.join(review[:_NAMED])}{more}" if review else ""
    side = f"{detection.side} side ({100 * detection.side_probability:.0f} %), " if detection.side else ""
    found = np.isfinite(detection.landmarks.positions).all(axis=1) & np.isfinite(errors)
    if not found.any():
        return f"{name}: {side}no landmark was found"
    if detection.landmarks.frame.dims == 3:
        return (
            f"{name}: {side}{found.sum()} of {len(found)} landmarks found, "
            f"mean expected error {errors[found].mean():.1f} {unit}{check}"
        )
    return f"{name}: {side}mean expected error {np.nanmean(errors):.1f} {unit}{check}"
