"""`python -m LandmarkDetectionLib.phantoms OUT --count N --seed S [--anatomy knee|spine] [--field ...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dataset import SIZES, write_dataset, write_spine_dataset
from .spine import SIZES as SPINE_SIZES

FIELDS = {"knee": tuple(SIZES), "spine": tuple(SPINE_SIZES)}


def main(arguments: list[str] | None = None) -> None:
    """Write a data set of phantom films."""
    parser = argparse.ArgumentParser(
        prog="LandmarkDetectionLib.phantoms", description="Write a data set of knee or spine film phantoms."
    )
    parser.add_argument("out", type=Path, help="folder to write: images/, landmarks.csv, dataset.json")
    parser.add_argument("--count", type=int, default=20, help="number of films")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first film; the others count up from it")
    parser.add_argument("--anatomy", choices=sorted(FIELDS), default="knee", help="what is on the films")
    parser.add_argument("--field", help="what the film shows of it; the first of each by default: " + _choices())
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="pixels of each film")
    parser.add_argument("--split", default="train", help="name of the split written into the table")
    chosen = parser.parse_args(arguments)
    field = chosen.field or FIELDS[chosen.anatomy][0]
    if field not in FIELDS[chosen.anatomy]:
        parser.error(f"--field of a {chosen.anatomy} must be one of {', '.join(FIELDS[chosen.anatomy])}")
    if chosen.count < 1:
        parser.error("--count must be at least 1")
    if chosen.size and min(chosen.size) < 96:
        parser.error("--size must be at least 96 pixels each way")
    size = tuple(chosen.size) if chosen.size else None
    write = write_dataset if chosen.anatomy == "knee" else write_spine_dataset
    write(chosen.out, chosen.count, chosen.seed, field, size, chosen.split)


def _choices() -> str:
    return "; ".join(f"{anatomy}: {', '.join(fields)}" for anatomy, fields in FIELDS.items())


if __name__ == "__main__":
    main()
