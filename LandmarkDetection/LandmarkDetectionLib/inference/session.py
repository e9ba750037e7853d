"""A detection and what the user did to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSet
from .correction import Corrections, Corrector
from .detection import Detection, Heatmaps, Repredict, landmark_values, landmarks_from_values
from .levels import IN_DOUBT, level_step, shifted

_FORMAT = 3
_CONTRADICTION = 30.0
"""Squared distance, in standard deviations, beyond which a drop contradicts the image; 95 % of errors lie below 6."""

_KINDS = ("pins", "apart", "astray", "absent")
"""Rows that `Corrections` holds, stored by name."""

_FITS = 3.0
"""Distance, in levels of a column, beyond which a drop is not about the place of its level, but about its name."""


@dataclass(frozen=True, eq=False)
class _State:
    """One entry of the history: what the user has done so far, and what came of it."""

    landmarks: LandmarkSet
    corrections: Corrections = field(default_factory=Corrections)
    message: str | None = None


class Session:
    """Landmarks under correction: the user moves one, the others follow, everything can be undone.

    A landmark that the user moved or pinned is exact and never moves again on its own; its status is ``moved``, its
    source ``user``, its expected error zero. The landmarks are a function of the detection, the pins and the absent
    points: with none of these they are those of the detection, untouched.

    A corner of a column that is dropped on the neighboring level shifts all levels by one. One that is dropped on a
    vertebra far from its level gives that vertebra its name, and no other level keeps it.
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
        return self._names(self._state.corrections.pins)

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
        before = self._state.corrections
        if not live and row in before.pins and np.array_equal(before.pins[row], place):
            return self.landmarks
        step, far = self._step(row, place)
        if live:
            return self._corrector.followed(before, row, place, alone=far or step != 0)
        after = before.put(row, place)
        if far:
            after = replace(after, astray=after.astray | {row})
            return self._act(after, self._told_of_far(row, after))
        moved = self._shifted(row, place, step) if step else None
        if moved and self._shift_fits(after, moved):
            return self._act(moved, self._told_of_shift(row, step))
        surprise = self._corrector.surprise(self._in_order(row), row, place)
        return self._act(after, contradiction(name, False) if surprise > _CONTRADICTION else None)

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
        row, corrections = self.landmarks.schema.index(name), self._state.corrections
        return self._act(corrections.without(row)) if row in corrections.pins else self.landmarks

    def mark_absent(self, name: str) -> LandmarkSet:
        """Declares that a landmark is not in the image; nothing happens if it is absent already."""
        row, landmarks = self.landmarks.schema.index(name), self.landmarks
        if landmarks.statuses[row] == "absent":
            return landmarks
        rest = self._state.corrections.without(row)
        return self._act(replace(rest, absent=rest.absent | {row}))

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
        way = "down" if step > 0 else "up"
        message = f"All {len(schema.levels)} labels were moved one level {way}; undo brings them back."
        return self._act(state.corrections.renamed(rows, step), message)

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
        row = self._corrector.most_helpful(self.landmarks, self._state.corrections)
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
                    **{kind: sorted(self._names(getattr(state.corrections, kind))) for kind in _KINDS},
                    "level": state.corrections.level,
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
            for entry in description["history"]:
                landmarks = landmarks_from_values(base.schema, base.frame, entry)
                pins, *others = (frozenset(map(base.schema.index, entry[kind])) for kind in _KINDS)
                done = Corrections({row: landmarks.positions[row] for row in pins}, *others, int(entry["level"]))
                session._history.append(_State(landmarks, done, entry["message"]))
            session._cursor = range(len(session._history))[description["cursor"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LandmarkDetectionError(f"The stored session is damaged ({error}); detect again.") from error
        if detection is not None:
            session.attach_heatmaps(detection.heatmaps, detection.repredict)
        return session

    @property
    def _state(self) -> _State:
        return self._history[self._cursor]

    def _names(self, rows: Iterable[int]) -> frozenset[str]:
        return frozenset(self.landmarks.schema.ids[row] for row in rows)

    def _position(self, name: str, position: np.ndarray) -> np.ndarray:
        place = np.array(position, dtype=float)
        dims = self.landmarks.frame.dims
        if place.shape != (dims,) or not np.isfinite(place).all():
            raise LandmarkDetectionError(f"The position of '{name}' must be {dims} finite numbers.")
        return place

    def _step(self, row: int, place: np.ndarray) -> tuple[int, bool]:
        """By how many levels a drop shifts the chain, and whether it lies far off its level."""
        rows = self._corrector.levels
        if not len(rows) or not (rows == row).any():
            return 0, False
        spacing = self.landmarks.frame.spacing
        # Where the image shows the levels in their order: a pin far from its level must not distort the measure.
        seen = self._corrector.seen(self._in_order(row))
        places = seen.landmarks.positions * spacing
        places[rows[list(seen.out_of_order)]] = np.nan
        step, distance = level_step(places, rows, row, place * spacing)
        return step, not step and distance > _FITS

    def _in_order(self, row: int) -> Corrections:
        """What was done, with the level of a point in its order again."""
        state, rows = self._state.corrections, self._corrector.levels
        own = rows[(rows == row).any(axis=1)].ravel() if len(rows) else rows
        return state.alone(state.astray & set(own.tolist()))

    def _shifted(self, row: int, place: np.ndarray, step: int) -> Corrections:
        """What was done, and a shift of all levels by a drop.

        Levels that moved up where one of them was put elsewhere have made a step already.
        """
        before = self._state.corrections
        spare = len(self._corrector.seen(before).out_of_order)
        moved = before.shifted(row, place, step)
        while spare and not self._corrector.differ(before, moved):
            spare, moved = spare - 1, replace(moved, level=moved.level + step)
        return moved

    def _shift_fits(self, alone: Corrections, moved: Corrections) -> bool:
        """Whether a drop on the neighboring level is a shift of all levels, not one vertebra that was found wrongly.

        Where a network can look again, the image decides between the two; in doubt, it is a shift.
        """
        return self._corrector.seen(moved).evidence >= self._corrector.seen(alone).evidence - IN_DOUBT

    def _told_of_far(self, row: int, after: Corrections) -> str | None:
        name, before = self.landmarks.schema.ids[row], self._state.corrections
        if not self._corrector.is_out_of_order(after, row):
            return contradiction(name, True)
        known = self._corrector.seen(before).out_of_order == self._corrector.seen(after).out_of_order
        return None if known else naming(name)

    def _told_of_shift(self, row: int, step: int) -> str:
        schema, other = self.landmarks.schema, "below" if step > 0 else "above"
        return (
            f"{schema.landmarks[row].title} was put on the level {other}: all {len(schema.levels)} levels were moved "
            f"one level {'down' if step > 0 else 'up'}; undo brings them back."
        )

    def _act(self, corrections: Corrections, message: str | None = None) -> LandmarkSet:
        """Enters a new state into the history; what had been undone is forgotten."""
        plain = not (corrections.pins or corrections.absent or corrections.level)
        landmarks = self.detection.landmarks if plain else self._corrector.released(corrections)
        self._history[self._cursor + 1 :] = [_State(landmarks, corrections, message)]
        self._cursor += 1
        return landmarks


def contradiction(name: str, alone: bool) -> str:
    """The sentence for a drop that the image does not bear out."""
    others = "the others were left as they are" if alone else "please check the others"
    return f"The image does not show {name} where you put it; it stays there, and {others}."


def naming(name: str) -> str:
    """The sentence for a drop on a vertebra far from the level of its point."""
    level = name.split("_")[0]
    return f"The vertebra on which you put {name} is now {level}; the others were named again without it."
