"""`python -m LandmarkDetectionLib.phantoms OUT --count N --seed S [--field crop|wide|bilateral]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dataset import SIZES, write_dataset


def main(arguments: list[str] | None = None) -> None:
    """Write a data set of phantom films."""
    parser = argparse.ArgumentParser(
        prog="LandmarkDetectionLib.phantoms", description="Write a data set of knee film phantoms."
    )
    parser.add_argument("out", type=Path, help="folder to write: images/, landmarks.csv, dataset.json")
    parser.add_argument("--count", type=int, default=20, help="number of films")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first film; the others count up from it")
    parser.add_argument("--field", choices=sorted(SIZES), default="crop", help="what the film shows")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="pixels of each film")
    parser.add_argument("--split", default="train", help="name of the split written into the table")
    chosen = parser.parse_args(arguments)
    if chosen.count < 1:
        parser.error("--count must be at least 1")
    if chosen.size and min(chosen.size) < 96:
        parser.error("--size must be at least 96 pixels each way")
    size = tuple(chosen.size) if chosen.size else None
    write_dataset(chosen.out, chosen.count, chosen.seed, chosen.field, size, chosen.split)


if __name__ == "__main__":
    main()
