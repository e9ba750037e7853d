"""Landmark Detection, a scripted module of 3D Slicer: find landmarks in an image, correct one, and the others follow.

Only the standard library, vtk and slicer are imported here; the library beside this file is imported where it is used.
"""

import logging
import unittest
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

DEFAULT_MODEL = "knee-ap-radiograph"
SAMPLES = {
    "KneeRight": "knee-right.dcm",
    "KneeLeft": "knee-left.png",
    "SpineStraight": "spine-straight.dcm",
    "SpineScoliosis": "spine-scoliosis.png",
    "SpineCT": "spine-ct.nrrd",
    "KneeCT": "knee-ct.nrrd",
}
SAMPLES_ADDRESS = "https://github.com/LandmarkDetection/SlicerLandmarkDetection/raw/main/Resources/Samples"


class LandmarkDetection(ScriptedLoadableModule):
    """What Slicer knows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Landmark Detection")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = ["Markups", "Volumes"]
        parent.contributors = ["The LandmarkDetection developers"]
        parent.helpText = _(
            "Finds named anatomical landmarks in an image, says how sure each one is, and lets the others follow when "
            "one is dragged to its place. Research use only, not a medical device."
        )
        parent.acknowledgementText = _("The licenses and terms of the models are shown before their first use.")
        slicer.app.connect("startupCompleted()", self.registerSampleData)

    def registerSampleData(self):
        """Offer the sample images in the module Sample Data."""
        import SampleData

        for name, file in SAMPLES.items():
            SampleData.SampleDataLogic.registerCustomSampleDataSource(
                category="LandmarkDetection",
                sampleName=name,
                thumbnailFileName=self.resourcePath("Icons/LandmarkDetection.png"),
                uris=sampleAddress(file, self.parent.path),
                fileNames=file,
                nodeNames=name,
                loadFileTypes="VolumeFile",
            )


def sampleAddress(file, modulePath):
    """Where a sample image is: a file beside the module or in its source tree, else the project's repository."""
    module = Path(modulePath).resolve().parent
    for folder in (module, module.parent):
        path = folder / "Resources" / "Samples" / file
        if path.is_file():
            return path.as_uri()
    return f"{SAMPLES_ADDRESS}/{file}"


class LandmarkDetectionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The life cycle of the panel; what its parts do is in `LandmarkDetectionLib.ui`."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self.ui = None
        self._shortcuts = None
        self._parameterNode = None
        self._guiTag = None
        self._entered = False

    def setup(self):
        """Build the panel from its .ui file."""
        ScriptedLoadableModuleWidget.setup(self)
        from LandmarkDetectionLib.ui.panel import Panel
        from LandmarkDetectionLib.ui.segmentation import BonesButton
        from LandmarkDetectionLib.ui.shortcuts import ModuleShortcuts

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LandmarkDetection.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LandmarkDetectionLogic()
        self.panel = Panel(self.ui, self.logic, lambda: self._parameterNode)
        self.bonesButton = BonesButton(self.ui, self.panel.say, lambda: self._parameterNode)
        for spinBox in (self.ui.spacingSpinBox, self.ui.reviewSpinBox):
            spinBox.setRange(0.0, 100.0)
        keys = {"Ctrl+Z": self.panel.undo, "Ctrl+Y": self.panel.redo, "Ctrl+J": self.panel.show_next}
        self._shortcuts = ModuleShortcuts(slicer.util.mainWindow() or self.parent, keys)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._onModelChosen)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEnd)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.initializeParameterNode()

    def cleanup(self):
        """Leave nothing behind: no observer, no timer, no thread, no shortcut."""
        self.setParameterNode(None)
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self._shortcuts.remove()
            self.panel = self._shortcuts = None

    def enter(self):
        """The module was opened."""
        self._entered = True
        self.initializeParameterNode()
        self._shortcuts.set_active(True)

    def exit(self):
        """Another module was opened: corrections in the views go on, the shortcuts belong to others."""
        self._entered = False
        if self._shortcuts is not None:
            self._shortcuts.set_active(False)

    def onReload(self):
        """Reload the library too, not this file alone."""
        import sys

        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] == "LandmarkDetectionLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        """The scene is about to be closed: whatever is being computed is for nothing."""
        self.panel.drop_job(_("The scene was closed, so the detection was dropped."))
        self.setParameterNode(None)

    def onSceneEnd(self, caller, event):
        """The scene was closed or a scene was loaded."""
        self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node=None):
        """An image or a detection goes: drop the work on it."""
        from LandmarkDetectionLib.mrml.following import FOLLOWING

        if node is not None and self.logic.isWorkingOn(node):
            self.panel.drop_job(_("The image was removed, so the detection was dropped."))
        if node is not None:
            FOLLOWING.removed(node)

    def initializeParameterNode(self):
        """Take the scene's parameter node and fill in what is not chosen yet."""
        if slicer.mrmlScene.IsClosing():
            return
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            selection = slicer.app.applicationLogic().GetSelectionNode()
            active = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "")
            self._parameterNode.inputVolume = active or self.ui.inputSelector.currentNode()
        if self._parameterNode.landmarks is None:
            from LandmarkDetectionLib.mrml.parameters import find_results

            self._parameterNode.landmarks = next(reversed(find_results()), None)
        self.panel.refresh()
        self.panel.take_up()

    def setParameterNode(self, parameterNode):
        """Bind the panel to another parameter node, or to none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            node = self._parameterNode.parameterNode
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
        self._parameterNode = parameterNode
        if parameterNode is None:
            return
        self._guiTag = parameterNode.connectGui(self.ui)
        self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)

    def _onParametersChanged(self, caller, event):
        self.panel.refresh()

    def _onModelChosen(self, index):
        if self._parameterNode is not None and index >= 0:
            self._parameterNode.model = self.ui.modelSelector.itemText(index)


class LandmarkDetectionLogic(ScriptedLoadableModuleLogic):
    """Landmark detection for scripts and for the panel; needs no window.

    Example::

        logic = LandmarkDetectionLogic()
        node = logic.detect(volumeNode, "knee-ap-radiograph")
        print(slicer.util.arrayFromMarkupsControlPoints(node))
    """

    _termsLogged: set = set()

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._request = None
        self._device = ""

    def getParameterNode(self):
        """The state of the panel in the scene."""
        from LandmarkDetectionLib.ui.state import LandmarkDetectionParameterNode

        return LandmarkDetectionParameterNode(super().getParameterNode())

    def modelNames(self):
        """Names of the models that are installed."""
        from LandmarkDetectionLib.inference.bundle import list_bundles

        return list(list_bundles())

    def bundle(self, name):
        """The model of this name; raises LandmarkDetectionError where there is none or it is damaged."""
        from LandmarkDetectionLib.inference.bundle import find_bundle

        return find_bundle(name)

    def ensureDependencies(self):
        """Install PyTorch and safetensors where missing, after asking; raises LandmarkDetectionError if not done."""
        from LandmarkDetectionLib.mrml.dependencies import ensure_dependencies

        ensure_dependencies()

    def detect(
        self,
        volumeNode,
        model=DEFAULT_MODEL,
        device="auto",
        side="auto",
        spacing=None,
        markupsNode=None,
        waitForCompletion=True,
    ):
        """Find the landmarks of `model` in a volume.

        Args:
            volumeNode: scalar or vector volume.
            model: name of a model, see `modelNames`.
            device: "auto", "cpu" or "cuda".
            side: "auto", "left" or "right".
            spacing: millimeters per pixel of a film that does not say, or None.
            markupsNode: a detection to overwrite; by default a new node is made.
            waitForCompletion: False returns a job at once, to be handed to `finish` when it is over.

        Returns:
            The vtkMRMLMarkupsFiducialNode with the landmarks, or the job.

        Raises:
            LandmarkDetectionError: one sentence that says what to do.
        """
        from LandmarkDetectionLib.inference.worker import shared_worker
        from LandmarkDetectionLib.mrml.detecting import Request
        from LandmarkDetectionLib.mrml.volumes import volume_image

        self.ensureDependencies()
        self._logTerms(self.bundle(model))
        source = volume_image(volumeNode, spacing)
        job = shared_worker().detect(source.image, model, device, side)
        self._request = Request(job, volumeNode, source.placement, source.key, markupsNode)
        logging.info(f"Landmark Detection: {model}")  # names of nodes can hold names of patients
        return self.finish(job) if waitForCompletion else job

    def finish(self, job):
        """Put the result of a job into the scene and return the Markups node; waits for the job if need be."""
        from LandmarkDetectionLib.errors import Cancelled

        request, self._request = self._request, None
        if request is None or request.job is not job:
            raise Cancelled("A newer detection took the place of this one.")
        outcome = job.result()
        self._device = _("Device used: {reason}").format(reason=outcome.device_reason)
        return request.place(outcome.detection)

    def cancel(self):
        """Cancel the detection that runs, if any; its result is dropped."""
        if self._request is not None:
            self._request.job.cancel()
            self._request = None

    def resume(self, node):
        """Compute the heatmaps of a detection from a saved scene: a job for `finish`, or None if not needed."""
        from LandmarkDetectionLib.inference.worker import shared_worker
        from LandmarkDetectionLib.mrml.detecting import resume_request

        request = resume_request(node, self.bundle, shared_worker)
        if request is None or self._request is not None:
            return None
        self._request = request
        return request.job

    def deviceSentence(self):
        """Which device did the last detection, and why."""
        return self._device

    def isWorkingOn(self, node):
        """Whether the detection that runs is for this image."""
        return self._request is not None and self._request.volume is node

    def tracker(self, node):
        """The tracker of a detection (its `session`, `undo`, `redo`, `show`), or None if the node holds none."""
        from LandmarkDetectionLib.mrml.following import FOLLOWING

        return FOLLOWING.tracker(node) if node is not None else None

    def message(self, node):
        """What there is to say about the last correction of a detection (a level shift, a contradiction), or None."""
        tracker = self.tracker(node)
        return tracker.session.message if tracker is not None else None

    def _logTerms(self, bundle):
        key = (bundle.name, bundle.version)
        if key not in self._termsLogged:
            self._termsLogged.add(key)
            logging.info(f"Terms of {bundle.name} {bundle.version}: {bundle.terms} License: {bundle.licence}")


class LandmarkDetectionTest(ScriptedLoadableModuleTest):
    """The same test runs in the real application (ctest) and in the tests of the repository."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run everything as few or as many times as needed here."""
        self.setUp()
        self.test_detectMoveUndo()

    def test_detectMoveUndo(self):
        """Detect on a sample with the bundled model, move one landmark, see others follow, undo."""
        import numpy as np
        from LandmarkDetectionLib.errors import LandmarkDetectionError

        self.delayDisplay("Loading the sample")
        address = sampleAddress(SAMPLES["KneeRight"], slicer.util.modulePath("LandmarkDetection"))
        if address.startswith("file:"):
            sample = url2pathname(urlsplit(address).path)
        else:
            import SampleData

            sample = SampleData.SampleDataLogic().downloadFileIntoCache(address, SAMPLES["KneeRight"])
        volumeNode = slicer.util.loadVolume(str(sample), properties={"singleFile": True})
        logic = LandmarkDetectionLogic()
        try:
            logic.ensureDependencies()
        except LandmarkDetectionError as error:
            raise unittest.SkipTest(f"The packages for detection cannot be installed here: {error}") from error
        self.delayDisplay("Detecting")
        node = logic.detect(volumeNode, DEFAULT_MODEL)
        found = slicer.util.arrayFromMarkupsControlPoints(node).copy()
        self.assertEqual(node.GetNumberOfControlPoints(), 16)
        self.assertTrue(np.all(np.isfinite(found)))
        bounds = np.zeros(6)
        volumeNode.GetRASBounds(bounds)
        self.assertTrue(np.all(found[:, 0] > bounds[0]) and np.all(found[:, 0] < bounds[1]))
        self.delayDisplay("Moving one landmark")
        wanted = found[0] + 5.0 * (found.mean(axis=0) - found[0]) / np.linalg.norm(found.mean(axis=0) - found[0])
        node.SetNthControlPointPosition(0, *wanted)
        moved = slicer.util.arrayFromMarkupsControlPoints(node)
        np.testing.assert_allclose(moved[0], wanted, atol=1e-3)
        self.assertGreater(np.linalg.norm(moved[1:] - found[1:], axis=1).max(), 0.01)
        self.assertTrue(logic.tracker(node).undo())
        np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(node), found, atol=1e-6)
        self.delayDisplay("Test passed")
