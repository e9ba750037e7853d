"""From the local space of a volume node to the world: its parent transforms, as long as these are linear."""

from __future__ import annotations

import numpy as np
import vtk

from ..errors import ImageError
from ..geometry import Frame
from .placement import LPS_TO_RAS


def in_world(frame: Frame, volume) -> Frame:
    """A grid of the local space of a volume node (LPS) where the world shows it (LPS), all parent transforms applied.

    Raises:
        ImageError: one of them is not linear, or squeezes the volume flat.
    """
    parent = volume.GetParentTransformNode()
    if parent is None:
        return frame
    matrix = vtk.vtkMatrix4x4()
    if not (parent.IsTransformToWorldLinear() and parent.GetMatrixTransformToWorld(matrix)):
        raise ImageError(
            f"'{volume.GetName()}' lies under a non-linear transform; harden the transform on it and apply again."
        )
    ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(3)])
    to_world = LPS_TO_RAS[:, None] * ras[:, :3] * LPS_TO_RAS
    origin = to_world @ frame.origin + LPS_TO_RAS * ras[:, 3]
    return Frame(frame.size, origin, to_world @ frame.steps, frame.spacing_source)
