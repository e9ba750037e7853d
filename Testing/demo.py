"""The main job, end to end, on the sample films: detect, drag the worst point to its place in a slice view, save.

Writes into ``demo-output/``: for each sample the scene (.mrb), landmarks (.mrk.json, .csv) and pictures of the view.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import slicer.util
from rich.console import Console
from rich.table import Table
from slicer_host import SliceView, make_app

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "LandmarkDetection"))

from LandmarkDetectionLib.cli.detect import landmark_rows  # noqa: E402
from LandmarkDetectionLib.inference.bundle import find_bundle  # noqa: E402
from LandmarkDetectionLib.inference.detector import Detector  # noqa: E402
from LandmarkDetectionLib.inference.session import Session  # noqa: E402
from LandmarkDetectionLib.markups_file import reported_errors  # noqa: E402
from LandmarkDetectionLib.mrml.display import update_regions  # noqa: E402
from LandmarkDetectionLib.mrml.markups import create_markups  # noqa: E402
from LandmarkDetectionLib.mrml.tracking import LandmarkTracker  # noqa: E402
from LandmarkDetectionLib.mrml.volumes import volume_image  # noqa: E402

MODEL = "knee-ap-radiograph"
SAMPLES = ("knee-right.dcm", "knee-left.png")
console = Console(width=120)


def fail(error: Exception) -> None:
    """What goes wrong while a point is followed ends the demo."""
    raise error


def true_positions(name: str, ids: tuple[str, ...]) -> np.ndarray:
    """(n, 2) where the phantom of a sample has its landmarks."""
    with (ROOT / "Resources" / "Samples" / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["image"] == name]
    return np.array([[float(row[f"{id}_{axis}"]) for axis in "xy"] for id in ids])


def print_landmarks(name: str, session: Session, dragged: str, truth: np.ndarray) -> None:
    """Landmarks, errors, and how far the others followed the one that was dragged."""
    landmarks = session.detection.landmarks
    before = landmarks.positions
    errors, unit = reported_errors(landmarks)
    table = Table(title=f"{name}: {session.detection.side} knee, {MODEL}")
    for heading in ("landmark", "x px", "y px", f"expected error {unit}", "true error px", f"moved with {dragged} px"):
        table.add_column(heading, justify="right" if heading != "landmark" else "left")
    for row, landmark in enumerate(landmarks.schema.landmarks):
        x, y = before[row]
        apart = float(np.linalg.norm(before[row] - truth[row]))
        followed = float(np.linalg.norm(session.landmarks.positions[row] - before[row]))
        values = (x, y, errors[row], apart, followed)
        table.add_row(f"{landmark.id} {landmark.title}", *(f"{value:.1f}" for value in values))
    console.print(table)


def write_table(path: Path, name: str, landmarks) -> None:
    """The landmarks as the command line writes them."""
    rows = list(landmark_rows(name, MODEL, landmarks))
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def run(name: str, detector: Detector, out: Path) -> None:
    """One sample in a scene of its own."""
    app = make_app()
    volume = slicer.util.loadVolume(str(ROOT / "Resources" / "Samples" / name))
    taken = volume_image(volume)
    detection = detector.detect(taken.image)
    truth = true_positions(name, detection.landmarks.schema.ids)
    worst = int(np.argmax(np.linalg.norm(detection.landmarks.positions - truth, axis=1)))
    node = create_markups(volume, detection, taken.placement)
    session = Session(detection)
    tracker = LandmarkTracker(node, session, on_error=fail)
    tracker.start()
    update_regions(node, session.landmarks, taken.placement, detection.review_threshold)
    view = SliceView(app, volume, size=(900, 700))
    stem = out / Path(name).stem
    view.save(f"{stem}-detected.png")
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(worst, position)
    view.drag(view.pixel(position), view.pixel(taken.placement.to_local(truth[worst])))
    view.save(f"{stem}-corrected.png")
    print_landmarks(name, session, detection.landmarks.schema.ids[worst], truth)
    for note in detection.notes:
        console.print(f"  {note}")
    write_table(Path(f"{stem}.csv"), name, session.landmarks)
    slicer.util.saveNode(node, f"{stem}.mrk.json")
    slicer.util.saveScene(f"{stem}.mrb")
    tracker.stop()
    view.close()
    app.close()


def main() -> None:
    """Both samples."""
    out = ROOT / "demo-output"
    out.mkdir(exist_ok=True)
    bundle = find_bundle(MODEL)
    detector = Detector(bundle)
    console.print(f"{bundle.title} {bundle.version}. {bundle.terms}")
    console.print(detector.device_reason)
    for name in SAMPLES:
        run(name, detector, out)
    console.print(f"Written to {out.relative_to(ROOT)}: " + ", ".join(sorted(path.name for path in out.iterdir())))


if __name__ == "__main__":
    main()
