"""The preprocessing plan of one stage of a model, stored in its bundle so that use and training cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from ..errors import LandmarkDetectionError

Crop = Literal["foreground", "none"]


@dataclass(frozen=True)
class Plan:
    """How an image becomes a network's input.

    Attributes:
        size: (w, h[, d]) of the network's input.
        percentiles: lower and upper percentile at which gray values are cut off before scaling.
        crop: whether empty borders are cut off first.
        extent: width that the input covers, in the units of the stage before (for the landmark stage: multiples of the
            anatomy's scale), or None where the whole of the image or its foreground is covered.
    """

    size: tuple[int, ...]
    percentiles: tuple[float, float] = (1.0, 99.0)
    crop: Crop = "foreground"
    extent: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "percentiles", tuple(float(p) for p in self.percentiles))
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise LandmarkDetectionError(f"The plan's field 'size' must hold 2 or 3 positive numbers, not {self.size}.")
        if len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise LandmarkDetectionError(
                f"The plan's field 'percentiles' must rise within 0 to 100, not be {self.percentiles}."
            )
        if self.crop not in get_args(Crop):
            raise LandmarkDetectionError(f"The plan's field 'crop' must be one of {get_args(Crop)}, not '{self.crop}'.")
        if self.extent is not None and not self.extent > 0:
            raise LandmarkDetectionError(f"The plan's field 'extent' must be positive, not {self.extent}.")

    def to_dict(self) -> dict:
        """A JSON-able description, read back by `from_dict` without loss."""
        return {**asdict(self), "size": list(self.size), "percentiles": list(self.percentiles)}

    @classmethod
    def from_dict(cls, description: Mapping) -> Plan:
        """The plan that `to_dict` described.

        Raises:
            LandmarkDetectionError: a field is missing, unknown or out of range.
        """
        unknown = set(description) - {field.name for field in fields(cls)}
        if unknown:
            raise LandmarkDetectionError(f"The plan has unknown fields: {', '.join(sorted(unknown))}.")
        try:
            return cls(**description)
        except (TypeError, ValueError) as error:
            raise LandmarkDetectionError(f"The plan is incomplete or damaged: {error}.") from error
