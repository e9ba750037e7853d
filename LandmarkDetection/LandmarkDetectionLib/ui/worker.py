"""Looking after a job of the worker thread from Qt's main thread, by a timer: nothing blocks, no thread touches Qt."""

from __future__ import annotations

from collections.abc import Callable

import qt

from ..inference.worker import Job

INTERVAL_MS = 30


class JobPoller:
    """Calls `on_progress(fraction, sentence)` when the watched job reports, and `on_over(job)` once when it is over.

    One job is watched at a time; watching another forgets the one before, whose result is then dropped.
    """

    def __init__(self, on_progress: Callable[[float, str], None], on_over: Callable[[Job], None]) -> None:
        self._on_progress = on_progress
        self._on_over = on_over
        self._job: Job | None = None
        self._last: tuple[float, str] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def watching(self) -> bool:
        """Whether a job is being watched."""
        return self._job is not None

    def watch(self, job: Job) -> None:
        """Look after `job` from now on."""
        self._job = job
        self._last = None
        self._timer.start()

    def stop(self) -> None:
        """Forget the job; neither callback is called again for it."""
        self._timer.stop()
        self._job = None

    def _poll(self) -> None:
        job = self._job
        if job is None:
            return
        if job.finished:
            self.stop()
            self._on_over(job)
        elif job.progress != self._last:
            self._last = job.progress
            self._on_progress(*job.progress)


__all__ = ["JobPoller"]
