"""What both kinds of view share: an off-screen window, a mouse, and pictures of what is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from PIL import Image as Picture
from vtk.util.numpy_support import vtk_to_numpy


class Window:
    """An off-screen render window with a mouse that sends real VTK events.

    `size` is width, height in pixels; mouse positions count from the lower left corner as VTK's do.
    """

    kind = ""

    def __init__(self, app, name: str, size: tuple[int, int]) -> None:
        self.app = app
        self.name = name
        self.size = size
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        # With several samples, translucent models vanish on software renderers.
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        self.mouse = vtk.vtkRenderWindowInteractor()
        self.mouse.SetRenderWindow(self.window)
        # VTK's own style would take the drag before the displayable managers see it.
        self.mouse.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.mouse.Initialize()
        self.mouse.UpdateSize(*size)
        app.views[name] = self

    def _group(self, factory, managers: tuple[str, ...]):
        """Register the displayable managers in Slicer's factory and make a group of them for this window."""
        factory.SetMRMLApplicationLogic(self.app.core)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        group = slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(self.renderer)
        group.Initialize(factory, self.renderer)
        return group

    def pixel(self, ras) -> np.ndarray:
        """Return the window position (2,) of a world position (R, A, S)."""
        raise TypeError(f"{type(self).__name__} does not say where a world position appears.")

    def render(self) -> None:
        self.window.Render()

    forceRender = render

    def send(self, event: str, position) -> None:
        """Send one mouse event at a window position."""
        x, y = (int(round(float(value))) for value in position)
        self.mouse.SetEventInformation(x, y, 0, 0, chr(0), 0, None)
        self.mouse.InvokeEvent(event)

    def press(self, start) -> None:
        """Hover over `start`, then press the left button there: nothing is grabbed without the hover."""
        self.send("MouseMoveEvent", start)
        self.send("LeftButtonPressEvent", start)

    def move(self, start, stop, steps: int = 10) -> None:
        for part in np.linspace(0.0, 1.0, steps + 1)[1:]:
            self.send("MouseMoveEvent", np.asarray(start) * (1.0 - part) + np.asarray(stop) * part)

    def release(self, stop) -> None:
        self.send("LeftButtonReleaseEvent", stop)

    def drag(self, start, stop, steps: int = 10) -> None:
        """Drag with the left button from one window position to another."""
        self.press(start)
        self.move(start, stop, steps)
        self.release(stop)

    def click(self, position) -> None:
        """Press and release without moving."""
        self.press(position)
        self.release(position)

    def pixels(self) -> np.ndarray:
        """Render and return what is shown as (height, width, 3) uint8, first row on top."""
        self.render()
        width, height = self.size
        values = vtk.vtkUnsignedCharArray()
        # The overload with an array needs the seventh argument.
        self.window.GetPixelData(0, 0, width - 1, height - 1, 0, values, 0)
        return vtk_to_numpy(values).reshape(height, width, 3)[::-1].copy()

    def save(self, path) -> Path:
        """Write what is shown as a PNG and return its path."""
        path = Path(path)
        Picture.fromarray(self.pixels()).save(path)
        return path

    def close(self) -> None:
        """Release the window; the nodes of the view stay in the scene."""
        if self.app.views.pop(self.name, None) is None:
            return
        self.group.SetMRMLDisplayableNode(None)
        self.style.SetInteractor(None)
        self.window.Finalize()
