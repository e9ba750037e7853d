"""Stand-in host tests: the widget on PySide6, the real MRML scene and the real library. Not the real application."""

from __future__ import annotations

import sys
import threading

import pytest

pytest.importorskip("PySide6", reason="the stand-in Qt host needs PySide6-Essentials")
pytest.importorskip("slicer", reason="the stand-in Qt host needs slicer-core")

import slicer
import slicer.util
from slicer_host import make_app
from slicer_host.qt_host import QtHost

MODEL = "knee-ap-radiograph"


@pytest.fixture
def host():
    """A fresh application with Qt around it."""
    application = make_app()
    host = QtHost(application)
    yield host
    host.close()
    application.close()


@pytest.fixture
def module(host, repository):
    """The scripted module, loaded as Slicer's factory does."""
    return host.load_module(repository / "LandmarkDetection" / "LandmarkDetection.py")


@pytest.fixture
def widget(host, module):
    """The entered panel."""
    return host.show(module)


@pytest.fixture(scope="session")
def samples(repository):
    """The folder of the sample films."""
    return repository / "Resources" / "Samples"


@pytest.fixture
def film(host, samples):
    """The DICOM sample as a volume node."""
    return slicer.util.loadVolume(str(samples / "knee-right.dcm"))


@pytest.fixture
def model():
    """The name of the bundled model."""
    return MODEL


class Hold:
    """Holds every detection at its start until `open` is set or the job is cancelled; then the real detector works."""

    def __init__(self) -> None:
        self.started, self.open = threading.Event(), threading.Event()

    def wrap(self, detector):
        hold = self

        class HeldDetector:
            device, device_reason = detector.device, detector.device_reason

            def detect(self, image, side, progress, cancelled):
                hold.started.set()
                while not hold.open.wait(0.005):
                    if cancelled():
                        break
                return detector.detect(image, side=side, progress=progress, cancelled=cancelled)

        return HeldDetector()


@pytest.fixture
def hold(monkeypatch, model):
    """Detections wait until told, so that something can happen meanwhile."""
    from LandmarkDetectionLib.inference.worker import DetectionWorker

    hold = Hold()
    load = DetectionWorker._load
    monkeypatch.setattr(DetectionWorker, "_load", lambda self, *arguments: hold.wrap(load(self, *arguments)))
    return hold


@pytest.fixture
def detected(host, widget, film, model):
    """The panel after Apply on the sample film; returns the Markups node."""
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy), "the detection did not end"
    node = widget._parameterNode.landmarks
    assert node is not None, widget.ui.statusLabel.text
    return node


@pytest.fixture
def library_kept():
    """A reload of the module drops the library from sys.modules: other tests get their own back."""
    names = [name for name in sys.modules if name.split(".")[0] == "LandmarkDetectionLib"]
    kept = {name: sys.modules[name] for name in names}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "LandmarkDetectionLib"]:
        del sys.modules[name]
    sys.modules.update(kept)
