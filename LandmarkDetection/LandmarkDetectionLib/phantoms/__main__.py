"""`python -m LandmarkDetectionLib.phantoms OUT --count N --seed S [--anatomy ...] [--field ...] [--modality ...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dataset import SIZES, write_dataset, write_spine_dataset
from .scan_frames import KNEE_FIELDS, SPINE_FIELDS, SPINE_TURNS
from .spine import SIZES as SPINE_SIZES
from .volume_dataset import write_knee_volumes, write_spine_volumes

FIELDS = {"knee": tuple(SIZES), "spine": tuple(SPINE_SIZES)}
VOLUME_FIELDS = {"knee": KNEE_FIELDS, "spine": tuple(SPINE_FIELDS)}


def main(arguments: list[str] | None = None) -> None:
    """Write a data set of phantom films or volumes."""
    parser = argparse.ArgumentParser(
        prog="LandmarkDetectionLib.phantoms", description="Write a data set of knee or spine phantoms."
    )
    parser.add_argument("out", type=Path, help="folder to write: images/, landmarks.csv, dataset.json")
    parser.add_argument("--count", type=int, default=20, help="number of films or volumes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first one; the others count up from it")
    parser.add_argument("--anatomy", choices=sorted(FIELDS), default="knee", help="what they show")
    parser.add_argument("--field", help="what the film shows of it; the first of each by default: " + _choices())
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="pixels of each film")
    parser.add_argument("--split", default="train", help="name of the split written into the table")
    modality = "volumes instead of films, in turns; fields in turns unless --field names one"
    parser.add_argument("--modality", nargs="+", choices=["ct", "t1", "t2"], help=modality)
    parser.add_argument("--spacing", type=float, help="mm of even voxels of volumes; drawn by default")
    chosen = parser.parse_args(arguments)
    if chosen.count < 1:
        parser.error("--count must be at least 1")
    if chosen.modality:
        _write_volumes(parser, chosen)
        return
    field = chosen.field or FIELDS[chosen.anatomy][0]
    if field not in FIELDS[chosen.anatomy]:
        parser.error(f"--field of a {chosen.anatomy} must be one of {', '.join(FIELDS[chosen.anatomy])}")
    if chosen.size and min(chosen.size) < 96:
        parser.error("--size must be at least 96 pixels each way")
    size = tuple(chosen.size) if chosen.size else None
    write = write_dataset if chosen.anatomy == "knee" else write_spine_dataset
    write(chosen.out, chosen.count, chosen.seed, field, size, chosen.split)


def _write_volumes(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    fields = VOLUME_FIELDS[chosen.anatomy]
    if chosen.field and chosen.field not in fields:
        parser.error(f"--field of a {chosen.anatomy} volume must be one of {', '.join(fields)}")
    if chosen.size:
        parser.error("--size is for films; give --spacing for volumes")
    if chosen.spacing is not None and not 0.2 <= chosen.spacing <= 10:
        parser.error("--spacing must lie between 0.2 and 10 mm")
    write = write_knee_volumes if chosen.anatomy == "knee" else write_spine_volumes
    turns = KNEE_FIELDS if chosen.anatomy == "knee" else SPINE_TURNS
    fields = (chosen.field,) if chosen.field else turns
    write(chosen.out, chosen.count, chosen.seed, chosen.modality, fields, chosen.spacing, chosen.split)


def _choices() -> str:
    films = "; ".join(f"{anatomy}: {', '.join(fields)}" for anatomy, fields in FIELDS.items())
    volumes = "; ".join(f"{anatomy}: {', '.join(fields)}" for anatomy, fields in VOLUME_FIELDS.items())
    return f"films of {films}; volumes of {volumes}"


if __name__ == "__main__":
    main()
