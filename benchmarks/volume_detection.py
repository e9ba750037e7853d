"""How the time and the memory of a detection grow with the size of a CT.

Each size runs in a process of its own, which reads the volume, detects, and says how long that took and how much memory
it held at most, the volume included. All sizes show the same phantom, on finer or longer grids.

    python benchmarks/volume_detection.py [--model NAME] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SIZES = ((256, 256, 150), (512, 512, 150), (512, 512, 300), (512, 512, 600), (512, 512, 1000))
FIELD = 410.0  # mm across
SLICE = 1.0  # mm
COARSE = 3.0  # mm of the voxels that the phantom is computed on
_SLAB = 50


def written(folder: Path, size: tuple[int, int, int]) -> Path:
    """A trunk, of the size and as long as its slices reach, as an array in a file."""
    from LandmarkDetectionLib.geometry import Frame
    from LandmarkDetectionLib.phantoms.scan_frames import placed
    from LandmarkDetectionLib.phantoms.spine_scene import spine_scene
    from LandmarkDetectionLib.phantoms.volumes import make_spine_volume
    from LandmarkDetectionLib.preprocessing.resample import sample

    scene = spine_scene(3, metal=False)
    middle = scene.landmarks().mean(axis=0) - (0, 40, 0)
    height = size[2] * SLICE
    count = np.ceil(np.array([FIELD, FIELD, height]) / COARSE).astype(int)
    phantom = make_spine_volume(3, frame=placed(middle, count, COARSE), metal=False)
    fine = placed(middle, size, (FIELD / size[0], FIELD / size[1], SLICE))
    path = folder / f"{size[0]}x{size[1]}x{size[2]}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=size[::-1])
    for start in range(0, size[2], _SLAB):
        part: Frame = fine.cropped((0, 0, start), (size[0], size[1], min(_SLAB, size[2] - start)))
        array[start : start + _SLAB] = np.rint(sample(phantom.image(), part))
    (folder / f"{path.stem}.json").write_text(json.dumps(fine.to_dict()), encoding="utf-8")
    return path


def measured(path: Path, model: str, threads: int) -> dict:
    """Detection in this process."""
    import torch
    from LandmarkDetectionLib.geometry import Frame
    from LandmarkDetectionLib.images import Image
    from LandmarkDetectionLib.inference.bundle import find_bundle
    from LandmarkDetectionLib.inference.detector import Detector
    from LandmarkDetectionLib.inference.session import Session

    torch.set_num_threads(threads)
    frame = Frame.from_dict(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    detector = Detector(find_bundle(model), device="cpu")
    image = Image(np.load(path), frame, path.name)
    start = time.perf_counter()
    detection = detector.detect(image)
    seconds = time.perf_counter() - start
    found = [name for name, status in zip(detection.landmarks.schema.ids, detection.landmarks.statuses, strict=True)
             if status != "absent"]  # fmt: skip
    place = detection.landmarks.positions[detection.landmarks.schema.ids.index(found[len(found) // 2])]
    session = Session(detection)
    start = time.perf_counter()
    session.move(found[len(found) // 2], place + 2.0)
    return {
        "seconds": seconds,
        "correction_ms": 1000 * (time.perf_counter() - start),
        "volume_MiB": image.array.nbytes / 2**20,
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "landmarks": len(found),
    }


def main() -> None:
    """Run all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="spine-ct")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measured(chosen.measure, chosen.model, chosen.threads)))
        return
    print(f"{chosen.model}, {chosen.threads} threads; seconds after loading, peak with the volume and all libraries")
    print(f"{'voxels':>18} {'volume MiB':>11} {'seconds':>8} {'x first':>8} {'peak MiB':>9} {'correction ms':>14}")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = written(Path(folder), size)
            command = [sys.executable, __file__, "--model", chosen.model, "--threads", str(chosen.threads)]
            run = subprocess.run([*command, "--measure", str(path)], capture_output=True, text=True, check=True)
            figures = json.loads(run.stdout)
            path.unlink()
            first = first or figures["seconds"]
            print(
                f"{' x '.join(map(str, size)):>18} {figures['volume_MiB']:11.0f} {figures['seconds']:8.1f} "
                f"{figures['seconds'] / first:8.2f} {figures['peak_MiB']:9.0f} {figures['correction_ms']:14.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
