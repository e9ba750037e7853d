"""Model bundles: a folder with ``model.json``, safetensors and the hash of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from ..errors import BundleError, LandmarkDetectionError
from ..landmarks import LandmarkSchema
from ..preprocessing.plan import Plan
from ..preprocessing.volume_window import WindowPlan
from ..priors import ErrorModel, ShapePrior
from ..uncertainty.certainty import Certainty

FORMAT = 3
MODEL_FILE = "model.json"
BUNDLED_MODELS = Path(__file__).resolve().parents[2] / "Resources" / "Models"


@dataclass(frozen=True)
class Stage:
    """One step of a detector: networks of one architecture, whose heatmaps are averaged, and their input.

    ``network`` holds the arguments of the architecture, ``weights`` one file for each member.
    """

    network: Mapping
    weights: tuple[str, ...]
    plan: Plan | WindowPlan


_ENDLESS = ("refusal_threshold", "error_ceiling")
"""Values of a calibration that may be infinite."""


@dataclass(frozen=True)
class Calibration:
    """What turns network output into statements; each value comes from films kept out of training.

    Tuples hold one value for each landmark.

    Attributes:
        presence_threshold: from which the anatomy counts as present: for a joint or a patch model a logit of the region
            stage, for a column the mean probability of the vertebrae that are seen best.
        temperature: of the heatmaps, for regions and covariances; the decoded points do not depend on it.
        error_temperature: of the heatmaps for expected errors: how far a landmark is off when it is off is told by the
            faint parts of a heatmap, more than a region of 95 % asks for.
        covariance_scale: factor from the heatmaps' covariances to those whose ellipses of 95 % hold 95 % of the truth.
        error_ceiling: the heatmaps' expected radial error beyond which more of it says no more, as a share of the
            centroid size; infinite where none was found.
        error_scale: factor from the heatmaps' expected radial error to the mean error seen.
        shape_scale: factor from the distance to where the other landmarks put one to its part in the expected error.
        review_threshold: expected error above which a landmark is to be reviewed, as a share of the centroid size.
        refusal_threshold: mean of `Detection.doubts`, in the same unit, above which the film is not of the anatomy.
        certainty: what may be promised; None where that was not measured.
        scatter: share of the model's errors (`Bundle.errors`) that a point is taken to have of its own when the shape
            prior steadies it, see `steadied`; 0 leaves the points where the heatmaps have them.
    """

    presence_threshold: float
    temperature: tuple[float, ...]
    error_temperature: tuple[float, ...]
    error_scale: tuple[float, ...]
    shape_scale: tuple[float, ...]
    covariance_scale: tuple[float, ...]
    review_threshold: float
    refusal_threshold: float
    certainty: Certainty | None = None
    scatter: float = 0.0
    error_ceiling: float = inf

    @classmethod
    def neutral(cls, landmarks: int, presence_threshold: float, scatter: float = 0.0) -> Calibration:
        """A model that says what its maps say and refuses nothing but what does not show its anatomy."""
        ones = (1.0,) * landmarks
        return cls(presence_threshold, ones, ones, ones, (0.0,) * landmarks, ones, 1.0, inf, scatter=scatter)

    def to_dict(self) -> dict:
        """Plain JSON values; what is infinite becomes null."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        endless = {key: None for key in _ENDLESS if not isfinite(values[key])}
        return values | endless | {"certainty": None if self.certainty is None else self.certainty.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping, landmarks: int) -> Calibration:
        """The calibration that `to_dict` described, of a model with so many landmarks."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for key in ("temperature", "error_temperature", "error_scale", "shape_scale", "covariance_scale"):
            if len(values[key]) != landmarks:
                raise ValueError(f"the calibration's field '{key}' needs {landmarks} values")
        values |= {key: inf for key in _ENDLESS if values.get(key) is None}
        certainty = values["certainty"]
        return cls(**values | {"certainty": None if certainty is None else Certainty.from_dict(certainty)})


@dataclass(frozen=True)
class Bundle:
    """A model as it is stored: everything a detector needs, and everything a user should know about it."""

    folder: Path
    kind: str
    name: str
    version: str
    title: str
    description: str
    licence: str
    terms: str
    schema: LandmarkSchema
    mirrored_side: str | None
    stages: Mapping[str, Stage]
    decoding: Mapping
    calibration: Calibration
    prior: ShapePrior
    errors: ErrorModel | None
    figures: Mapping
    training: Mapping
    sha256: str

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read and check a bundle.

        Raises:
            BundleError: a file is missing, was altered, or does not say what it must.
        """
        # Slicer installs safetensors on first use only, and models are listed before that.
        from safetensors.numpy import load_file

        folder = Path(folder)
        raw = read_bytes(folder / MODEL_FILE)
        try:
            model = json.loads(raw)
            if model["format"] != FORMAT:
                raise BundleError(
                    f"The model '{folder.name}' has format {model['format']}; this version reads {FORMAT}."
                )
            for name, expected in model["sha256"].items():
                check_hash(folder / name, expected)
            schema = LandmarkSchema.from_dict(model["schema"])
            stages = {name: read_stage(stage, model["sha256"]) for name, stage in model["stages"].items()}
            return cls(
                folder=folder,
                **{key: model[key] for key in ("kind", "name", "version", "title", "description", "licence", "terms")},
                schema=schema,
                mirrored_side=model["mirrored_side"],
                stages=stages,
                decoding=model["decoding"],
                calibration=Calibration.from_dict(model["calibration"], len(schema.landmarks)),
                prior=ShapePrior.from_tensors(load_file(folder / model["prior"])),
                errors=model["errors"] and ErrorModel.from_tensors(load_file(folder / model["errors"])),
                figures=model["figures"],
                training=model["training"],
                sha256=hashlib.sha256(raw).hexdigest(),
            )
        except BundleError:
            raise
        except (LandmarkDetectionError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"The model '{folder.name}' is damaged ({error}); install it again.") from error


def read_bytes(path: Path) -> bytes:
    """Content of a file of a bundle."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"The file '{path.name}' of the model '{path.parent.name}' cannot be read; install the model again."
        ) from error


def check_hash(path: Path, expected: str) -> None:
    """Refuse a file that is not the one that was published."""
    if path.parent.resolve() != path.resolve().parent:
        raise BundleError(f"The model '{path.parent.name}' refers to a file outside its folder; install it again.")
    if hashlib.sha256(read_bytes(path)).hexdigest() != expected:
        raise BundleError(
            f"The file '{path.name}' of the model '{path.parent.name}' was altered; install the model again."
        )


def read_stage(stage: Mapping, hashes: Mapping) -> Stage:
    """A stage whose weights all have a hash."""
    unchecked = [name for name in stage["weights"] if name not in hashes]
    if unchecked:
        raise BundleError(f"The weights {', '.join(unchecked)} have no hash in {MODEL_FILE}; install the model again.")
    kind = WindowPlan if stage["network"].get("dims", 2) == 3 else Plan
    return Stage(stage["network"], tuple(stage["weights"]), kind.from_dict(stage["plan"]))


def user_models() -> Path:
    """Where a user's own models lie."""
    if "LANDMARK_MODELS" in os.environ:
        return Path(os.environ["LANDMARK_MODELS"])
    cache = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "LandmarkDetection" / "models"


def list_bundles() -> dict[str, Path]:
    """Folder of every model that can be found, by name; a user's own model comes before a bundled one."""
    found: dict[str, Path] = {}
    for root in (BUNDLED_MODELS, user_models()):
        if root.is_dir():
            found |= {path.parent.name: path.parent for path in sorted(root.glob(f"*/{MODEL_FILE}"))}
    return found


def find_bundle(name: str | Path) -> Bundle:
    """The bundle of a name, or of a folder.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    if (Path(name) / MODEL_FILE).is_file():
        return Bundle.load(name)
    known = list_bundles()
    if str(name) not in known:
        raise BundleError(f"There is no model '{name}'; choose one of: {', '.join(known) or 'none is installed'}.")
    return Bundle.load(known[str(name)])
