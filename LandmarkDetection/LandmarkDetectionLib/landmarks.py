"""What landmarks are called and mean (schema), and where they were found (set)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from .errors import LandmarkDetectionError
from .geometry import Frame

Status = Literal["predicted", "moved", "absent", "review"]
"""Found by the model, placed by the user, not in the image, or found but to be checked."""

_SCHEMA_FOLDER = Path(__file__).parent / "schemas"


@dataclass(frozen=True)
class Landmark:
    """One anatomical point.

    Attributes:
        id: short stable name, the one data sets use ("T0").
        title: name for people ("Lateral margin of the tibial plateau").
        abbreviation: at most a few letters, drawn beside the point.
        definition: where the point lies, in words a reader can apply to a film.
        code: coded concept ``{"scheme", "value", "meaning"}`` of the structure it lies on, or None.
    """

    id: str
    title: str
    abbreviation: str
    definition: str
    code: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LandmarkSchema:
    """An ordered set of landmarks.

    Attributes:
        name: for example "knee-ap".
        title: name for people.
        dims: 2 for films, 3 for volumes.
        landmarks: in the order of every array in this library.
        mirror_pairs: ids that change places when the image is mirrored.
        chains: ids along one bone edge, in order.
        side_rule: how names relate to the left and right side of the body, in words.
        levels: ids of each segment of a column, from top to bottom, like points in like places; () where there is none.
    """

    name: str
    title: str
    dims: int
    landmarks: tuple[Landmark, ...]
    mirror_pairs: tuple[tuple[str, str], ...]
    chains: Mapping[str, tuple[str, ...]]
    side_rule: str
    levels: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        known = set(self.ids)
        if len(known) != len(self.landmarks):
            raise LandmarkDetectionError(f"The landmark schema '{self.name}' names a landmark twice.")
        groups = (*self.mirror_pairs, *self.chains.values(), *self.levels)
        used = {i for group in groups for i in group}
        if used - known:
            raise LandmarkDetectionError(
                f"The landmark schema '{self.name}' refers to unknown landmarks: {', '.join(sorted(used - known))}."
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """Landmark ids in order."""
        return tuple(landmark.id for landmark in self.landmarks)

    def index(self, id: str) -> int:
        """Row of landmark `id` in every array.

        Raises:
            LandmarkDetectionError: if the schema has no such landmark.
        """
        try:
            return self.ids.index(id)
        except ValueError:
            raise LandmarkDetectionError(
                f"'{id}' is not a landmark of '{self.name}'; choose one of {', '.join(self.ids)}."
            ) from None

    @property
    def mirrored_rows(self) -> np.ndarray:
        """(n,) the row whose name each landmark takes when the image is mirrored."""
        rows = np.arange(len(self.landmarks))
        for one, other in self.mirror_pairs:
            i, j = self.index(one), self.index(other)
            rows[i], rows[j] = j, i
        return rows

    def to_dict(self) -> dict:
        """A JSON-able description, read back by `from_dict` without loss."""
        return {
            "name": self.name,
            "title": self.title,
            "dims": self.dims,
            "side_rule": self.side_rule,
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "chains": {bone: list(chain) for bone, chain in self.chains.items()},
            "levels": [list(level) for level in self.levels],
            "landmarks": [
                {**dataclasses.asdict(landmark), "code": dict(landmark.code) if landmark.code else None}
                for landmark in self.landmarks
            ],
        }

    @classmethod
    def from_dict(cls, description: Mapping) -> LandmarkSchema:
        """The schema that `to_dict` described.

        Raises:
            LandmarkDetectionError: if a field is missing or unknown.
        """
        try:
            return cls(
                name=description["name"],
                title=description["title"],
                dims=int(description["dims"]),
                landmarks=tuple(Landmark(**landmark) for landmark in description["landmarks"]),
                mirror_pairs=tuple(tuple(pair) for pair in description["mirror_pairs"]),
                chains={bone: tuple(chain) for bone, chain in description["chains"].items()},
                side_rule=description["side_rule"],
                levels=tuple(tuple(level) for level in description.get("levels", ())),
            )
        except (KeyError, TypeError) as error:
            raise LandmarkDetectionError(f"The landmark schema is incomplete or damaged: {error}.") from error


def load_schema(name: str) -> LandmarkSchema:
    """The schema `name` ("knee-ap") that comes with the library.

    Raises:
        LandmarkDetectionError: if there is no schema of that name.
    """
    available = sorted(path.stem for path in _SCHEMA_FOLDER.glob("*.json"))
    if name not in available:
        raise LandmarkDetectionError(f"There is no landmark schema '{name}'; choose one of {', '.join(available)}.")
    return LandmarkSchema.from_dict(json.loads((_SCHEMA_FOLDER / f"{name}.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, eq=False)
class LandmarkSet:
    """Landmarks found in one image.

    Attributes:
        schema: names and meaning; n landmarks.
        frame: frame of the image as it was loaded; d axes.
        positions: (n, d) index coordinates of `frame`, NaN where absent.
        covariances: (n, d, d) index units squared.
        expected_errors: (n,) expected radial error, index units.
        statuses: one `Status` for each landmark.
        sources: who set each: model and version ("knee-ap-radiograph 1.0.0"), or "user".
    """

    schema: LandmarkSchema
    frame: Frame
    positions: np.ndarray
    covariances: np.ndarray
    expected_errors: np.ndarray
    statuses: tuple[Status, ...]
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        n, d = len(self.schema.landmarks), self.frame.dims
        for field, shape in (("positions", (n, d)), ("covariances", (n, d, d)), ("expected_errors", (n,))):
            array = np.array(getattr(self, field), dtype=np.float64)
            if array.shape != shape:
                raise LandmarkDetectionError(
                    f"The {field} of '{self.schema.name}' must have the shape {shape}, not {array.shape}."
                )
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        for field in ("statuses", "sources"):
            values = tuple(getattr(self, field))
            if len(values) != n:
                raise LandmarkDetectionError(f"'{self.schema.name}' needs {n} {field}, not {len(values)}.")
            object.__setattr__(self, field, values)
        unknown = set(self.statuses) - set(get_args(Status))
        if unknown:
            raise LandmarkDetectionError(f"Unknown landmark status: {', '.join(sorted(unknown))}.")

    def physical(self) -> np.ndarray:
        """(n, 3) LPS positions, NaN where absent."""
        return self.frame.to_physical(self.positions)

    def expected_errors_mm(self) -> np.ndarray | None:
        """(n,) expected radial errors in mm, or None where the spacing is unknown.

        Where pixels are not square, the factor is the root mean square spacing, exact for an error equal in all
        index directions.
        """
        if not self.frame.has_millimetres:
            return None
        return self.expected_errors * np.sqrt(np.mean(self.frame.spacing**2))

    def replace(self, **changes) -> LandmarkSet:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
