"""What a detector found in one image, with all that a later correction needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from ..landmarks import LandmarkSchema, LandmarkSet
from ..priors import ErrorModel, ShapePrior


@dataclass(frozen=True, eq=False)
class Heatmaps:
    """Where each landmark may be, as unnormalised log-probabilities over a grid.

    Attributes:
        logits: (n, h, w) or (n, depth, h, w) float32, temperature applied; softmax over all cells of one landmark is
            its probability.
        frame: grid of the cells in the same physical space as the image; ``logits.shape[1:] == frame.size[::-1]``.
    """

    logits: np.ndarray
    frame: Frame

    def __post_init__(self) -> None:
        logits = np.asarray(self.logits, dtype=np.float32)
        if logits.shape[1:] != self.frame.size[::-1]:
            raise LandmarkDetectionError(
                f"Heatmaps of shape {logits.shape} do not fit a grid of size {self.frame.size}; detect again."
            )
        object.__setattr__(self, "logits", logits)


@dataclass(frozen=True, eq=False)
class Seen:
    """Landmarks as the image shows them, and the logarithm of how well it bears them out, up to a constant."""

    landmarks: LandmarkSet
    evidence: float = 0.0


Repredict = Callable[[Mapping[int, np.ndarray], LandmarkSet], Seen]
"""Landmarks as a network sees them that is told where some are.

Takes the row of each hint and its position (d,) in index coordinates, and where all landmarks are expected: as first
found, or shifted by some levels. It keeps the features of the image: only what depends on the hints is computed.
"""


@dataclass(frozen=True, eq=False)
class Detection:
    """One detection.

    Attributes:
        bundle_name, bundle_version, bundle_sha256: the model that made it.
        image_name: the image, for people.
        landmarks: in the frame of the image as loaded.
        side: side of the body, and `side_probability`, the probability of it; None where the model knows no sides.
        presence: probability that the image shows the anatomy at all.
        prior: shape prior in the orientation of the image (see `ShapePrior.mirrored`).
        heatmaps: None where a detection was read back from a scene.
        notes: sentences about the image and the detection.
        plausibility: of the shape, 0.5 at the limit of the prior.
        review_threshold: expected error in index units above which a landmark is to be reviewed, or None.
        errors: how the errors of the model go together, in the orientation of the image; None where it was not learnt.
        repredict: runs the network again with hints, see `Repredict`; None for models that take none. Not stored.
    """

    bundle_name: str
    bundle_version: str
    bundle_sha256: str
    image_name: str
    landmarks: LandmarkSet
    side: Literal["left", "right"] | None
    side_probability: float | None
    presence: float
    prior: ShapePrior
    heatmaps: Heatmaps | None
    notes: tuple[str, ...] = ()
    plausibility: float = 1.0
    review_threshold: float | None = None
    errors: ErrorModel | None = None
    repredict: Repredict | None = None

    def to_dict(self) -> dict:
        """Everything but the heatmaps as plain JSON values; floats survive exactly, NaN becomes null."""
        return {
            "bundle_name": self.bundle_name,
            "bundle_version": self.bundle_version,
            "bundle_sha256": self.bundle_sha256,
            "image_name": self.image_name,
            "schema": self.landmarks.schema.to_dict(),
            "frame": self.landmarks.frame.to_dict(),
            "landmarks": landmark_values(self.landmarks),
            "side": self.side,
            "side_probability": None if self.side_probability is None else float(self.side_probability),
            "presence": float(self.presence),
            "prior": {name: to_json(tensor) for name, tensor in self.prior.to_tensors().items()},
            "errors": None if self.errors is None else to_json(self.errors.covariance),
            "notes": list(self.notes),
            "plausibility": float(self.plausibility),
            "review_threshold": None if self.review_threshold is None else float(self.review_threshold),
        }

    @classmethod
    def from_dict(cls, description: Mapping, heatmaps: Heatmaps | None = None) -> Detection:
        """The detection that `to_dict` described, with heatmaps where there are some.

        Raises:
            LandmarkDetectionError: a field is missing or damaged.
        """
        try:
            schema = LandmarkSchema.from_dict(description["schema"])
            frame = Frame.from_dict(description["frame"])
            errors = description["errors"]
            plain = ("bundle_name", "bundle_version", "bundle_sha256", "image_name", "side", "side_probability")
            return cls(
                **{name: description[name] for name in (*plain, "presence", "plausibility", "review_threshold")},
                landmarks=landmarks_from_values(schema, frame, description["landmarks"]),
                prior=ShapePrior.from_tensors({k: from_json(v) for k, v in description["prior"].items()}),
                heatmaps=heatmaps,
                notes=tuple(description["notes"]),
                errors=None if errors is None else ErrorModel(from_json(errors)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LandmarkDetectionError(f"The stored detection is damaged ({error}); detect again.") from error


def landmark_values(landmarks: LandmarkSet) -> dict:
    """What changes from one state of a landmark set to the next, as plain JSON values."""
    return {
        "positions": to_json(landmarks.positions),
        "covariances": to_json(landmarks.covariances),
        "expected_errors": to_json(landmarks.expected_errors),
        "statuses": list(landmarks.statuses),
        "sources": list(landmarks.sources),
    }


def landmarks_from_values(schema: LandmarkSchema, frame: Frame, values: Mapping) -> LandmarkSet:
    """The landmark set that `landmark_values` described."""
    arrays = {name: from_json(values[name]) for name in ("positions", "covariances", "expected_errors")}
    return LandmarkSet(schema, frame, **arrays, statuses=tuple(values["statuses"]), sources=tuple(values["sources"]))


def to_json(array: np.ndarray) -> list:
    """Nested lists of floats; what is not finite becomes None, since JSON has no NaN."""
    array = np.asarray(array, dtype=float)
    return np.where(np.isfinite(array), array.astype(object), None).tolist()


def from_json(values: list) -> np.ndarray:
    """The float64 array that `to_json` described."""
    return np.asarray(values, dtype=object).astype(float)
