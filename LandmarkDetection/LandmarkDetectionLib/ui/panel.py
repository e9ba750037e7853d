"""The panel: what its buttons and its table do. The module's widget owns the life cycle, the logic does the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import slicer
from slicer.i18n import tr as _

from ..errors import Cancelled, LandmarkDetectionError
from ..inference.worker import Job, close_shared_worker
from ..mrml.detecting import reusable_node, summary
from ..mrml.following import FOLLOWING, Listener
from ..mrml.markups import told_landmarks
from . import terms
from .landmark_table import EMPTY, LandmarkTable, any_free, listing, next_sentence
from .legend import regions_sentence, review_sentence
from .levels import Levels
from .models import ModelChoice, image_dims
from .sides import Sides
from .worker import JobPoller


class Panel:
    """Connects the widgets of the .ui file with the logic.

    Args:
        ui: the widgets by name (`slicer.util.childWidgetVariables`).
        logic: the module's logic.
        parameters: returns the parameter node, or None while there is none.
    """

    def __init__(self, ui, logic, parameters: Callable[[], object | None]) -> None:
        self.ui = ui
        self.logic = logic
        self._parameters = parameters
        self._sides = Sides(logic)
        self._models = ModelChoice(ui.modelSelector, logic, self.refresh)
        self._levels = Levels(ui, self.refresh, self.shift_levels)
        self._no_model = ""
        self._poller = JobPoller(self._show_progress, self._job_over)
        self.table = LandmarkTable(ui.landmarkTable, self._row_selected)
        self._listener = Listener(self._followed, self._failed)
        FOLLOWING.listeners.append(self._listener)
        for button, action in (
            (ui.applyButton, self.apply_or_cancel),
            (ui.undoButton, self.undo),
            (ui.redoButton, self.redo),
            (ui.releaseButton, self.release_selected),
            (ui.absentButton, self.mark_selected_absent),
            (ui.nextButton, self.show_next),
            (ui.termsButton, self.ask_terms_again),
        ):
            button.connect("clicked()", action)

    def close(self) -> None:
        """Follow nothing and end the worker thread; call it before the widgets are deleted."""
        self._poller.stop()
        self._models.close()
        self.logic.cancel()
        FOLLOWING.listeners.remove(self._listener)
        FOLLOWING.end_all()
        close_shared_worker()

    # What the user is told

    def say(self, sentence: str) -> None:
        """Show one sentence in the status line."""
        self.ui.statusLabel.setText(sentence)

    @contextmanager
    def _told_to_user(self) -> Iterator[None]:
        """Errors that the user can act on become the status line; others are logged and, in tests, raised."""
        try:
            yield
        except LandmarkDetectionError as error:
            self.say(str(error))
        except Exception as error:
            logging.exception("Landmark Detection: unexpected error")
            sentence = _("Something unexpected happened ({error}); the application log has the details.")
            self.say(sentence.format(error=error))
            if slicer.app.testingEnabled():
                raise

    # Apply and Cancel

    @property
    def busy(self) -> bool:
        """Whether a detection is on its way."""
        return self._poller.watching

    def apply_or_cancel(self) -> None:
        """Start a detection, or cancel the one that runs."""
        with self._told_to_user():
            if self.busy:
                self.logic.cancel()
                self._stop_waiting(_("Cancelled."))
            else:
                self._start()

    def _start(self) -> None:
        parameters = self._parameters()
        self.say(_("Preparing..."))
        self.logic.ensureDependencies()
        if not terms.ask_once(self.logic.bundle(parameters.model)):
            self.say(_("The terms of the model were not accepted, so it was not used."))
            return
        job = self.logic.detect(
            parameters.inputVolume,
            parameters.model,
            device=parameters.device.value,
            side=parameters.side.value if self._sides.known_to(parameters.model) else "auto",
            spacing=(parameters.spacing or None) if image_dims(parameters.inputVolume) == 2 else None,
            markupsNode=reusable_node(parameters.landmarks, parameters.inputVolume),
            waitForCompletion=False,
        )
        self._watch(job)

    def _watch(self, job: Job) -> None:
        self._poller.watch(job)
        self.ui.progressBar.setValue(0)
        self.refresh()

    def drop_job(self, sentence: str) -> None:
        """Forget the detection that runs, because what it was for is gone."""
        if self.busy:
            self.logic.cancel()
            self._stop_waiting(sentence)

    def _stop_waiting(self, sentence: str) -> None:
        self._poller.stop()
        self.say(sentence)
        self.refresh()

    def _show_progress(self, fraction: float, sentence: str) -> None:
        self.ui.progressBar.setValue(round(100 * fraction))
        self.say(sentence)

    def _job_over(self, job: Job) -> None:
        with self._told_to_user():
            try:
                node = self.logic.finish(job)
                session = self.logic.tracker(node).session
                self.say(" ".join(filter(None, (summary(session), session.message))))
                self._parameters().landmarks = node
            except Cancelled:
                self.say(_("Cancelled."))
        self.ui.deviceLabel.setText(self.logic.deviceSentence())
        self.refresh()

    # Corrections

    def undo(self) -> None:
        """Take the last correction back."""
        self._correct(lambda tracker: tracker.undo())

    def redo(self) -> None:
        """Make the last undone correction again."""
        self._correct(lambda tracker: tracker.redo())

    def release_selected(self) -> None:
        """Let the model place the selected landmark again."""
        self._correct_selected(lambda session, landmark: session.release(landmark))

    def mark_selected_absent(self) -> None:
        """Say that the selected landmark is not in the image."""
        self._correct_selected(lambda session, landmark: session.mark_absent(landmark))

    def shift_levels(self, step: int) -> None:
        """Move all labels of a column one level down (+1) or up (-1)."""
        self._correct(lambda tracker: tracker.show(tracker.session.shift_levels(step)))

    def _correct_selected(self, action: Callable) -> None:
        landmark = self.table.selected()
        if landmark is None:
            self.say(_("Select a landmark in the table first."))
        else:
            self._correct(lambda tracker: tracker.show(action(tracker.session, landmark)))

    def _correct(self, action: Callable) -> None:
        with self._told_to_user():
            tracker = self._tracker()
            if tracker is not None:
                action(tracker)
        self.refresh()

    def _tracker(self):
        parameters = self._parameters()
        return self.logic.tracker(parameters.landmarks) if parameters is not None else None

    # The table and the views

    def show_next(self) -> None:
        """Show the landmark whose correction would help most, and say why."""
        with self._told_to_user():
            self.say(self._go_to_next())

    def _go_to_next(self) -> str:
        """Select the landmark whose correction would help most and take the views there; returns what to say of it."""
        tracker = self._tracker()
        landmark = tracker.session.suggest_next() if tracker is not None else None
        if landmark is None:
            return _("No landmark is left to correct.")
        schema = tracker.session.landmarks.schema
        self._levels.include(landmark)
        self.table.select(landmark)
        self._show_landmark(schema.index(landmark))
        return next_sentence(schema.landmarks[schema.index(landmark)])

    def _row_selected(self, index: int) -> None:
        with self._told_to_user():
            self._show_landmark(index)

    def _show_landmark(self, index: int) -> None:
        node = self._parameters().landmarks
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined:
            slicer.modules.markups.logic().JumpSlicesToNthPointInMarkup(node.GetID(), index, True)
        else:
            self.say(_("This landmark has no position in the image."))
        self._show_selected()

    def _show_selected(self) -> None:
        """Draw the heatmap and the label of the selected landmark, where these are asked for."""
        parameters = self._parameters()
        if parameters.landmarks is not None:
            selected = self.table.selected()
            FOLLOWING.show_heatmap(parameters.landmarks, selected if parameters.showHeatmap else None)
            FOLLOWING.highlight(parameters.landmarks, selected)

    def _followed(self, node, landmarks, live: bool) -> None:
        """The landmarks of `node` changed by a correction; while a point is dragged only the table follows."""
        parameters = self._parameters()
        if parameters is None or node is not parameters.landmarks:
            return
        if live:
            self._show_landmarks(self._tracker(), landmarks)
            return
        self.refresh()
        # A new action takes the place of whatever was said about the one before, also by nothing.
        sentences = [self.logic.message(node) or ""]
        if parameters.showNext:
            sentences.append(self._go_to_next())
        self.say(" ".join(filter(None, sentences)))

    def _failed(self, error: Exception) -> None:
        with self._told_to_user():
            raise error

    # Showing the state

    def refresh(self) -> None:
        """Bring every widget in line with parameters, session and job."""
        parameters = self._parameters()
        if parameters is None:
            return
        self._refresh_apply(parameters, self._models.offer(parameters))
        self._refresh_side(parameters)
        self.ui.spacingSpinBox.setEnabled(image_dims(parameters.inputVolume) != 3)  # a volume says its spacing
        with self._told_to_user():
            tracker = self._tracker()
            session = tracker.session if tracker is not None else None
            self._levels.fit(session.landmarks.schema if session is not None else None)
            if tracker is not None:
                tracker.review_above(parameters.reviewAbove)
                self._show_landmarks(tracker, session.landmarks)
            else:
                self.table.show(EMPTY)
                self.ui.flagsLabel.setText("")
            self._refresh_legend(parameters, session)
            self.ui.undoButton.setEnabled(session is not None and session.can_undo)
            self.ui.redoButton.setEnabled(session is not None and session.can_redo)
            for button in (self.ui.releaseButton, self.ui.absentButton):
                button.setEnabled(session is not None)
            self.ui.nextButton.setEnabled(session is not None and any_free(session.landmarks))
            if tracker is not None:
                FOLLOWING.show_regions(parameters.landmarks, parameters.showEllipses)
                self._show_selected()

    def _show_landmarks(self, tracker, landmarks) -> None:
        """Table and review line for landmarks of a session, also for those of a drag that is not over."""
        session = tracker.session
        landmarks, told = told_landmarks(tracker.node, landmarks, session.detection)
        self.table.show(self._levels.filtered(listing(landmarks, told, session.pinned)))
        self.ui.flagsLabel.setText(review_sentence(landmarks, told))

    def _refresh_legend(self, parameters, session) -> None:
        shown = session is not None and parameters.showEllipses
        self.ui.legendLabel.setText(regions_sentence(session.landmarks.frame.dims) if shown else "")
        self.ui.legendLabel.setVisible(shown)

    def _refresh_apply(self, parameters, no_model: str) -> None:
        """Apply and Cancel; `no_model` says why there is no model for the image, and is "" where there is one."""
        missing = no_model
        if parameters.inputVolume is None and not no_model:
            missing = _("Load an image and choose it first.")
        self.ui.modelSelector.setToolTip(no_model or _("Model that finds the landmarks."))
        if no_model != self._no_model and (no_model or self.ui.statusLabel.text == self._no_model):
            self.say(no_model)
        self._no_model = no_model
        button = self.ui.applyButton
        button.setText(_("Cancel") if self.busy else _("Apply"))
        button.setEnabled(self.busy or not missing)
        button.setToolTip(missing or (_("Stop the detection") if self.busy else _("Find the landmarks in the image")))
        self.ui.progressBar.setVisible(self.busy)

    def _refresh_side(self, parameters) -> None:
        """A model that knows no sides of the body is not asked for one."""
        known = self._sides.known_to(parameters.model)
        self.ui.sideTitleLabel.setVisible(known)
        self.ui.sideSelector.setVisible(known)

    def take_up(self) -> None:
        """Go on with the detection that came with a saved scene: its heatmaps are computed again in the background."""
        parameters = self._parameters()
        if parameters is None or self.busy:
            return
        with self._told_to_user():
            job = self.logic.resume(parameters.landmarks)
            if job is not None:
                self._watch(job)

    def ask_terms_again(self) -> None:
        """Forget that the terms of the selected model were accepted and show them."""
        with self._told_to_user():
            bundle = self.logic.bundle(self._parameters().model)
            terms.forget(bundle)
            accepted = terms.ask_once(bundle)
            self.say(_("The terms are accepted.") if accepted else _("The terms are not accepted; Apply asks again."))
