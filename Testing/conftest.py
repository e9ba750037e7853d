"""What every test shares: the folder of real data, a watch on errors that callbacks swallow, and a limit on threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Set before anything imports numpy or Qt: tests run side by side, and no display can be assumed.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return ROOT


@pytest.fixture(scope="session")
def landmark_data() -> Path:
    """The folder of real images, or a skip: they may not be part of the repository."""
    folder = Path(os.environ.get("LANDMARK_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real image data at {folder}; set LANDMARK_DATA to the folder that holds knee_xray and dicom")
    return folder


@pytest.fixture(scope="session", autouse=True)
def limited_threads() -> None:
    """Torch takes every core by default, which makes parallel test runs slower than serial ones."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_lost_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail when an exception was swallowed: in a VTK observer, a Qt slot, a destructor or a thread."""
    lost: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *info: lost.append(info[1]))
    monkeypatch.setattr(sys, "unraisablehook", lambda info: lost.append(info.exc_value))
    restore = _watch_qt(lost)
    yield
    restore()
    assert not lost, f"swallowed in a callback: {lost}"


def _watch_qt(lost: list[object]):
    """Collect Qt's messages of Python exceptions and of connections that failed, once a test has loaded Qt."""
    core = sys.modules.get("PySide6.QtCore")
    if core is None:
        return lambda: None
    marks = ("exception", "Traceback", "Error calling", "no such slot", "no such signal")

    def collect(kind: object, context: object, message: str) -> None:
        print(message, file=sys.stderr)
        if any(mark.lower() in message.lower() for mark in marks):
            lost.append(message)

    previous = core.qInstallMessageHandler(collect)
    return lambda: core.qInstallMessageHandler(previous)
