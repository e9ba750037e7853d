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
from ..uncertainty.certainty import Certainty


@dataclass(frozen=True, eq=False)
class Heatmaps:
    """Where each landmark may be, as unnormalised log-probabilities over a grid.

    Attributes:
        logits: (n, h, w) or (n, depth, h, w) float32, temperature applied; softmax over all cells of one landmark is
            its probability.
        frame: grid of the cells in the same physical space as the image, one for all landmarks or one for each;
            ``logits.shape[1:] == frame.size[::-1]``.
    """

    logits: np.ndarray
    frame: Frame | tuple[Frame, ...]

    def __post_init__(self) -> None:
        logits = np.asarray(self.logits, dtype=np.float32)
        if not isinstance(self.frame, Frame) and len(self.frame) != len(logits):
            raise LandmarkDetectionError(f"{len(logits)} heatmaps do not fit {len(self.frame)} grids; detect again.")
        for frame in {self.frame_of(row) for row in range(len(logits))}:
            if logits.shape[1:] != frame.size[::-1]:
                raise LandmarkDetectionError(
                    f"Heatmaps of shape {logits.shape} do not fit a grid of size {frame.size}; detect again."
                )
        object.__setattr__(self, "logits", logits)

    def frame_of(self, row: int) -> Frame:
        """Grid of one landmark's heatmap."""
        return self.frame if isinstance(self.frame, Frame) else self.frame[row]

    def cells(self, physical: np.ndarray) -> np.ndarray:
        """Cells (n, d) of one LPS position for each landmark, (n, 3), each in the grid of its own heatmap."""
        return np.array([self.frame_of(row).to_index(position) for row, position in enumerate(physical)])


@dataclass(frozen=True, eq=False)
class Seen:
    """Landmarks as the image shows them, and the logarithm of how well it bears them out, up to a constant.

    ``out_of_order`` are the levels (by number) that the user has put on a vertebra elsewhere in the column.
    """

    landmarks: LandmarkSet
    evidence: float = 0.0
    out_of_order: frozenset[int] = frozenset()


Repredict = Callable[[Mapping[int, np.ndarray], LandmarkSet], Seen]
"""Landmarks as a network sees them that is told where some are.

Takes the row of each hint and its position (d,) in index coordinates, and where all landmarks are expected: as first
found, or shifted by some levels, and ``moved`` where the user put a point far off its level: that is no hint, but may
tell which vertebra is its level. It keeps the features of the image: only what depends on the hints is computed.
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
        fitness: how well the film fits the model, 0 to 1, refused below 0.5 (see `inference.fitness`); None where that
            was not judged.
        review_threshold: expected error in index units above which a landmark is to be reviewed, or None.
        errors: how the errors of the model go together, in the orientation of the image; None where it was not learnt.
        certainty: what the model promises about its errors and regions; None where that was not measured.
        repredict: runs the network again with hints, see `Repredict`; None for models that take none. Not stored.
        doubts: (n,) expected errors in index units without a ceiling: how little a landmark is at home in the image,
            by which other anatomy is told; None where the model has another measure. Not stored.
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
    fitness: float | None = None
    review_threshold: float | None = None
    errors: ErrorModel | None = None
    certainty: Certainty | None = None
    repredict: Repredict | None = None
    doubts: np.ndarray | None = None

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
            "certainty": None if self.certainty is None else self.certainty.to_dict(),
            "notes": list(self.notes),
            "plausibility": float(self.plausibility),
            "fitness": None if self.fitness is None else float(self.fitness),
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
            errors, certainty = description["errors"], description.get("certainty")
            plain = ("bundle_name", "bundle_version", "bundle_sha256", "image_name", "side", "side_probability")
            judged = ("plausibility", "fitness", "review_threshold")
            return cls(
                **{name: description[name] for name in (*plain, "presence", *judged)},
                landmarks=landmarks_from_values(schema, frame, description["landmarks"]),
                prior=ShapePrior.from_tensors({k: from_json(v) for k, v in description["prior"].items()}),
                heatmaps=heatmaps,
                notes=tuple(description["notes"]),
                errors=None if errors is None else ErrorModel(from_json(errors)),
                certainty=None if certainty is None else Certainty.from_dict(certainty),
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
