"""Measures one contestant on one film in this process and prints one line of JSON; `run.py` starts it."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from contestants import CONTESTANTS
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.inference.session import Session

DRAG_STEPS = 20
"""Mouse events of one drag."""


def milliseconds(action: Callable[[], object]) -> tuple[float, object]:
    """Wall time of an action, and what it returned."""
    start = time.perf_counter()
    result = action()
    return 1000 * (time.perf_counter() - start), result


def peak_memory() -> float:
    """Largest resident size of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def summary(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median": statistics.median(times), "p95": float(np.percentile(times, 95))}


def correct(session: Session) -> dict[str, dict[str, float]]:
    """Drags every landmark once by 1 % of the image's width, releases it, and takes it back."""
    follow, release = [], []
    reach = 0.01 * session.landmarks.frame.size[0]
    for row, name in enumerate(session.landmarks.schema.ids):
        start = session.landmarks.positions[row].copy()
        if not np.isfinite(start).all():
            continue
        for step in range(1, DRAG_STEPS + 1):
            place = start + reach * step / DRAG_STEPS
            follow.append(milliseconds(lambda place=place, name=name: session.move(name, place, live=True))[0])
        release.append(milliseconds(lambda place=place, name=name: session.move(name, place))[0])
        session.undo()
    return {"follow_ms": summary(follow), "release_ms": summary(release)}


def measure(contestant: str, film: Path, repeats: int, threads: int) -> dict:
    """All figures of one contestant on one film."""
    torch.set_num_threads(threads)
    read, image = milliseconds(lambda: read_image(film))
    load, subject = milliseconds(CONTESTANTS[contestant])
    first, found = milliseconds(lambda: subject.detect(image))
    times = [milliseconds(lambda: subject.detect(image))[0] for _ in range(repeats)]
    result = {
        "contestant": contestant,
        "film": film.name,
        "size": list(image.frame.size),
        "read_ms": read,
        "load_ms": load,
        "first_detection_ms": first,
        "detection_ms": summary(times),
        "peak_memory_mib": peak_memory(),
        "parameters": subject.parameters(),
    }
    session = subject.session(found)
    if session is not None:
        result |= correct(session)
        result["peak_memory_mib"] = peak_memory()
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("film", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.contestant, arguments.film, arguments.repeats, arguments.threads)))
