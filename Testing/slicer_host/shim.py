"""What `slicer.util` and the module ask of `slicer.app`, which is a Qt object in Slicer and absent from slicer-core."""

from __future__ import annotations

from .files import FileManager


class SliceWidget:
    """The members of Slicer's slice widget that scripts use, on a `SliceView`."""

    def __init__(self, view) -> None:
        self._view = view

    def sliceLogic(self):
        return self._view.logic

    def mrmlSliceNode(self):
        return self._view.node

    def sliceView(self):
        return self._view

    def interactor(self):
        return self._view.mouse


class ThreeDWidget:
    """The members of Slicer's 3-D widget that scripts use, on a `ThreeDView`."""

    def __init__(self, view) -> None:
        self._view = view

    def mrmlViewNode(self):
        return self._view.node

    def threeDView(self):
        return self._view


class LayoutManager:
    """The views opened so far, by the names Slicer's layout manager would give."""

    def __init__(self, application) -> None:
        self._application = application

    def _views(self, kind: str) -> dict:
        return {name: view for name, view in self._application.views.items() if view.kind == kind}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._views("slice"))

    def sliceWidget(self, name: str) -> SliceWidget | None:
        view = self._views("slice").get(name)
        return SliceWidget(view) if view else None

    def mrmlSliceLogics(self):
        return self._application.core.GetSliceLogics()

    @property
    def threeDViewCount(self) -> int:
        return len(self._views("3d"))

    def threeDWidget(self, index: int) -> ThreeDWidget:
        return ThreeDWidget(list(self._views("3d").values())[index])

    def resetSliceViews(self) -> None:
        for view in self._views("slice").values():
            view.fit()

    def resetThreeDViews(self) -> None:
        for view in self._views("3d").values():
            view.fit()


class ApplicationShim:
    """`slicer.app` without Qt: files, layout, cursors and the test mode."""

    applicationName = "Slicer"

    def __init__(self, application) -> None:
        self._application = application
        self._files = FileManager(application)
        self._layout = LayoutManager(application)
        self._paused = 0
        self.temporaryPath = application.folder

    def coreIOManager(self) -> FileManager:
        return self._files

    def ioManager(self) -> FileManager:
        return self._files

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def applicationLogic(self):
        return self._application.core

    def mrmlScene(self):
        return self._application.scene

    def testingEnabled(self) -> bool:
        return True

    def setOverrideCursor(self, cursor) -> None:
        """No pointer is shown without a display."""

    def restoreOverrideCursor(self) -> None:
        """No pointer is shown without a display."""

    def pauseRender(self) -> None:
        self._paused += 1

    def resumeRender(self) -> None:
        self._paused = max(0, self._paused - 1)

    def processEvents(self, *flags) -> None:
        """Handle what is waiting in the views' interactors; there is no other event queue."""
        for view in self._application.views.values():
            view.mouse.ProcessEvents()


__all__ = ["ApplicationShim", "LayoutManager", "SliceWidget", "ThreeDWidget"]
