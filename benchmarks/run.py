"""`make bench`: this project's detector beside KNEEL as published, as ratios, each figure from a fresh process."""

# Only what is small may be imported here: a child process counts its parent's memory into its own peak.
from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from films import LARGE_SIDE, sample_film
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "latency.json"
NAMES = {"ours": "knee-ap-radiograph", "kneel": "KNEEL as published"}


def python(script: str, *arguments: str) -> str:
    """Standard output of one of this folder's scripts, run in a process of its own."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks/{script} {' '.join(arguments)} failed; its message is above.")
    return done.stdout


def measure_all(films: list[Path], repeats: int, threads: int) -> list[dict]:
    """One result for each film and contestant, contestants in turn on each film."""
    results = []
    for film in films:
        for contestant in NAMES:
            options = ("--repeats", str(repeats), "--threads", str(threads))
            results.append(json.loads(python("latency.py", contestant, str(film), *options).splitlines()[-1]))
    return results


def spread(times: dict[str, float] | None) -> str:
    """Median and 95th percentile in words."""
    return f"{times['median']:.1f} ({times['p95']:.1f})" if times else "none"


def rows(ours: dict, kneel: dict) -> list[tuple[str, str, str, str]]:
    """Figures of both and how many times more KNEEL needs."""

    def detection(result: dict) -> float:
        return result["detection_ms"]["median"]

    release = ours["release_ms"]["median"]
    return [
        (
            "detection, ms",
            spread(ours["detection_ms"]),
            spread(kneel["detection_ms"]),
            f"{detection(kneel) / detection(ours):.1f}",
        ),
        ("live follow, ms", spread(ours["follow_ms"]), "none", ""),
        (
            "re-prediction on release, ms",
            spread(ours["release_ms"]),
            f"none; run again: {detection(kneel):.1f}",
            f"{detection(kneel) / release:.1f}",
        ),
        (
            "peak memory, MiB",
            f"{ours['peak_memory_mib']:.0f}",
            f"{kneel['peak_memory_mib']:.0f}",
            f"{kneel['peak_memory_mib'] / ours['peak_memory_mib']:.2f}",
        ),
        (
            "parameters",
            f"{ours['parameters']:,}",
            f"{kneel['parameters']:,}",
            f"{kneel['parameters'] / ours['parameters']:.1f}",
        ),
    ]


def show(results: list[dict]) -> None:
    """One table for each film."""
    console = Console()
    for film in dict.fromkeys(result["film"] for result in results):
        pair = {result["contestant"]: result for result in results if result["film"] == film}
        size = " x ".join(str(n) for n in pair["ours"]["size"])
        table = Table(title=f"{film}, {size} pixels: median (95th percentile)")
        table.add_column("")
        for heading in (*NAMES.values(), "KNEEL / ours"):
            table.add_column(heading, justify="right")
        for row in rows(pair["ours"], pair["kneel"]):
            table.add_row(*row)
        console.print(table)


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="detections that count, for each contestant and film")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    arguments = parser.parse_args()
    film = sample_film()
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / f"{film.stem}-{LARGE_SIDE}.mha"
        python("films.py", str(film), str(large))
        results = measure_all([film, large], arguments.repeats, arguments.threads)
    machine = {
        "platform": platform.platform(),
        "processor": platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "threads": arguments.threads,
    }
    RESULTS.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")
    show(results)
    print(f"written to {RESULTS.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
