"""Data sets of volume phantoms: what is written is what evaluation and training read, the same bytes every time."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from LandmarkDetectionLib.evaluation.dataset import read_dataset
from LandmarkDetectionLib.images import read_image
from LandmarkDetectionLib.phantoms import knee_scene, spine_scene
from LandmarkDetectionLib.phantoms.__main__ import main
from LandmarkDetectionLib.phantoms.volume_dataset import write_knee_volumes, write_spine_volumes
from LandmarkDetectionLib.phantoms.volumes import make_knee_volume


def test_data_sets_are_read_back_and_are_the_same_every_time(tmp_path):
    for folder in ("one", "two"):
        write_knee_volumes(tmp_path / folder, 1, seed=21, modalities=("t2",), fields=("joint",), spacing=4.0)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    data = read_dataset(tmp_path / "one")
    assert data.landmarks == knee_scene.LANDMARKS and [case.side for case in data.cases] == ["left"]
    description = json.loads((tmp_path / "one" / "dataset.json").read_text(encoding="utf-8"))
    assert description["labels"] == knee_scene.LABELS and description["dims"] == 3
    for number, case in enumerate(data.cases, start=21):
        phantom = make_knee_volume(number, "t2", case.side, spacing=4.0)
        assert np.allclose(case.truth, phantom.landmarks, atol=1e-4, equal_nan=True)
        image = read_image(case.path)
        assert np.array_equal(image.array, phantom.voxels)
        seen = np.isfinite(case.truth).all(axis=1)
        assert seen.sum() > 10
        assert np.abs(image.frame.to_physical(case.truth[seen]) - phantom.physical()[seen]).max() < 0.002
        kept = read_image(tmp_path / "one" / "labels" / case.name)
        assert np.array_equal(kept.array, phantom.labels)


def test_spine_data_set_leaves_the_fields_of_absent_vertebrae_empty(tmp_path):
    arguments = ["--anatomy", "spine", "--modality", "ct", "--field", "cervical", "--spacing", "5"]
    main([str(tmp_path), "--count", "1", "--seed", "5", *arguments])
    (case,) = read_dataset(tmp_path).cases
    truth = dict(zip(spine_scene.LANDMARKS, case.truth, strict=True))
    assert np.isnan(truth["L3_C"]).all() and np.isfinite(truth["C6_C"]).all()
    kept = read_image(tmp_path / "labels" / case.name)
    assert np.allclose(spine_scene.spine_scene(5).landmarks_in(kept.frame), case.truth, atol=0.001, equal_nan=True)
    x, y, z = np.rint(truth["C7_C"]).astype(int)
    assert kept.array[z, y, x] == spine_scene.LABELS["C7"]


def test_splits_are_written_one_after_the_other(tmp_path):
    for seed, split in ((3, "train"), (4, "val"), (4, "val")):
        write_knee_volumes(tmp_path, 1, seed, fields=("joint",), spacing=6.0, split=split)
    with (tmp_path / "landmarks.csv").open(encoding="utf-8") as file:
        assert [(row["seed"], row["split"]) for row in csv.DictReader(file)] == [("3", "train"), ("4", "val")]


def test_empty_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_spine_volumes(tmp_path, 0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--field", "crop"], "joint, wide"), (["--size", "200", "200"], "--spacing"), (["--spacing", "0"], "0.2")],
)
def test_command_refuses_what_belongs_to_films(tmp_path, capsys, arguments, word):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--modality", "ct", *arguments])
    assert word in capsys.readouterr().err
