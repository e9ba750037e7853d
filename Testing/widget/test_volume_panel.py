"""Stand-in host tests: volumes in the panel. Models that fit the image, levels, all slice views, progress, samples."""

from __future__ import annotations

import csv
import json
import shutil
import threading

import numpy as np
import pytest
import slicer
import slicer.util
from LandmarkDetectionLib.errors import Cancelled, LandmarkDetectionError
from LandmarkDetectionLib.inference import bundle
from LandmarkDetectionLib.inference.worker import DetectionWorker
from LandmarkDetectionLib.mrml.names import NAMES_ROLE
from LandmarkDetectionLib.mrml.volumes import volume_image
from mrml.scenes import film_volume, knee_detection
from mrml.test_volumes import put_under, rotation
from mrml.volume_scenes import (
    LPS,
    add_volume,
    follow_truth,
    knee_phantom,
    prior,
    spine_phantom,
    truth_detection,
    world_points,
)
from PySide6 import QtCore, QtTest
from slicer_host import SliceView
from widget.test_spine_panel import said, session, show_detection

VOLUME_MODEL = "volume-drawn"


def shown_models(widget) -> list[str]:
    selector = widget.ui.modelSelector
    return [selector.itemText(k) for k in range(selector.count)]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder in place of the bundled models, with two for films; returns it."""
    monkeypatch.setattr(bundle, "BUNDLED_MODELS", tmp_path)
    monkeypatch.setenv("LANDMARK_MODELS", str(tmp_path / "none"))
    for name, dims in (("film-a", 2), ("film-b", 2)):
        add_model(tmp_path, name, dims)
    return tmp_path


def add_model(folder, name: str, dims: int) -> None:
    """As much of a model as is read before it is used."""
    (folder / name).mkdir()
    (folder / name / "model.json").write_text(json.dumps({"schema": {"dims": dims}}), encoding="utf-8")


@pytest.fixture
def spine(widget):
    """A lumbar spine of 154 points shown in the panel; returns its markups node."""
    return shown(widget, add_volume(spine_phantom(), "spine"), "spine")


@pytest.fixture
def knee(widget):
    """A knee volume of 15 points shown in the panel; returns its markups node."""
    return shown(widget, add_volume(knee_phantom(), "knee"), "knee")


def shown(widget, volume, anatomy: str):
    node = follow_truth(volume, anatomy)
    widget._parameterNode.inputVolume = volume
    widget._parameterNode.landmarks = node
    return node


def ids(widget) -> list[str]:
    return [row.id for row in widget.panel.table.shown]


# Models


def test_films_are_offered_film_models_and_volumes_volume_models(host, module, models):
    add_model(models, "volume-a", 3)
    add_model(models, "volume-b", 3)
    widget = host.show(module)
    assert shown_models(widget) == ["film-a", "film-b", "volume-a", "volume-b"]  # nothing is chosen yet
    film, volume = film_volume("film.png"), add_volume(knee_phantom(), "knee")
    widget.ui.inputSelector.setCurrentNode(film)
    assert shown_models(widget) == ["film-a", "film-b"]
    widget.ui.modelSelector.setCurrentText("film-b")
    assert widget._parameterNode.model == "film-b"
    widget.ui.inputSelector.setCurrentNode(volume)
    assert shown_models(widget) == ["volume-a", "volume-b"] and widget._parameterNode.model == "volume-a"
    assert not widget.ui.spacingSpinBox.enabled and widget.ui.applyButton.enabled
    widget.ui.modelSelector.setCurrentText("volume-b")
    for node, name in ((film, "film-b"), (volume, "volume-b")):  # the last one of each kind comes back
        widget.ui.inputSelector.setCurrentNode(node)
        assert widget._parameterNode.model == name == widget.ui.modelSelector.currentText
    assert widget.logic.getParameterNode().model == "volume-b"


def test_a_volume_without_a_model_is_told_so_and_a_film_is_not(host, module, models):
    widget = host.show(module)
    film, volume = film_volume("film.png"), add_volume(knee_phantom(), "knee")
    widget.ui.inputSelector.setCurrentNode(volume)
    sentence = "No installed model is made for volumes; choose a film, or install a model for volumes."
    assert said(widget) == widget.ui.applyButton.toolTip == sentence and not widget.ui.applyButton.enabled
    widget.ui.inputSelector.setCurrentNode(film)
    assert widget.ui.applyButton.enabled and widget.ui.applyButton.toolTip == "Find the landmarks in the image"
    assert said(widget) == ""
    shutil.rmtree(models / "film-a")
    shutil.rmtree(models / "film-b")
    widget.panel.refresh()
    assert "No model was found" in widget.ui.applyButton.toolTip and not widget.ui.applyButton.enabled


def test_a_film_model_refuses_a_volume_in_a_script(host, module, model):
    from LandmarkDetection import LandmarkDetectionLogic

    with pytest.raises(LandmarkDetectionError, match="volume"):
        LandmarkDetectionLogic().detect(add_volume(knee_phantom(), "knee"), model)


# From Apply to the table, with progress and cancel


class PatchByPatch:
    """Stands where a volume model will: works in small steps, asks whether to stop at each, then tells the truth."""

    device, device_reason = "cpu", "CPU: drawn."

    def __init__(self) -> None:
        self.open, self.stopped = threading.Event(), threading.Event()

    def detect(self, image, side, progress, cancelled):
        step = 0
        while not self.open.wait(0.005):
            step += 1
            progress(min(0.9, step / 100), "Searching the volume")
            if cancelled():
                self.stopped.set()
                raise Cancelled("The detection was cancelled.")
        self.image = image
        return truth_detection(image.frame, "knee", name=VOLUME_MODEL)


@pytest.fixture
def patches(repository, model, tmp_path, monkeypatch) -> PatchByPatch:
    """What a model on disk that says it is made for volumes does when it is asked to detect."""
    source = repository / "LandmarkDetection" / "Resources" / "Models" / model
    shutil.copytree(source, tmp_path / VOLUME_MODEL)
    description = json.loads((source / "model.json").read_text(encoding="utf-8"))
    description["name"] = VOLUME_MODEL
    description["schema"]["dims"] = 3
    (tmp_path / VOLUME_MODEL / "model.json").write_text(json.dumps(description), encoding="utf-8")
    monkeypatch.setenv("LANDMARK_MODELS", str(tmp_path))
    prior("knee")  # made once, and not while a test waits
    detector = PatchByPatch()
    monkeypatch.setattr(DetectionWorker, "_load", lambda self, *arguments: detector)
    return detector


@pytest.fixture
def applied(host, module, patches):
    """The panel while a detection runs in a turned volume; returns it."""
    widget = host.show(module)
    volume = add_volume(knee_phantom(), "knee")
    put_under(volume, rotation(90, 2))
    widget.ui.inputSelector.setCurrentNode(volume)
    widget.ui.modelSelector.setCurrentText(VOLUME_MODEL)
    widget.ui.spacingSpinBox.setValue(0.3)  # of a film before; a volume says its own
    widget.ui.applyButton.click()
    assert host.process(lambda: said(widget) == "Searching the volume"), said(widget)
    return widget


def test_a_volume_goes_from_apply_to_the_table(host, applied, patches):
    assert host.process(lambda: applied.ui.progressBar.value >= 20)
    assert applied.ui.progressBar.visible and applied.ui.applyButton.text == "Cancel"
    patches.open.set()
    assert host.process(lambda: not applied.panel.busy)
    assert said(applied).startswith("15 landmarks found, right side (97 %).")
    node = applied._parameterNode.landmarks
    assert len(ids(applied)) == 15 == node.GetNumberOfControlPoints()
    # The image was handed over as the world shows it, so that the points lie where they belong.
    assert np.abs(patches.image.frame.direction() - np.eye(3)).max() < 0.2
    assert np.abs(world_points(node) - knee_phantom().physical() * LPS).max() < 1e-6
    assert "The surface holds the true point with 95 % probability" in applied.ui.legendLabel.text


def test_cancel_answers_at_once_and_ends_the_work(host, applied, patches):
    applied.ui.applyButton.click()
    # Before a single event was processed: nobody waits for the work to notice.
    assert said(applied) == "Cancelled." and applied.ui.applyButton.text == "Apply"
    assert not applied.ui.progressBar.visible
    assert patches.stopped.wait(20.0)
    host.process(lambda: False, timeout=0.2)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert said(applied) == "Cancelled."


def test_a_volume_under_a_nonlinear_transform_is_refused_in_the_panel(host, module, patches):
    from mrml.test_volumes import nonlinear_transform

    widget = host.show(module)
    volume = add_volume(knee_phantom(), "bent knee")
    volume.SetAndObserveTransformNodeID(nonlinear_transform("vtkMRMLGridTransformNode").GetID())
    widget.ui.inputSelector.setCurrentNode(volume)
    widget.ui.applyButton.click()
    assert said(widget) == "'bent knee' lies under a non-linear transform; harden the transform on it and apply again."
    assert not widget.panel.busy


# The table and the views


def test_a_row_takes_all_slice_views_to_its_landmark(host, widget, knee):
    put_under(widget._parameterNode.inputVolume, rotation(25, 0))
    views = [
        SliceView(host.app, widget._parameterNode.inputVolume, name, orientation, rotate_to_volume=False)
        for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))
    ]
    table = widget.ui.landmarkTable
    for number in (4, 11):
        item = table.item(number, 0)
        table.scrollToItem(item)
        center = table.visualItemRect(item).center()
        QtTest.QTest.mouseClick(table.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=center)
        wanted = world_points(knee)[widget.panel.table.shown[number].index]
        for view in views:
            shown_at = np.array([view.node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)])
            assert np.linalg.norm(shown_at - wanted) < 1e-3
    for view in views:
        view.close()


def test_154_points_are_listed_worst_first_and_the_absent_last(widget, spine):
    assert widget.ui.landmarkTable.rowCount == 154
    states = [row.state for row in widget.panel.table.shown]
    absent = [status == "absent" for status in session(widget).landmarks.statuses]
    assert states.count("not in the image") == sum(absent) > 100
    assert states[-sum(absent) :] == ["not in the image"] * sum(absent) and states[0] == "please check"


def test_the_table_can_be_narrowed_to_one_vertebra(widget, spine):
    selector = widget.ui.levelSelector
    assert selector.visible and selector.count == 23
    assert [selector.itemText(k) for k in (0, 1, 22)] == ["All levels", "C3", "L5"]
    selector.setCurrentText("L3")
    assert sorted(ids(widget)) == sorted(f"L3_{part}" for part in ("C", "SA", "SM", "SP", "IA", "IM", "IP"))
    widget.panel.table.select("L3_SP")
    node = widget._parameterNode.landmarks
    node.SetNthControlPointPositionWorld(0, 0.0, 0.0, 0.0)  # a correction elsewhere changes neither rows nor selection
    assert len(ids(widget)) == 7 and widget.panel.table.selected() == "L3_SP"
    selector.setCurrentIndex(0)
    assert len(ids(widget)) == 154


def test_next_turns_to_the_level_of_its_landmark(widget, spine):
    widget.ui.levelSelector.setCurrentText("C3")
    widget.ui.nextButton.click()
    name = session(widget).suggest_next()
    assert widget.panel.table.selected() == name
    assert widget.ui.levelSelector.currentText == name.split("_")[0] and len(ids(widget)) == 7
    names = spine.GetNodeReference(NAMES_ROLE)
    assert names.GetNthControlPointLabel(names.GetNumberOfControlPoints() - 1) == name


def test_labels_move_up_and_down_by_buttons_and_undo(widget, spine):
    before = world_points(spine)
    index = session(widget).landmarks.schema.index
    widget.ui.labelsUpButton.click()
    assert said(widget) == "All 22 labels were moved one level up; undo brings them back."
    np.testing.assert_allclose(world_points(spine)[index("L4_C")], before[index("L3_C")], atol=1e-9)
    widget.ui.undoButton.click()
    np.testing.assert_allclose(world_points(spine), before, atol=1e-9)
    assert said(widget) == ""
    widget.ui.labelsDownButton.click()
    np.testing.assert_allclose(world_points(spine)[index("L2_SP")], before[index("L3_SP")], atol=1e-9)
    assert "one level down" in said(widget) and widget.ui.undoButton.enabled


def test_a_column_on_a_film_has_the_buttons_too_and_a_knee_has_none(widget, knee):
    from mrml.scenes import film_volume
    from spine_cases import SIZE, column_detection

    parts = (widget.ui.levelSelector, widget.ui.labelsUpButton, widget.ui.labelsDownButton)
    assert not any(part.visible for part in parts)
    show_detection(widget, film_volume("column.png", SIZE), column_detection)
    assert all(part.visible for part in parts) and widget.ui.levelSelector.count == 18
    widget.ui.levelSelector.setCurrentText("T7")
    assert sorted(ids(widget)) == ["T7_BL", "T7_BR", "T7_TL", "T7_TR"]
    show_detection(widget, film_volume("film.png"), knee_detection)
    assert not any(part.visible for part in parts) and len(ids(widget)) == 16


# Sample volumes


@pytest.mark.parametrize(("sample", "table"), [("SpineCT", "landmarks-spine-ct"), ("KneeCT", "landmarks-knee-ct")])
def test_sample_volumes_are_registered_and_hold_their_landmarks(host, module, samples, sample, table):
    import SampleData

    (source,) = [source for source in SampleData.SampleDataLogic.sources if source["sampleName"] == sample]
    path = QtCore.QUrl(source["uris"]).toLocalFile()
    volume = slicer.util.loadVolume(path)
    image = volume_image(volume).image
    assert image.dims == 3 and image.frame.spacing == pytest.approx([2.0, 2.0, 2.0], abs=1e-6)
    assert image.frame.spacing_source == "calibrated"
    with (samples / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == source["fileNames"]
    names = [key[:-2] for key in row if key.endswith("_x") and row[key]]
    points = np.array([[float(row[f"{name}_{axis}"]) for axis in "xyz"] for name in names])
    assert len(points) >= 15 and (points > -0.5).all() and (points < np.array(image.frame.size) - 0.5).all()
    x, y, z = np.rint(points[[name.endswith("_C") or name.startswith("F") for name in names]]).astype(int).T
    assert np.median(image.array[z, y, x]) > 100  # HU of bone, not of muscle or air


def test_sample_volumes_are_what_the_generator_makes(samples, tmp_path):
    """Noise may differ by a few HU between processors, whose exponentials round differently; nothing else."""
    import SimpleITK
    from LandmarkDetectionLib.phantoms.samples import KNEE_CT_NAME, KNEE_CT_TABLE_NAME, knee_joint
    from LandmarkDetectionLib.phantoms.volume_dataset import volume_row, write_volume

    phantom = knee_joint()
    kept = SimpleITK.ReadImage(str(samples / KNEE_CT_NAME))
    assert np.abs(SimpleITK.GetArrayFromImage(kept).astype(int) - phantom.voxels).max() <= 5
    assert np.allclose(kept.GetOrigin(), phantom.frame.origin)
    with (samples / KNEE_CT_TABLE_NAME).open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    mine = volume_row(KNEE_CT_NAME, "sample", phantom)
    assert row.keys() == mine.keys()
    assert all(abs(float(row[key]) - float(mine[key])) < 0.02 for key in row if key.endswith(("_x", "_y", "_z")))
    for name in ("first.nrrd", "second.nrrd"):
        write_volume(tmp_path / name, phantom.voxels, phantom.frame)
    assert (tmp_path / "first.nrrd").read_bytes() == (tmp_path / "second.nrrd").read_bytes()
    assert sum(path.stat().st_size for path in samples.glob("*-ct.nrrd")) < 1_500_000
