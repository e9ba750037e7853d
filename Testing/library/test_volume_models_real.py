"""Real CT and MR: what a model that learnt from phantoms alone does on people."""

from __future__ import annotations

import numpy as np
import pytest
from LandmarkDetectionLib.images import Image, read_image
from LandmarkDetectionLib.inference.bundle import find_bundle
from LandmarkDetectionLib.inference.detector import Detector

LABELS = {"T12": 32, "L1": 31, "L2": 30}
"""Vertebrae whose centers are in view, by their number in the class map of the masks."""

NEAR = 10.0
"""mm from the middle of a mask, arch included, to the center of the body."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(find_bundle("spine-ct"), device="cpu")


@pytest.fixture(scope="module")
def masks(landmark_data) -> Image:
    return read_image(landmark_data / "volumes" / "example_seg.nii.gz")


def test_vertebrae_of_a_real_ct_are_near_their_masks_and_on_their_level_or_flagged(detector, masks, landmark_data):
    image = read_image(landmark_data / "volumes" / "example_ct_sm.nii.gz")
    detection = detector.detect(image, force=True)
    found = detection.landmarks
    flagged = any("levels may be off by one" in note for note in detection.notes)
    for level, number in LABELS.items():
        middle = masks.frame.to_physical(np.argwhere(masks.array == number).mean(axis=0)[::-1])
        row = found.schema.index(f"{level}_C")
        apart = np.linalg.norm(image.frame.to_physical(found.positions[row]) - middle)
        assert apart <= NEAR or found.statuses[row] == "review" or flagged, f"{level} is {apart:.1f} mm off"


@pytest.mark.parametrize("name", ["example_mr_sm.nii.gz", "sct_t2_cervical.nii.gz"])
def test_a_real_mr_is_read_when_forced_and_its_fit_is_said(detector, landmark_data, name):
    detection = detector.detect(read_image(landmark_data / "volumes" / name), force=True)
    assert 0 <= detection.fitness <= 1
    assert detection.fitness >= 0.5 or any("fits the model" in note for note in detection.notes)
