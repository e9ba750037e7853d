"""Following the user's hand: markup events become session moves, and the session's answer is written back."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np
import slicer
import vtk

from ..errors import LandmarkDetectionError
from ..landmarks import LandmarkSet
from .display import update_regions
from .markups import local_positions, review_limit, set_own_review_limit, write_landmarks, write_positions
from .names import follow_visibility, update_names
from .parameters import require_volume, restore_placement, save_session
from .volumes import cache_key

logger = logging.getLogger(__name__)

TOLERANCE = 1e-6
"""Scene millimeters: a point that moved less was clicked, not moved."""

Release = Callable[[str, np.ndarray], LandmarkSet | None]


def reporting(method):
    """An observer whose errors reach the owner: VTK would print them and go on as if nothing had happened."""

    @functools.wraps(method)
    def call(self, *arguments):
        try:
            return method(self, *arguments)
        except Exception as error:  # the last place where an error of any kind can still be told to the user
            logger.exception("Landmark Detection could not follow a change in the scene.")
            self.on_error(error)
            return None

    return call


class LandmarkTracker:
    """Observes one markups node on behalf of one session.

    While a point is dragged the others follow by the shape posterior (`Session.move(live=True)`). When it is released
    `release` is called with the landmark id and its index coordinates; it returns the new landmarks, or None when a
    worker will hand them to `show` later. Changes by scripts and tables count as releases.

    Args:
        node: the markups node.
        session: the session whose landmarks the node shows.
        on_error: told of every error; a `LandmarkDetectionError` holds one sentence for the user.
        on_change: told of every new landmark set, and whether it is a live one.
        release: replaces `Session.move(live=False)`.
        later: runs a function when the current event is over; at once by default.
    """

    def __init__(
        self,
        node,
        session,
        on_error: Callable[[Exception], None],
        on_change: Callable[[LandmarkSet, bool], None] | None = None,
        release: Release | None = None,
        later: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.node = node
        self.session = session
        self.on_error = on_error
        self.on_change = on_change or (lambda landmarks, live: None)
        self.release = release or (lambda name, position: session.move(name, position, live=False))
        self.later = later or (lambda function: function())
        self.volume = require_volume(node)
        self.placement = restore_placement(self.node)
        self._geometry = cache_key(self.volume)[2:]
        self._observations: list[tuple] = []
        self._writing = False
        self._dragged: int | None = None
        self._moved_in_drag = False
        self._waiting: LandmarkSet | None = None
        self._edit_due = False
        self._known = local_positions(node)

    # Start and end

    @property
    def active(self) -> bool:
        """Whether events are followed."""
        return bool(self._observations)

    @property
    def dragging(self) -> bool:
        """Whether the user holds a point right now."""
        return self._dragged is not None

    def start(self) -> None:
        """Begin to follow; once is enough."""
        if self.active:
            return
        self._known = local_positions(self.node)
        node = self.node
        for subject, event, handler in (
            (node, node.PointModifiedEvent, self._on_modified),
            (node, node.PointStartInteractionEvent, self._on_start),
            (node, node.PointEndInteractionEvent, self._on_end),
            (node, node.PointPositionMissingEvent, self._on_taken_away),
            (node, node.PointPositionUndefinedEvent, self._on_taken_away),
            (node, node.DisplayModifiedEvent, self._on_display_changed),
            (self.volume, vtk.vtkCommand.ModifiedEvent, self._on_volume_changed),
            (self.volume, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_volume_changed),
            (slicer.mrmlScene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_node_removed),
            (slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self._on_scene_closed),
        ):
            self._observations.append((subject, subject.AddObserver(event, handler)))

    def stop(self) -> None:
        """Follow no longer and hold no observer; safe to call at any time."""
        observations, self._observations = self._observations, []
        for subject, tag in observations:
            subject.RemoveObserver(tag)
        self._dragged = None
        self._waiting = None

    # What the owner asks for

    def show(self, landmarks: LandmarkSet) -> None:
        """Write landmarks into the node and keep the session with it; during a drag, when that ends without a move."""
        if not self.active:
            return
        if self.dragging:
            self._waiting = landmarks
            return
        self._write(landmarks)
        save_session(self.node, self.session)
        self.on_change(landmarks, False)

    def review_above(self, limit: float | None) -> None:
        """Ask for a review above another expected error (index units); None leaves it to the model."""
        if self.active and not self.dragging and set_own_review_limit(self.node, limit):
            self._write(self.session.landmarks)

    def undo(self) -> bool:
        """Take back the last change of the session; False when there is none, or while a point is held."""
        return self._step(self.session.can_undo, self.session.undo)

    def redo(self) -> bool:
        """Make the last change again that was taken back."""
        return self._step(self.session.can_redo, self.session.redo)

    def _step(self, possible: bool, step: Callable[[], LandmarkSet]) -> bool:
        if not self.active or self.dragging or not possible:
            return False
        self.show(step())
        return True

    # Events

    @reporting
    def _on_start(self, caller, event, data=None) -> None:
        self._dragged = self._moving_index()
        self._moved_in_drag = False

    @reporting
    def _on_modified(self, caller, event, data=None) -> None:
        if self._writing:
            return
        if self.dragging:
            self._follow(self._dragged)
        elif not self._edit_due and self._changed_rows():
            self._edit_due = True
            self.later(self._take_edits)

    @reporting
    def _on_end(self, caller, event, data=None) -> None:
        row, self._dragged = self._dragged, None
        waiting, self._waiting = self._waiting, None
        if row is not None and (self._moved_in_drag or self._changed(row, local_positions(self.node))):
            self._finish_move(row)
        elif waiting is not None:
            self.show(waiting)

    @reporting
    def _on_taken_away(self, caller, event, data=None) -> None:
        """A point that the user unset or called missing is absent from the image."""
        if not self._writing:
            self.later(self._take_absences)

    @reporting
    def _on_display_changed(self, caller, event, data=None) -> None:
        follow_visibility(self.node)

    @reporting
    def _on_volume_changed(self, caller, event, data=None) -> None:
        """Stay on the anatomy when the volume gets another transform, or has its own hardened."""
        if self.volume.GetImageData() is None:
            return
        geometry = cache_key(self.volume)[2:]
        if geometry == self._geometry:
            return
        same_size = geometry[0] == self._geometry[0]
        self._geometry = geometry
        if not same_size:
            self.stop()
            raise LandmarkDetectionError(
                f"The image '{self.volume.GetName()}' was replaced by one of another size; detect the landmarks again."
            )
        self.placement = restore_placement(self.node)
        self.node.SetAndObserveTransformNodeID(self.volume.GetTransformNodeID())
        self._write(self.session.landmarks)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller, event, removed=None) -> None:
        self._after_removal(removed)

    @reporting
    def _after_removal(self, removed) -> None:
        if removed is self.node:
            self.stop()
        elif removed is self.volume:
            self.stop()
            raise LandmarkDetectionError(
                f"The image of '{self.node.GetName()}' was removed; load it again and detect the landmarks anew."
            )

    @reporting
    def _on_scene_closed(self, caller, event, data=None) -> None:
        self.stop()

    # What events lead to

    def _moving_index(self) -> int | None:
        text = self.node.GetAttribute("Markups.MovingMarkupIndex")
        return int(text) if text else None

    def _changed(self, row: int, positions: np.ndarray) -> bool:
        """Whether a placed point lies elsewhere than where it was written or last seen."""
        if not np.isfinite(positions[row]).all():
            return False
        return not np.allclose(positions[row], self._known[row], rtol=0.0, atol=TOLERANCE)

    def _changed_rows(self) -> list[int]:
        positions = local_positions(self.node)
        return [row for row in range(len(positions)) if self._changed(row, positions)]

    def _name(self, row: int) -> str:
        return self.session.landmarks.schema.ids[row]

    def _follow(self, row: int) -> None:
        """Move the other points while one is held; the held one stays under the mouse."""
        positions = local_positions(self.node)
        if not self._changed(row, positions):
            return
        self._moved_in_drag = True
        landmarks = self.session.move(self._name(row), self.placement.to_index(positions[row]), live=True)
        self._write_live(landmarks, row, positions[row])
        self.on_change(landmarks, True)

    def _finish_move(self, row: int) -> None:
        """Release a point: it goes back onto the plane of its film, and the others are decided anew.

        This runs on the main thread, networks that take hints included: they keep the features of the image, so that
        a release takes at most 150 ms, less than people notice as a wait. On another thread the user could grab the
        next point before the answer, which would then have to move points under the mouse or be dropped.
        """
        position = self.placement.to_index(local_positions(self.node)[row])
        self._put(row, position)
        landmarks = self.release(self._name(row), position)
        if landmarks is not None:
            self.show(landmarks)

    @reporting
    def _take_edits(self) -> None:
        """Each point that a table or script moved counts as moved and released, in the order of the schema."""
        self._edit_due = False
        if not self.active or self.dragging:
            return
        wanted = local_positions(self.node)
        # Writing the answer to the first edit must not undo the second: all wanted places are read before.
        for row in self._changed_rows():
            position = self.placement.to_index(wanted[row])
            self._put(row, position)
            landmarks = self.release(self._name(row), position)
            if landmarks is not None:
                self.show(landmarks)

    @reporting
    def _take_absences(self) -> None:
        if not self.active:
            return
        present = np.isfinite(self.session.landmarks.positions).all(axis=1)
        placed = np.isfinite(local_positions(self.node)).all(axis=1)
        for row in np.flatnonzero(present & ~placed):
            if self.node.GetNthControlPointPositionStatus(row) != self.node.PositionPreview:
                self.show(self.session.mark_absent(self._name(row)))

    def _put(self, row: int, position: np.ndarray) -> None:
        """Write one point at index coordinates."""
        local = self.placement.to_local(position)
        self._writing = True
        try:
            self.node.SetNthControlPointPosition(row, *local)
        finally:
            self._writing = False
        self._known[row] = local

    def _write_live(self, landmarks: LandmarkSet, held: int, held_at: np.ndarray) -> None:
        """Write what is seen moving while a point is held; words, measurements and names follow on release."""
        self._writing = True
        try:
            write_positions(self.node, landmarks, self.placement, held)
            self._draw_regions(landmarks)
        finally:
            self._writing = False
        self._known = local_positions(self.node)
        self._known[held] = held_at

    def _write(self, landmarks: LandmarkSet) -> None:
        """Write landmarks, their regions and names, without hearing the events that this causes."""
        self._writing = True
        try:
            write_landmarks(self.node, landmarks, self.placement, self.session.detection)
            self._draw_regions(landmarks)
            update_names(self.node, landmarks, self.placement)
        finally:
            self._writing = False
        self._known = local_positions(self.node)

    def _draw_regions(self, landmarks: LandmarkSet) -> None:
        update_regions(self.node, landmarks, self.placement, review_limit(self.node, self.session.detection))
