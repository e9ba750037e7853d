"""One click: from an image to named landmarks with expected errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..errors import BundleError
from ..images import Image, check_image, require_film, require_volume
from .bundle import Bundle
from .column import ColumnPipeline
from .detection import Detection
from .device import choose_device
from .exposure import with_exposure_noted
from .joint import JointPipeline, Progress
from .metal import with_metal_noted
from .patches import PatchPipeline
from .volume.column import VolumeColumnPipeline
from .volume.joint import VolumeJointPipeline

PIPELINES = {
    "joint": JointPipeline,
    "column": ColumnPipeline,
    "patch": PatchPipeline,
    "volume_column": VolumeColumnPipeline,
    "volume_joint": VolumeJointPipeline,
}
"""What a bundle of each kind does with an image."""


class Detector:
    """A bundle, ready to run on one device.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``, the one that is really used.
        device_reason: a sentence that says why.
        pipeline: the stages of the bundle.
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        if bundle.kind not in PIPELINES:
            raise BundleError(f"The model '{bundle.name}' is of an unknown kind, {bundle.kind}; update this extension.")
        self.bundle = bundle
        chosen, self.device_reason = choose_device(device)
        self.device = chosen.type
        self.pipeline = PIPELINES[bundle.kind](bundle, chosen)

    def detect(
        self,
        image: Image,
        side: Literal["auto", "left", "right"] = "auto",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        force: bool = False,
    ) -> Detection:
        """Find the landmarks of one film or volume.

        Args:
            image: a film or a volume, as the bundle reads; its arrays are read, never changed.
            side: of the body; ``auto`` takes the side that the image shows. Models without sides take any.
            progress: told the share done and what is being done.
            cancelled: asked between the networks.
            force: go on although the image does not look like the anatomy, or like the side that was declared.

        Raises:
            ImageError: nothing can be found on such an image.
            NotThisAnatomyError: the image does not show the anatomy, or is not the right way up.
            SideError: the declared side contradicts the image.
            Cancelled: ``cancelled`` said so.
        """
        is_film = self.bundle.schema.dims == 2
        (require_film if is_film else require_volume)(image)
        check_image(image)
        if is_film:
            image = with_exposure_noted(image)
        detection = self.pipeline.detect(
            image, side, progress or (lambda share, what: None), cancelled or (lambda: False), force
        )
        return with_metal_noted(detection, image) if is_film else detection
