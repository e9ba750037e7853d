"""CT volumes as the anatomical prior sees them: a grid along the body's axes about landmarks, in Hounsfield units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from ..images import Image
from ..preprocessing.resample import sample
from ..preprocessing.volume_window import window_about
from .anatomy_view import AnatomyView, GridView


@dataclass(frozen=True)
class VolumeView(GridView):
    """How a CT becomes a grid of gray values.

    Landmarks give the pose: translation and scale along the axes of the body. What is left of turn and shape is the
    prior's to find.

    Attributes:
        middle: landmarks whose mean is the middle of the window.
        across: two landmarks; the distance between them is the tibial width.
        low, high: HU at which gray values are cut off; they become ``-limit`` and ``limit``.
        limit: largest gray value.
    """

    middle: tuple[str, ...]
    across: tuple[str, str]
    low: float = 0.0
    high: float = 500.0
    limit: float = 1.0

    def first_window(self, frame: Frame, mirrored: bool = False) -> Frame:
        """Volumes have no window without landmarks.

        Raises:
            LandmarkDetectionError: always.
        """
        raise LandmarkDetectionError("A volume is segmented about its landmarks; give their window (`window_about`).")

    def window_about(self, frame: Frame, points: Mapping[str, np.ndarray], mirrored: bool = False) -> Frame:
        """The window in the standard pose about landmarks.

        Args:
            frame: of the volume.
            points: name to LPS ``(3,)`` of at least the landmarks that the view names.
            mirrored: the volume shows a left knee; the window then runs from right to left.

        Raises:
            LandmarkDetectionError: one of these landmarks is missing or not in view.
        """
        for name in (*self.middle, *self.across):
            if name not in points or not np.isfinite(points[name]).all():
                raise LandmarkDetectionError(f"The landmark '{name}' is not in view; the bones cannot be segmented.")
        first, last = (np.asarray(points[name]) for name in self.across)
        spacing = self.extent * float(np.linalg.norm(last - first)) / self.size[0]
        middle = np.mean([points[name] for name in self.middle], axis=0)
        return window_about(frame, middle, spacing, self.size, mirrored)

    def gray(self, image: Image, window: Frame) -> np.ndarray:
        """Gray values ``(D, H, W)``, float32, from ``-limit`` to ``limit``."""
        # Cut off first: a screw of 3000 HU must not shine into the cells beside it.
        cut = np.clip(image.array, self.low, self.high, dtype=np.float32, casting="unsafe")
        share = (sample(Image(cut, image.frame, image.name), window) - self.low) / (self.high - self.low)
        return ((2 * share - 1) * self.limit).astype(np.float32)


def view_of(values: Mapping) -> AnatomyView | VolumeView:
    """The view that plain values describe; its size tells whether of films or of volumes."""
    return (VolumeView if len(values["size"]) == 3 else AnatomyView)(**values)
