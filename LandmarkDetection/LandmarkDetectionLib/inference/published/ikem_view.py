"""What an interactive network sees of an image: one size, gray values from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...errors import ImageError, LandmarkDetectionError
from ...geometry import Frame
from ...images import Image
from ...preprocessing.resample import sample
from .kneel import stretched

Fit = Literal["stretch", "letterbox"]


@dataclass(frozen=True)
class IkemPlan:
    """How an image is brought to a network.

    Attributes:
        size: of the network's input, x first.
        fit: ``"stretch"`` fills it and changes the proportions, as the papers do; ``"letterbox"`` keeps them and
            goes on with the image's edge values beside it.
        percentiles: gray values at these become -1 and 1.
        hint_deviation: of a hint's Gaussian, in pixels of the input.
        channels: how often the gray values are repeated.

    Raises:
        LandmarkDetectionError: there is no such way to fit.
    """

    size: tuple[int, ...] = (256, 512)
    fit: Fit = "stretch"
    percentiles: tuple[float, float] = (0.0, 100.0)
    hint_deviation: float = 7.5
    channels: int = 3

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise LandmarkDetectionError(f"Plan field 'fit': '{self.fit}' is not one of {', '.join(get_args(Fit))}.")


def network_frame(frame: Frame, plan: IkemPlan) -> Frame:
    """The pixels that the network sees, placed in the image's physical space.

    Raises:
        ImageError: the image has another number of axes than the plan.
    """
    if frame.dims != len(plan.size):
        raise ImageError(f"This model needs an image of {len(plan.size)} axes, not one of {frame.dims}.")
    if plan.fit == "letterbox":
        # Extents in steps of the first axis, so that the proportions are those of the anatomy.
        relative = frame.spacing / frame.spacing[0]
        factor = max(np.array(frame.size) * relative / plan.size)
        canvas = np.maximum(frame.size, np.round(factor * np.array(plan.size) / relative)).astype(int)
        frame = frame.cropped((np.array(frame.size) - canvas) / 2, canvas)
    return frame.resampled(size=plan.size)


def gray_view(image: Image, plan: IkemPlan) -> tuple[np.ndarray, Frame]:
    """Gray values 0..255 (float32) as the network sees them, and their frame."""
    frame = network_frame(image.frame, plan)
    return sample(Image(stretched(image.array, plan.percentiles), image.frame, image.name), frame), frame


def network_input(gray: Tensor, channels: int) -> Tensor:
    """Gray values 0..255 ``(B, [D,] H, W)`` as input ``(B, channels, [D,] H, W)`` from -1 to 1."""
    scaled = gray.float()[:, None] / 127.5 - 1
    return scaled.expand(-1, channels, *gray.shape[1:])


def image_input(image: Image, plan: IkemPlan) -> tuple[Tensor, Frame]:
    """One image as input ``(1, channels, [D,] H, W)``, and the frame of its pixels."""
    gray, frame = gray_view(image, plan)
    return network_input(torch.from_numpy(np.ascontiguousarray(gray))[None], plan.channels), frame
