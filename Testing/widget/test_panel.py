"""Stand-in host tests: the panel as built from the .ui, Apply and Cancel, terms, and what can go wrong meanwhile."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets


def test_builds_from_ui_and_says_research_use(widget):
    shown = [child.text for child in widget.parent.findChildren(QtWidgets.QLabel) if child.visible]
    assert any("Research use only, not a medical device" in text for text in shown)
    assert widget.ui.advancedCollapsibleButton.collapsed
    assert not widget.ui.applyButton.enabled and "image" in widget.ui.applyButton.toolTip


def test_combos_offer_devices_and_sides(widget):
    assert [widget.ui.deviceSelector.itemText(i) for i in range(3)] == ["Auto", "CPU", "GPU"]
    assert [widget.ui.sideSelector.itemText(i) for i in range(3)] == ["Auto", "Left", "Right"]
    widget.ui.deviceSelector.setCurrentIndex(1)
    assert widget._parameterNode.device.value == "cpu"


def test_active_volume_is_the_default_image(host, module):
    slicer.util.addVolumeFromArray(np.ones((1, 40, 40), np.uint8), name="first")
    active = slicer.util.addVolumeFromArray(np.ones((1, 40, 40), np.uint8), name="active")
    slicer.util.addVolumeFromArray(np.ones((1, 40, 40), np.uint8), name="last")
    host.app.core.GetSelectionNode().SetActiveVolumeID(active.GetID())
    widget = host.show(module)
    assert widget.ui.inputSelector.currentNode() is active
    assert widget._parameterNode.inputVolume is active


def test_state_is_kept_in_the_parameter_node(host, widget):
    widget.ui.spacingSpinBox.setValue(0.15)
    widget.ui.showHeatmapCheckBox.setChecked(True)
    again = widget.logic.getParameterNode()
    assert again.spacing == pytest.approx(0.15) and again.showHeatmap


def test_apply_becomes_cancel_and_back(host, widget, film, hold):
    button = widget.ui.applyButton
    assert button.text == "Apply" and button.enabled
    button.click()
    assert host.process(hold.started.is_set)
    assert button.text == "Cancel" and widget.ui.progressBar.visible
    hold.open.set()
    assert host.process(lambda: not widget.panel.busy)
    assert button.text == "Apply" and not widget.ui.progressBar.visible
    assert "16 landmarks found" in widget.ui.statusLabel.text
    assert widget.ui.deviceLabel.text.startswith("Device used: ")


def test_cancel_leaves_no_result(host, widget, film, hold):
    widget.ui.applyButton.click()
    assert host.process(hold.started.is_set)
    widget.ui.applyButton.click()
    assert widget.ui.applyButton.text == "Apply" and widget.ui.statusLabel.text == "Cancelled."
    hold.open.set()
    host.process(lambda: False, timeout=0.3)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_second_apply_after_cancel_gives_its_own_result(host, widget, film, hold):
    widget.ui.applyButton.click()
    assert host.process(hold.started.is_set)
    widget.ui.applyButton.click()
    hold.open.set()
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1


def test_applying_again_reuses_an_uncorrected_detection(host, widget, detected):
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    assert widget._parameterNode.landmarks is detected
    widget.logic.tracker(detected).show(widget.logic.tracker(detected).session.pin("T0"))
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    assert widget._parameterNode.landmarks is not detected
    assert widget.logic.tracker(detected).session.pinned == {"T0"}


def test_terms_are_asked_once(host, widget, film, model):
    slicer.app.testing = False
    buttons = QtWidgets.QMessageBox.StandardButton
    dialogs = []

    def press(button, answer=None):
        """Click from within the event loop, as the mouse does, and answer the dialog if one opens."""
        over = []

        def reply():
            box = QtWidgets.QApplication.activeModalWidget()
            if box is None:
                QtCore.QTimer.singleShot(20, reply)
                return
            dialogs.append(box.text)
            box.button(answer).click()

        def click():
            if answer is not None:
                QtCore.QTimer.singleShot(20, reply)
            button.click()
            over.append(True)

        QtCore.QTimer.singleShot(0, click)
        assert host.process(lambda: bool(over))

    press(widget.ui.applyButton, buttons.Cancel)
    assert len(dialogs) == 1 and model in dialogs[0] and not widget.panel.busy
    assert "not accepted" in widget.ui.statusLabel.text
    press(widget.ui.applyButton, buttons.Ok)
    assert len(dialogs) == 2 and host.process(lambda: not widget.panel.busy)
    press(widget.ui.applyButton)
    assert len(dialogs) == 2 and host.process(lambda: not widget.panel.busy)
    press(widget.ui.termsButton, buttons.Ok)
    assert len(dialogs) == 3 and "accepted" in widget.ui.statusLabel.text


def test_scene_closed_during_a_job(host, widget, film, hold):
    widget.ui.applyButton.click()
    assert host.process(hold.started.is_set)
    slicer.mrmlScene.Clear()
    assert widget.ui.applyButton.text == "Apply" and "scene was closed" in widget.ui.statusLabel.text
    hold.open.set()
    host.process(lambda: False, timeout=0.3)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert not widget.ui.applyButton.enabled


def test_volume_removed_during_a_job(host, widget, film, hold):
    widget.ui.applyButton.click()
    assert host.process(hold.started.is_set)
    slicer.mrmlScene.RemoveNode(film)
    assert "image was removed" in widget.ui.statusLabel.text and not widget.panel.busy
    hold.open.set()
    host.process(lambda: False, timeout=0.3)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_volume_changed_during_a_job(host, widget, film, hold):
    widget.ui.applyButton.click()
    assert host.process(hold.started.is_set)
    film.SetOrigin(1.0, 2.0, 3.0)
    hold.open.set()
    assert host.process(lambda: not widget.panel.busy)
    assert "changed during the detection" in widget.ui.statusLabel.text


def test_declared_side_that_contradicts_is_one_sentence(host, widget, film, model):
    widget.ui.sideSelector.setCurrentIndex(1)
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    sentence = widget.ui.statusLabel.text
    assert "left" in sentence and "right" in sentence and "Traceback" not in sentence
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_bad_image_is_one_sentence(host, widget, model):
    slicer.util.addVolumeFromArray(np.full((1, 64, 64), 7, np.uint8), name="blank film")
    widget.ui.applyButton.click()
    assert not widget.panel.busy and "blank film" in widget.ui.statusLabel.text


def test_exception_in_a_slot_is_seen(widget, monkeypatch):
    """The watch that every test has on swallowed errors works for slots of this host."""
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *info: seen.append(info[1]))

    def broken():
        raise ValueError("in a slot")

    widget.ui.nextButton.connect("clicked()", broken)
    widget.ui.nextButton.setEnabled(True)
    widget.ui.nextButton.click()
    assert [str(error) for error in seen] == ["in a slot"]


def test_reload_leaves_nothing_behind(host, module, widget, film, model, library_kept):
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    node = widget._parameterNode.landmarks
    widget.onReload()
    again = module.widgetRepresentation().self()
    assert again is not widget and widget.Observations == []
    assert again._parameterNode.landmarks is node
    assert sum(thread.name == "landmark-detection" for thread in threading.enumerate()) <= 1
    again.cleanup()
    assert not node.HasObserver(node.PointModifiedEvent)
    assert not node.HasObserver(node.PointEndInteractionEvent)


def test_every_sample_is_registered(host, module, samples):
    import SampleData

    sources = SampleData.SampleDataLogic.sources
    names = ["knee-right.dcm", "knee-left.png", "spine-straight.dcm", "spine-scoliosis.png"]
    names += ["spine-ct.nrrd", "knee-ct.nrrd"]
    assert [source["fileNames"] for source in sources] == names
    for source in sources:
        path = QtCore.QUrl(source["uris"]).toLocalFile()
        assert QtCore.QFileInfo(path).exists()


def test_module_file_imports_only_what_it_may(repository):
    text = (repository / "LandmarkDetection" / "LandmarkDetection.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    names = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            names |= {alias.name.split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add(statement.module.split(".")[0])
        elif not isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            # Constants and the docstring: nothing is called when the file is imported.
            assert isinstance(statement.value, (ast.Constant, ast.Dict)), ast.dump(statement)
    assert names <= {"logging", "unittest", "pathlib", "urllib", "slicer", "vtk"}


BARE = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
hidden = ("torch", "safetensors")  # as in Slicer before the first use
PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name in hidden else find(name, *rest))
import slicer, slicer.util, numpy as np
from pathlib import Path
from slicer_host import make_app
from slicer_host.qt_host import QtHost
application = make_app()
host = QtHost(application)
widget = host.show(host.load_module(Path(sys.argv[1])))
slicer.util.addVolumeFromArray(np.arange(4096, dtype=np.uint16).reshape(1, 64, 64))
print(widget.ui.modelSelector.currentText)
widget.ui.applyButton.click()
print(widget.ui.statusLabel.text)
host.close()
application.close()
"""


def test_panel_opens_without_torch_and_apply_says_what_to_install(repository):
    module = repository / "LandmarkDetection" / "LandmarkDetection.py"
    paths = os.pathsep.join(str(repository / folder) for folder in ("LandmarkDetection", "Testing"))
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(module)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
    model, sentence = done.stdout.splitlines()[-2:]
    assert model == "knee-ap-radiograph" and "extension PyTorch is missing" in sentence


def test_self_test_of_the_module_passes(host, module, samples, model):
    import LandmarkDetection

    LandmarkDetection.LandmarkDetectionTest().runTest()
