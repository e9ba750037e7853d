"""A detection and what the user did to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSet
from .correction import Corrections, Corrector
from .detection import Detection, Heatmaps, Repredict, landmark_values, landmarks_from_values
from .levels import level_step, renamed_row, shifted

_FORMAT = 2
_CONTRADICTION = 30.0
"""Squared distance, in standard deviations, beyond which a drop contradicts the image; 95 % of errors lie below 6."""

_IN_DOUBT = 3.0
"""By how much the logarithm of probability may speak against a shift of all levels."""

_FITS = 3.0
"""Distance, in levels of a column, beyond which a drop fits nowhere and tells nothing of the other points."""


@dataclass(frozen=True, eq=False)
class _State:
    """One entry of the history.

    `pinned`, `apart` (pins that say nothing about the others) and `absent` are ids; `absent` holds only what the user
    marked so. `level` counts the levels by which the chain was shifted.
    """

    landmarks: LandmarkSet
    pinned: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    level: int = 0
    message: str | None = None


class Session:
    """Landmarks under correction: the user moves one, the others follow, everything can be undone.

    A landmark that the user moved or pinned is exact and never moves again on its own; its status is ``moved``, its
    source ``user``, its expected error zero. The landmarks are a function of the detection, the pins and the absent
    points: with none of these they are those of the detection, untouched.

    A corner of a column that is dropped on the neighboring level shifts all levels by one.
    """

    def __init__(self, detection: Detection) -> None:
        self.detection = detection
        self._corrector = Corrector(detection)
        self._history = [_State(detection.landmarks)]
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
    def message(self) -> str | None:
        """A sentence about the last action where there is something to say, or None."""
        return self._state.message

    @property
    def plausibility(self) -> float:
        """Of the present shape: 1 for the mean, 0.5 at the limit of the prior, towards 0 beyond."""
        shape = self._corrector.completed(self.landmarks)
        return 0.0 if shape is None else self.detection.prior.plausibility(shape)

    def move(self, name: str, position: np.ndarray, live: bool = False) -> LandmarkSet:
        """Puts a landmark where the user wants it and lets the others follow.

        Args:
            name: id of the landmark; an absent one becomes present.
            position: (d,) index coordinates of the image; it may lie outside the image.
            live: during a drag. The others follow, and neither history nor `landmarks` change. Otherwise a network that
                takes hints looks again, a drop on a neighboring level shifts the chain, and the action can be undone.
        Raises:
            LandmarkDetectionError: unknown name, or a position that is not d finite numbers.
        """
        row, place = self.landmarks.schema.index(name), self._position(name, position)
        state = self._state
        if not live and name in state.pinned and np.array_equal(state.landmarks.positions[row], place):
            return state.landmarks
        step, far = self._step(state, row, place)
        if live:
            corrections = self._corrections(state)
            return self._corrector.followed(corrections, row, place, apart=far or step != 0)
        if step and self._shift_fits(row, place, step):
            return self._shift(name, row, place, step)
        surprise = self._corrector.surprise(self._corrections(state), row, place)
        message = contradiction(name, far) if far or surprise > _CONTRADICTION else None
        apart = state.apart | {name} if far else state.apart - {name}
        return self._act({**self._pins(state), row: place}, apart, state.absent - {name}, state.level, message)

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
        pins = {k: v for k, v in self._pins(state).items() if k != row}
        return self._act(pins, state.apart - {name}, state.absent, state.level)

    def mark_absent(self, name: str) -> LandmarkSet:
        """Declares that a landmark is not in the image; nothing happens if it is absent already."""
        row, state = self.landmarks.schema.index(name), self._state
        if state.landmarks.statuses[row] == "absent":
            return state.landmarks
        pins = {k: v for k, v in self._pins(state).items() if k != row}
        return self._act(pins, state.apart - {name}, state.absent | {name}, state.level)

    def shift_levels(self, step: int) -> LandmarkSet:
        """Gives every level the name of a neighbor: the labels of a column were off by one.

        What the user placed or called absent stays where it is in the image and takes the new name, too; only what
        would need a name beyond the last level is given up.

        Args:
            step: +1 moves all labels one level down, so that each vertebra takes the name of the one above it; -1 up.
        Raises:
            LandmarkDetectionError: the landmarks have no levels, or no vertebra would be left with a name.
        """
        if step not in (-1, 1):
            raise LandmarkDetectionError(f"Levels can be shifted by one, up (-1) or down (+1), not by {step}.")
        state, rows, schema = self._state, self._corrector.levels, self.landmarks.schema
        if not len(rows):
            raise LandmarkDetectionError(f"The landmarks of '{schema.name}' have no levels; move the points.")
        named = shifted(state.landmarks.positions, rows, step)[rows]
        if not np.isfinite(named).all(axis=-1).any():
            raise LandmarkDetectionError("No vertebra in the image would be left with a name; shift the other way.")
        renamed = {name: renamed_row(rows, schema.index(name), step) for name in schema.ids}

        def taken(names: frozenset[str]) -> frozenset[str]:
            return frozenset(schema.ids[renamed[name]] for name in names if renamed[name] is not None)

        pins = {renamed[schema.ids[row]]: place for row, place in self._pins(state).items()}
        pins.pop(None, None)
        way = "down" if step > 0 else "up"
        message = f"All {len(schema.levels)} labels were moved one level {way}; undo brings them back."
        return self._act(pins, taken(state.apart), taken(state.absent), state.level + step, message)

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
        row = self._corrector.most_helpful(self.landmarks, self._corrections(self._state))
        return None if row is None else self.landmarks.schema.ids[row]

    def attach_heatmaps(self, heatmaps: Heatmaps | None, repredict: Repredict | None = None) -> None:
        """Gives a session that was read back what is not stored; positions stay until the next correction.

        Raises:
            LandmarkDetectionError: the heatmaps are of another number of landmarks or axes.
        """
        landmarks = self.detection.landmarks
        if heatmaps is not None and (
            len(heatmaps.logits) != len(landmarks.positions) or heatmaps.frame_of(0).dims != landmarks.frame.dims
        ):
            raise LandmarkDetectionError(f"The heatmaps do not belong to '{landmarks.schema.name}'; detect again.")
        self.detection = replace(self.detection, heatmaps=heatmaps, repredict=repredict)
        self._corrector = Corrector(self.detection)

    def to_dict(self) -> dict:
        """Detection, history and what the image said at first as plain JSON values; heatmaps are left out."""
        return {
            "format": _FORMAT,
            "detection": self.detection.to_dict(),
            "history": [
                {
                    **landmark_values(state.landmarks),
                    **{field: sorted(getattr(state, field)) for field in ("pinned", "apart", "absent")},
                    "level": state.level,
                    "message": state.message,
                }
                for state in self._history[1:]
            ],
            "cursor": self._cursor,
        }

    @classmethod
    def from_dict(cls, description: Mapping, detection: Detection | None = None) -> Session:
        """The session that `to_dict` described.

        Args:
            detection: a new detection in the same image, taken for what is not stored only; what was stored stays the
                base. Without it, no network looks again until `attach_heatmaps`.
        Raises:
            LandmarkDetectionError: a field is missing or damaged, or the heatmaps belong to something else.
        """
        if description.get("format") != _FORMAT:
            raise LandmarkDetectionError("The stored session is of another version of this extension; detect again.")
        try:
            session = cls(Detection.from_dict(description["detection"]))
            base = session.detection.landmarks
            session._history += [
                _State(
                    landmarks_from_values(base.schema, base.frame, entry),
                    *(frozenset(entry[field]) for field in ("pinned", "apart", "absent")),
                    int(entry["level"]),
                    entry["message"],
                )
                for entry in description["history"]
            ]
            session._cursor = range(len(session._history))[description["cursor"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LandmarkDetectionError(f"The stored session is damaged ({error}); detect again.") from error
        if detection is not None:
            session.attach_heatmaps(detection.heatmaps, detection.repredict)
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

    def _corrections(self, state: _State) -> Corrections:
        """A state as the corrector takes it."""
        return Corrections(self._pins(state), self._rows(state.apart), self._rows(state.absent), state.level)

    def _step(self, state: _State, row: int, place: np.ndarray) -> tuple[int, bool]:
        """By how many levels a drop shifts the chain, and whether it concerns its own point only."""
        rows = self._corrector.levels
        if not len(rows) or not (rows == row).any():
            return 0, False
        spacing = state.landmarks.frame.spacing
        # Where the image shows the levels: a pin far from its level must not distort the measure.
        places = self._corrector.seen(self._corrections(state)).landmarks.positions
        step, distance = level_step(places * spacing, rows, row, place * spacing)
        return step, not step and distance > _FITS

    def _shift_fits(self, row: int, place: np.ndarray, step: int) -> bool:
        """Whether a drop on the neighboring level is a shift of all levels, not one vertebra that was found wrongly.

        Where a network can look again, the image decides between the two; in doubt, it is a shift.
        """
        state = self._corrections(self._state)
        pins = {**state.pins, row: place}
        alone = replace(state, pins=pins, apart=state.apart - {row})
        moved = replace(alone, apart=frozenset(state.pins), level=state.level + step)
        return self._corrector.seen(moved).evidence >= self._corrector.seen(alone).evidence - _IN_DOUBT

    def _shift(self, name: str, row: int, place: np.ndarray, step: int) -> LandmarkSet:
        """The whole chain one level up or down; what the user has set stays."""
        state, schema = self._state, self.landmarks.schema
        other = "below" if step > 0 else "above"
        message = (
            f"{schema.landmarks[row].title} was put on the level {other}: all {len(schema.levels)} levels were moved "
            f"one level {'down' if step > 0 else 'up'}; undo brings them back."
        )
        pins = self._pins(state)
        # An older pin on the levels as they were would pull the shifted chain back.
        apart = state.apart | {schema.ids[k] for k in pins}
        return self._act({**pins, row: place}, apart - {name}, state.absent - {name}, state.level + step, message)

    def _act(
        self,
        pins: dict[int, np.ndarray],
        apart: frozenset[str],
        absent: frozenset[str],
        level: int,
        message: str | None = None,
    ) -> LandmarkSet:
        """Enters a new state into the history; what had been undone is forgotten."""
        ids = self.landmarks.schema.ids
        corrections = Corrections(pins, self._rows(apart), self._rows(absent), level)
        plain = not (pins or absent or level)
        landmarks = self.detection.landmarks if plain else self._corrector.released(corrections)
        pinned = frozenset(ids[row] for row in pins)
        self._history[self._cursor + 1 :] = [_State(landmarks, pinned, apart, absent, level, message)]
        self._cursor += 1
        return landmarks


def contradiction(name: str, alone: bool) -> str:
    """The sentence for a drop that the image does not bear out."""
    others = "the others were left as they are" if alone else "please check the others"
    return f"The image does not show {name} where you put it; it stays there, and {others}."
