"""The whole way with the bundled model: sample file, detection, a real drag, save, reopen, drag again."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import slicer.util
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.mrml.markups import create_markups, local_positions, read_positions
from LandmarkDetectionLib.mrml.parameters import find_results, restore_placement, restore_session, save_session
from LandmarkDetectionLib.mrml.volumes import volume_image
from mrml.scenes import track
from mrml.test_tracking import drag, moved
from slicer_host import SliceView

MODEL = "knee-ap-radiograph"
SAMPLE = "knee-right.dcm"


@pytest.fixture(scope="module")
def detector():
    from LandmarkDetectionLib.inference.bundle import find_bundle
    from LandmarkDetectionLib.inference.detector import Detector

    return Detector(find_bundle(MODEL))


def test_sample_film_is_detected_corrected_saved_and_corrected_again(application, repository, detector, tmp_path):
    samples = repository / "Resources" / "Samples"
    volume = slicer.util.loadVolume(str(samples / SAMPLE))
    taken = volume_image(volume)
    detection = detector.detect(taken.image)
    node = create_markups(volume, detection, taken.placement)
    session = Session(detection)
    save_session(node, session)
    work = track(node, session)
    work.placement = taken.placement
    assert detection.side == "right"
    errors = moved(read_positions(node, taken.placement), true_positions(samples, detection))
    assert errors.mean() < 0.05 * taken.image.frame.size[0]

    view = SliceView(application, volume)
    before = drag(view, work, 0, shift=(20, -15))
    after = read_positions(node, taken.placement)
    assert (moved(before, after) > 0.01).sum() >= 8
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    view.close()
    application.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))

    (node,) = find_results()
    work = track(node, restore_session(node))
    work.placement = restore_placement(node)
    placed = local_positions(node)[0]
    drag(SliceView(application, node.GetNodeReference("LandmarkDetection.inputVolume")), work, 12, shift=(-15, 15))
    assert work.session.pinned == {"T0", "F3"}
    assert np.allclose(local_positions(node)[0], placed, atol=1e-4)
    while work.tracker.undo():
        pass
    assert np.allclose(read_positions(node, work.placement), detection.landmarks.positions, atol=1e-6)
    assert not work.errors


def true_positions(samples, detection) -> np.ndarray:
    """(16, 2) where the generator of the sample put the landmarks, index coordinates."""
    with (samples / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["image"].endswith(SAMPLE)]
    return np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in detection.landmarks.schema.ids])
