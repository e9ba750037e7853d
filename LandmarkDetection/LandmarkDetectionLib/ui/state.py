"""The state of the panel, as typed members of the module's parameter node."""

import enum

from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class Device(enum.Enum):
    """Where the model runs; the values are what the detector is asked for."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "cuda"

    def label(self):
        """The text in the combo box."""
        return {"AUTO": _("Auto"), "CPU": _("CPU"), "GPU": _("GPU")}[self.name]


class Side(enum.Enum):
    """Declared side of the body; the values are what the detector is asked for."""

    AUTO = "auto"
    LEFT = "left"
    RIGHT = "right"

    def label(self):
        """The text in the combo box."""
        return {"AUTO": _("Auto"), "LEFT": _("Left"), "RIGHT": _("Right")}[self.name]


@parameterNodeWrapper
class LandmarkDetectionParameterNode:
    """The state of the panel, saved with the scene.

    Attributes:
        inputVolume: image in which landmarks are looked for.
        landmarks: detection that the table shows.
        model: name of the bundle.
        device, side: see the enums.
        spacing: millimeters per pixel given by the user; 0 takes what the image says.
        showEllipses, showHeatmap: what is drawn over the image.
        reviewAbove: expected error (index px) from which a landmark is to be reviewed; 0 leaves it to the model.
        showNext: after a correction, show the landmark whose correction would help most.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    landmarks: vtkMRMLMarkupsFiducialNode
    model: str = "knee-ap-radiograph"
    device: Device = Device.AUTO
    side: Side = Side.AUTO
    spacing: float = 0.0
    showEllipses: bool = True
    showHeatmap: bool = False
    reviewAbove: float = 0.0
    showNext: bool = False
