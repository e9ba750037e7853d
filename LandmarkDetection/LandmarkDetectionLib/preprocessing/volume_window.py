"""Windows of volumes: grids along the body's axes with even voxels, and gray values on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from .volume_plan import ForegroundIntensities

HOUNSFIELD = -200.0
"""A volume with values below this is a CT: neither magnitude images nor their resampling ring as far down."""

_BODY = 0.1  # share of the 99th percentile above which a voxel of an MR image counts as body


@dataclass(frozen=True)
class WindowPlan:
    """How a volume becomes a network's input.

    Attributes:
        spacing: mm of the even voxels.
        size: (w, h, d) of a window; None where the whole volume is the input.
        intensities: of CT; other images are scaled by their own.
    """

    spacing: float
    intensities: ForegroundIntensities
    size: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", float(self.spacing))
        if not (np.isfinite(self.spacing) and self.spacing > 0):
            raise LandmarkDetectionError(f"The plan's field 'spacing' must be a positive number, not {self.spacing}.")
        if self.size is not None:
            object.__setattr__(self, "size", tuple(int(n) for n in self.size))
            if len(self.size) != 3 or min(self.size) < 1:
                raise LandmarkDetectionError(f"The plan's field 'size' must hold 3 positive numbers, not {self.size}.")

    @classmethod
    def from_dict(cls, description: Mapping) -> WindowPlan:
        """The plan in plain values, as a recipe and a bundle hold it.

        Raises:
            LandmarkDetectionError: a field is missing, unknown or out of range.
        """
        try:
            intensities = ForegroundIntensities(**description["intensities"])
            return cls(**{**description, "intensities": intensities})
        except (TypeError, ValueError, KeyError) as error:
            raise LandmarkDetectionError(f"The plan is incomplete or damaged: {error}.") from error


@dataclass(frozen=True)
class GrayScale:
    """Limits at which gray values are cut off, and the mean and deviation by which they are scaled."""

    low: float
    high: float
    mean: float
    deviation: float
    is_ct: bool

    @classmethod
    def of(cls, array: np.ndarray, plan: WindowPlan) -> GrayScale:
        """Fixed values for a CT (nnU-Net's scheme ``CT``), else those of the body in the image itself.

        Args:
            array: (d, h, w), the whole volume.
        """
        if float(array.min()) < HOUNSFIELD:
            fixed = plan.intensities
            return cls(fixed.low, fixed.high, fixed.mean, fixed.std, True)
        # Every third voxel tells the percentiles well enough, and sorting is what costs.
        few = array[::2, ::3, ::3].astype(np.float32).ravel()
        body = few[few > _BODY * np.percentile(few, 99)]
        body = body if len(body) else few
        low, high = np.percentile(body, [0.5, 99.5])
        inside = np.clip(body, low, high)
        # Air is as far below the body as it is in a CT.
        return cls(0.0, float(high), float(inside.mean()), max(float(inside.std()), 1e-6), False)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Gray values of any shape as float32."""
        values = np.clip(values, self.low, self.high).astype(np.float32)
        return (values - np.float32(self.mean)) / np.float32(self.deviation)


def body_frame(frame: Frame) -> Frame:
    """The same grid with its axes in the order, and each in the direction, that lies nearest to L, P and S."""
    direction = frame.direction()
    order, free = [], [0, 1, 2]
    for axis in np.argsort(-np.abs(direction).max(axis=1)):
        order.append((axis, max(free, key=lambda k, axis=axis: abs(direction[axis, k]))))
        free.remove(order[-1][1])
    turned = frame.permuted([k for _, k in sorted(order)])
    for axis in range(3):
        if turned.steps[axis, axis] < 0:
            turned = turned.flipped(axis)
    return turned


def whole_window(frame: Frame, spacing: float, divisor: int, beyond: float = 0.0) -> Frame:
    """A grid of even voxels along the body's axes that holds a whole volume.

    Args:
        frame: of the volume.
        spacing: mm.
        divisor: of the number of voxels along each axis.
        beyond: mm more above and below.
    """
    body = body_frame(frame)
    wanted = (np.asarray(body.size) * body.spacing + [0, 0, 2 * beyond]) / spacing
    size = (np.ceil(wanted / divisor - 1e-6) * divisor).astype(int)
    return window_about(frame, body.to_physical((np.asarray(body.size) - 1) / 2), spacing, tuple(size.tolist()))


def window_about(
    frame: Frame, centre: np.ndarray, spacing: float, size: Sequence[int], mirrored: bool = False
) -> Frame:
    """A grid of even voxels along the body's axes about an LPS position; ``mirrored`` reverses its x."""
    body = body_frame(frame)
    steps = body.direction() * spacing
    origin = np.asarray(centre) - steps @ ((np.asarray(size) - 1) / 2)
    window = Frame(tuple(size), origin, steps, frame.spacing_source)
    return window.flipped(0) if mirrored else window
