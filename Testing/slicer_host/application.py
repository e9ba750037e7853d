"""The application object: one MRML scene with the module logics that Slicer would have created at start-up."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import slicer
import slicer.util
import vtk

from .shim import ApplicationShim

MODULE_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
}


class Application:
    """A scene, the application logic and the module logics; `slicer.mrmlScene` and `slicer.app` are the newest one's.

    Attributes: `scene` (vtkMRMLScene), `core` (vtkSlicerApplicationLogic), `logics` (by module name), `views` (open
    slice and 3-D views by layout name), `folder` (temporary folder, removed by `close`).
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="slicer-host-")
        self.views: dict[str, object] = {}
        self.scene = slicer.vtkMRMLScene()
        slicer.mrmlScene = self.scene
        self.core = slicer.vtkSlicerApplicationLogic()
        # The paths come first: the color logic looks for its files as soon as it has a scene.
        self.core.SetTemporaryPath(self.folder)
        self.core.SetHomeDirectory(self.folder)
        self.core.SetShareDirectory("share")
        (Path(self.folder) / "share" / "ColorFiles").mkdir(parents=True)
        self.core.SetMRMLScene(self.scene)
        colors = self.core.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        self.core.SetSliceLogics(vtk.vtkCollection())
        self.core.SetViewLogics(vtk.vtkCollection())
        self._add_singletons()
        self.logics = {name: self._module_logic(name, class_name) for name, class_name in MODULE_LOGICS.items()}
        self._add_units()
        self._io = self._data_io()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self.shim = ApplicationShim(self)
        slicer.app = self.shim

    def _add_singletons(self) -> None:
        for class_name in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode", "vtkMRMLCrosshairNode"):
            node = getattr(slicer, class_name)()
            node.SetSingletonTag("default" if class_name == "vtkMRMLCrosshairNode" else "Singleton")
            self.scene.AddNode(node)

    def _add_units(self) -> None:
        """The millimeter unit that markups write into their files; without it every save logs an error."""
        selection = self.core.GetSelectionNode()
        if selection is None or self.scene.GetFirstNodeByClass("vtkMRMLUnitNode") is not None:
            return
        for quantity, symbol in (("length", "mm"), ("area", "mm2"), ("volume", "mm3")):
            unit = self.logics["Units"].AddUnitNode(symbol, quantity, "", symbol, 3, -10000.0, 10000.0, 1.0, 0.0)
            selection.SetUnitNodeID(quantity, unit.GetID())

    def _module_logic(self, name: str, class_name: str):
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(self.core)
        logic.SetMRMLScene(self.scene)
        self.core.SetModuleLogic(name, logic)
        return logic

    def _data_io(self) -> tuple:
        """The remote data part, without which the scene cannot read a bundle (.mrb)."""
        remote = slicer.vtkMRMLRemoteIOLogic()
        data = slicer.vtkDataIOManagerLogic()
        for logic in (remote, data):
            logic.SetMRMLScene(self.scene)
            logic.SetMRMLApplicationLogic(self.core)
        cache = Path(self.folder) / "cache"
        cache.mkdir()
        (cache / ".slicer-cache").touch()  # marks the folder as one that the cache manager may clean
        remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        data.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        return remote, data

    def close(self) -> None:
        """Close the views, clear the scene and remove the temporary folder."""
        for view in list(self.views.values()):
            view.close()
        self.scene.Clear(1)
        if getattr(slicer, "app", None) is self.shim:
            del slicer.app
        shutil.rmtree(self.folder, ignore_errors=True)


def make_app() -> Application:
    """Return a fresh application; `slicer.mrmlScene` and `slicer.app` are set to it."""
    return Application()
