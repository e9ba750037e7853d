"""A detection and what the user did to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSet
from .correction import Corrector, Observations
from .detection import Detection, Heatmaps, from_json, landmark_values, landmarks_from_values, to_json

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class _State:
    """One entry of the history. `pinned` and `absent` are ids; `absent` holds only what the user marked so."""

    landmarks: LandmarkSet
    pinned: frozenset[str]
    absent: frozenset[str]


class Session:
    """Landmarks under correction: the user moves one, the others follow, everything can be undone.

    A landmark that the user moved or pinned is exact and never moves again on its own; its status is ``moved``, its
    source ``user``, its expected error zero. The landmarks are a function of the detection, the pins and the absent
    points: with none of these they are those of the detection, untouched.

    Args:
        detection: with or without heatmaps; without, a Gaussian stands for each heatmap.
    """

    def __init__(self, detection: Detection) -> None:
        self.detection = detection
        self._observations = Observations.of(detection)
        self._corrector = Corrector(detection, self._observations, detection.heatmaps)
        self._history = [_State(detection.landmarks, frozenset(), frozenset())]
        self._cursor = 0

    @property
    def landmarks(self) -> LandmarkSet:
        """The landmarks after the last completed action; a live drag does not show here."""
        return self._state.landmarks

    @property
    def pinned(self) -> frozenset[str]:
        """Ids of the landmarks that the user has moved or pinned."""
        return self._state.pinned

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to undo."""
        return self._cursor > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone action to do again."""
        return self._cursor < len(self._history) - 1

    @property
    def plausibility(self) -> float:
        """Of the present shape: 1 for the mean, 0.5 at the limit of the prior, towards 0 beyond."""
        shape = self._corrector.completed(self.landmarks, self._pins(self._state), self._rows(self._state.absent))
        return 0.0 if shape is None else self.detection.prior.plausibility(shape)

    def move(self, name: str, position: np.ndarray, live: bool = False) -> LandmarkSet:
        """Puts a landmark where the user wants it and lets the others follow.

        Args:
            name: id of the landmark; an absent one becomes present.
            position: (d,) index coordinates of the image; it may lie outside the image.
            live: during a drag. The others follow the shape posterior, and neither history nor `landmarks` change.
                Otherwise each free landmark is decoded again from its heatmap, and the action can be undone.
        Raises:
            LandmarkDetectionError: unknown name, or a position that is not d finite numbers.
        """
        row, place = self.landmarks.schema.index(name), self._position(name, position)
        state = self._state
        if live:
            pins, absent = self._pins(state), self._rows(state.absent)
            return self._corrector.followed(state.landmarks, pins, absent, row, place)
        if name in state.pinned and np.array_equal(state.landmarks.positions[row], place):
            return state.landmarks
        return self._act({**self._pins(state), row: place}, state.absent - {name})

    def pin(self, name: str) -> LandmarkSet:
        """Confirms a landmark where it is: it stays, and counts as set by the user.

        Raises:
            LandmarkDetectionError: unknown name, or a landmark that is absent.
        """
        place = self.landmarks.positions[self.landmarks.schema.index(name)]
        if not np.isfinite(place).all():
            raise LandmarkDetectionError(f"'{name}' is absent; place it before pinning it.")
        return self.move(name, place)

    def release(self, name: str) -> LandmarkSet:
        """Gives a landmark back to the model; nothing happens if it was not pinned."""
        row, state = self.landmarks.schema.index(name), self._state
        if name not in state.pinned:
            return state.landmarks
        return self._act({k: v for k, v in self._pins(state).items() if k != row}, state.absent)

    def mark_absent(self, name: str) -> LandmarkSet:
        """Declares that a landmark is not in the image; nothing happens if it is absent already."""
        row, state = self.landmarks.schema.index(name), self._state
        if state.landmarks.statuses[row] == "absent":
            return state.landmarks
        return self._act({k: v for k, v in self._pins(state).items() if k != row}, state.absent | {name})

    def undo(self) -> LandmarkSet:
        """Takes the last action back; nothing happens if there is none."""
        self._cursor = max(self._cursor - 1, 0)
        return self.landmarks

    def redo(self) -> LandmarkSet:
        """Does the last undone action again; nothing happens if there is none."""
        self._cursor = min(self._cursor + 1, len(self._history) - 1)
        return self.landmarks

    def suggest_next(self) -> str | None:
        """Id of the free landmark whose correction is expected to help all most; None when none is free."""
        row = self._corrector.most_helpful(self.landmarks, self._pins(self._state), self._rows(self._state.absent))
        return None if row is None else self.landmarks.schema.ids[row]

    def attach_heatmaps(self, heatmaps: Heatmaps) -> None:
        """Gives a session that was read back its heatmaps; positions stay until the next correction.

        Raises:
            LandmarkDetectionError: they are of another number of landmarks or axes.
        """
        landmarks = self.detection.landmarks
        if len(heatmaps.logits) != len(landmarks.positions) or heatmaps.frame.dims != landmarks.frame.dims:
            raise LandmarkDetectionError(f"The heatmaps do not belong to '{landmarks.schema.name}'; detect again.")
        self._corrector = Corrector(self.detection, self._observations, heatmaps)

    def to_dict(self) -> dict:
        """Detection, history and what the image said at first as plain JSON values; heatmaps are left out."""
        return {
            "format": _FORMAT,
            "detection": self.detection.to_dict(),
            "observations": {
                "positions": to_json(self._observations.positions),
                "covariances": to_json(self._observations.covariances),
            },
            "history": [
                {**landmark_values(state.landmarks), "pinned": sorted(state.pinned), "absent": sorted(state.absent)}
                for state in self._history[1:]
            ],
            "cursor": self._cursor,
        }

    @classmethod
    def from_dict(
        cls, description: Mapping, detection: Detection | None = None, heatmaps: Heatmaps | None = None
    ) -> Session:
        """The session that `to_dict` described.

        Args:
            detection: a new detection in the same image, taken for its heatmaps only: what was stored stays the base.
            heatmaps: instead of those of `detection`. With neither, Gaussians stand for them until `attach_heatmaps`.
        Raises:
            LandmarkDetectionError: a field is missing or damaged, or the heatmaps belong to something else.
        """
        if description.get("format") != _FORMAT:
            raise LandmarkDetectionError("The stored session is of another version of this extension; detect again.")
        try:
            session = cls(Detection.from_dict(description["detection"]))
            stored = description["observations"]
            session._observations = Observations(from_json(stored["positions"]), from_json(stored["covariances"]))
            base = session.detection.landmarks
            session._history += [
                _State(
                    landmarks_from_values(base.schema, base.frame, entry),
                    frozenset(entry["pinned"]),
                    frozenset(entry["absent"]),
                )
                for entry in description["history"]
            ]
            session._cursor = range(len(session._history))[description["cursor"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LandmarkDetectionError(f"The stored session is damaged ({error}); detect again.") from error
        if heatmaps is None and detection is not None:
            heatmaps = detection.heatmaps
        session._corrector = Corrector(session.detection, session._observations, None)
        if heatmaps is not None:
            session.attach_heatmaps(heatmaps)
        return session

    @property
    def _state(self) -> _State:
        return self._history[self._cursor]

    def _rows(self, names: frozenset[str]) -> frozenset[int]:
        return frozenset(self.landmarks.schema.index(name) for name in names)

    def _pins(self, state: _State) -> dict[int, np.ndarray]:
        """Row and position of every pinned landmark of a state."""
        return {row: state.landmarks.positions[row] for row in sorted(self._rows(state.pinned))}

    def _position(self, name: str, position: np.ndarray) -> np.ndarray:
        place = np.asarray(position, dtype=float)
        dims = self.landmarks.frame.dims
        if place.shape != (dims,) or not np.isfinite(place).all():
            raise LandmarkDetectionError(f"The position of '{name}' must be {dims} finite numbers.")
        return place

    def _act(self, pins: dict[int, np.ndarray], absent: frozenset[str]) -> LandmarkSet:
        """Enters a new state into the history; what had been undone is forgotten."""
        ids = self.landmarks.schema.ids
        landmarks = self._corrector.released(pins, self._rows(absent)) if pins or absent else self.detection.landmarks
        self._history[self._cursor + 1 :] = [_State(landmarks, frozenset(ids[row] for row in pins), absent)]
        self._cursor += 1
        return landmarks
