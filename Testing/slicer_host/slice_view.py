"""A real slice view: Slicer's slice logic, displayable managers and interactor style in an off-screen window."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from .window import Window

MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLMarkupsDisplayableManager")


class SliceView(Window):
    """A slice view of `volume`; `orientation` is one of Slicer's presets.

    A film lies in its own plane: `rotate_to_volume` turns the view into it, as Slicer's button does.
    """

    kind = "slice"

    def __init__(
        self, app, volume=None, name="Red", orientation="Axial", size=(700, 560), rotate_to_volume=True
    ) -> None:
        super().__init__(app, name, size)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.group = self._group(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), MANAGERS)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(app.core)
        app.core.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(app.scene)
        # A scene that was read back holds the nodes of its views; a second one of the same name would stay outside.
        self.node = app.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        if self.node is None:
            self.node = self.logic.AddSliceNode(name)
        else:
            self.logic.SetSliceNode(self.node)
        self.node.SetOrientation(orientation)
        self.group.SetMRMLDisplayableNode(self.node)
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self.style.SetDisplayableManagers(self.group)
        self.style.SetInteractor(self.mouse)
        self.logic.ResizeSliceNode(*size)
        self._show_image()
        if volume is not None:
            self.show(volume, rotate_to_volume)

    def _show_image(self) -> None:
        """Put the blended slice image behind everything else, which Slicer's slice widget does in C++."""
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255.0)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)
        self._image_actor = actor
        self._observation = self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._refresh_image)
        self._refresh_image(None, None)

    def _refresh_image(self, caller, event) -> None:
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._image_actor.SetVisibility(connection is not None)

    def show(self, volume, rotate_to_volume=True) -> None:
        """Show `volume` in the background and fit it into the view."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        if rotate_to_volume:
            self.node.RotateToVolumePlane(volume)
        self.fit()

    def fit(self) -> None:
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def pixel(self, ras) -> np.ndarray:
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        return np.asarray(inverse.MultiplyPoint((*ras, 1.0))[:2])

    def millimeters_per_pixel(self) -> float:
        matrix = self.node.GetXYToRAS()
        return float(np.linalg.norm([matrix.GetElement(row, 0) for row in range(3)]))

    def render(self) -> None:
        self.logic.UpdatePipeline()
        super().render()

    forceRender = render

    def close(self) -> None:
        self.logic.RemoveObserver(self._observation)
        self.app.core.GetSliceLogics().RemoveItem(self.logic)
        super().close()
