"""A real 3-D view: Slicer's view logic, displayable managers and interactor style in an off-screen window."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from .window import Window

MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)


class ThreeDView(Window):
    """A 3-D view; `look_at` places its camera."""

    kind = "3d"

    def __init__(self, app, name="1", size=(600, 500)) -> None:
        super().__init__(app, f"View{name}", size)
        self.group = self._group(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), MANAGERS)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(app.core)
        app.core.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(app.scene)
        self.node = app.scene.GetSingletonNode(name, "vtkMRMLViewNode")
        if self.node is None:
            self.node = self.logic.AddViewNode(name)
        else:
            self.logic.SetMRMLViewNode(self.node)
        self.group.SetMRMLDisplayableNode(self.node)
        self.style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self.style.SetDisplayableManagers(self.group)
        self.style.SetInteractor(self.mouse)

    def look_at(self, center, direction, up=(0.0, 0.0, 1.0), distance=500.0) -> None:
        """Look at the world position `center` along `direction` from `distance` millimeters away."""
        center, direction = np.asarray(center, float), np.asarray(direction, float)
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(*center)
        camera.SetPosition(*(center - distance * direction / np.linalg.norm(direction)))
        camera.SetViewUp(*up)
        self.renderer.ResetCameraClippingRange()
        self.render()

    def fit(self) -> None:
        self.renderer.ResetCamera()

    def pixel(self, ras) -> np.ndarray:
        coordinate = vtk.vtkCoordinate()
        coordinate.SetCoordinateSystemToWorld()
        coordinate.SetValue(*ras)
        return np.asarray(coordinate.GetComputedDoubleDisplayValue(self.renderer)[:2])

    def close(self) -> None:
        self.app.core.GetViewLogics().RemoveItem(self.logic)
        super().close()
