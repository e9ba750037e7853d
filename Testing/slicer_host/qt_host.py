"""A stand-in Qt host on PySide6: runs the module's widget, its .ui and its observers on the real MRML scene.

It shows that the panel's logic holds together. It is not PythonQt, CTK or qMRML: tests that use it are called stand-in
host tests, and a run in the real application is needed before anything is said about Slicer itself.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from .application import Application
from .qt_module import UiLoader, add_string_connections, build_qt_module
from .qt_sample_data import build_sample_data_module
from .qt_widgets import STAND_INS, MRMLWidget, build_ctk_module

STAND_IN_FOLDER = str(Path(__file__).parent / "qt_slicer")


def install_modules() -> QtWidgets.QApplication:
    """Make `qt`, `ctk` and the missing `slicer.*` modules importable; returns the QApplication of this process."""
    UiLoader.stand_ins = dict(STAND_INS)
    sys.modules["qt"] = build_qt_module()
    if "ctk" not in sys.modules:
        sys.modules["ctk"] = build_ctk_module()
    sys.modules["SampleData"] = build_sample_data_module()
    if STAND_IN_FOLDER not in slicer.__path__:
        slicer.__path__.append(STAND_IN_FOLDER)
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])


class HostApplication:
    """`slicer.app`: the shim of the application without Qt, with signals, settings and top-level windows added."""

    def __init__(self, shim, qt_application: QtWidgets.QApplication) -> None:
        self._shim = shim
        self._qt = qt_application
        self._started: list[Callable] = []
        self._manager = SimpleNamespace(module=lambda name: getattr(slicer.modules, name.lower()))
        self.testing = True

    def __getattr__(self, name: str):
        return getattr(self._shim, name)

    def testingEnabled(self) -> bool:
        return self.testing

    def connect(self, signature: str, function: Callable) -> bool:
        if signature != "startupCompleted()":
            raise ValueError(f"The host application has no signal {signature}.")
        self._started.append(function)
        return True

    def start(self) -> None:
        """Emit startupCompleted()."""
        for function in self._started:
            function()

    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def moduleManager(self):
        return self._manager

    def topLevelWidgets(self) -> list:
        return self._qt.topLevelWidgets()

    def processEvents(self, *flags) -> None:
        # The views' interactors have no queue of their own without a display: mouse events are sent to them directly.
        self._qt.processEvents()


class ModuleWidget(MRMLWidget):
    """qSlicerScriptedLoadableModuleWidget: holds the Python widget object and creates it anew on reload."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._entered = False
        self._create()

    def self(self):
        return getattr(slicer.modules, f"{self._name}Widget")

    def _create(self) -> None:
        widget = getattr(sys.modules[self._name], f"{self._name}Widget")(self)
        setattr(slicer.modules, f"{self._name}Widget", widget)
        self.setMRMLScene(slicer.mrmlScene)
        widget.setup()

    def reload(self) -> None:
        self._create()
        if self._entered:
            self.self().enter()

    def enter(self) -> None:
        self._entered = True
        self.self().enter()

    def exit(self) -> None:
        self._entered = False
        self.self().exit()


class ScriptedModule:
    """The module object in `slicer.modules`."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = path.stem, str(path)
        spec = importlib.util.spec_from_file_location(self.name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = module
        spec.loader.exec_module(module)
        setattr(slicer.modules, self.name.lower(), self)
        self.instance = getattr(module, self.name)(self)
        self._representation: ModuleWidget | None = None

    def widgetRepresentation(self) -> ModuleWidget:
        if self._representation is None:
            self._representation = ModuleWidget(self.name)
        return self._representation

    def close(self) -> None:
        if self._representation is not None:
            self._representation.self().cleanup()
            for widget in self._representation.findChildren(MRMLWidget):
                widget.setMRMLScene(None)
            self._representation.deleteLater()
        sys.modules.pop(self.name, None)


class QtHost:
    """An application with Qt around it. Create it after `make_app()`, load the module, `close()` at the end.

    Attributes: `app` (the MRML application), `main_window`, `modules` (loaded scripted modules).
    """

    def __init__(self, application: Application) -> None:
        self.app = application
        self.qt_application = install_modules()
        ini = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, application.folder)
        self.qt_application.setOrganizationName("LandmarkDetectionTests")
        self.qt_application.setApplicationName(Path(application.folder).name)
        slicer.app = HostApplication(application.shim, self.qt_application)
        slicer.modules = SimpleNamespace(markups=SimpleNamespace(logic=lambda: application.logics["Markups"]))
        self.main_window = QtWidgets.QMainWindow()
        self.main_window.setObjectName("qSlicerMainWindow")
        add_string_connections(self.main_window)
        self.modules: list[ScriptedModule] = []

    def load_module(self, path: Path) -> ScriptedModule:
        """Import the scripted module file as Slicer's factory does, and tell it that start-up is completed."""
        module = ScriptedModule(Path(path))
        self.modules.append(module)
        slicer.app.start()
        return module

    def show(self, module: ScriptedModule):
        """Enter the module's panel, as the module selector does; returns the Python widget object."""
        representation = module.widgetRepresentation()
        self.main_window.setCentralWidget(representation)
        self.main_window.show()
        self.main_window.activateWindow()
        representation.enter()
        slicer.app.processEvents()
        return representation.self()

    def process(self, until: Callable[[], bool], timeout: float = 30.0) -> bool:
        """Run the event loop until the condition holds; returns whether it did within `timeout` seconds."""
        end = time.monotonic() + timeout
        while not until():
            if time.monotonic() > end:
                return False
            slicer.app.processEvents()
            time.sleep(0.005)
        slicer.app.processEvents()
        return True

    def close(self) -> None:
        for module in self.modules:
            module.close()
        self.main_window.close()
        self.main_window.deleteLater()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        self.qt_application.processEvents()
        slicer.app = self.app.shim
        del slicer.modules
