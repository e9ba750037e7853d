"""One persistent worker thread: the latest job wins, and the caller asks for its state whenever it likes.

A fresh thread per detection would pay for the network library's per-thread caches every time, so one daemon thread
lives on. Only numpy arrays and plain values go to the thread; whoever submits a job applies its result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Cancelled, LandmarkDetectionError

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


class Job:
    """A function call made on the worker thread. Every method may be called from any thread.

    The function receives the job as its first argument, to `report` its progress and to see whether it is `cancelled`.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple = (), keywords: dict | None = None) -> None:
        self._call = (function, arguments, keywords or {})
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._cancelled = threading.Event()
        self._state: JobState = "waiting"
        self._progress: tuple[float, str] = (0.0, "")
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def state(self) -> JobState:
        """Where the job stands."""
        with self._lock:
            return self._state

    @property
    def finished(self) -> bool:
        """Whether the job has come to its end: done, failed or cancelled."""
        return self._over.is_set()

    @property
    def progress(self) -> tuple[float, str]:
        """The last report: fraction done (0 to 1) and a sentence."""
        with self._lock:
            return self._progress

    def report(self, fraction: float, sentence: str) -> None:
        """Say how far the work is; has the signature of a `Detector.detect` progress callback."""
        with self._lock:
            self._progress = (float(fraction), sentence)

    def cancel(self) -> None:
        """Ask the job to stop; one that still waits never starts."""
        self._cancelled.set()
        with self._lock:
            if self._state == "waiting":
                self._state = "cancelled"
                self._over.set()

    def cancelled(self) -> bool:
        """Whether the job was asked to stop; has the signature of a `Detector.detect` cancel callback."""
        return self._cancelled.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job is over, or for `timeout` seconds. Returns whether it is over."""
        return self._over.wait(timeout)

    def result(self) -> Any:
        """What the function returned, once finished. Raises what it raised, or `Cancelled`."""
        self.wait()
        if self.state == "cancelled":
            raise Cancelled("The work was cancelled.")
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """Make the call on the present thread; a job that was cancelled before is left alone."""
        with self._lock:
            if self._state != "waiting":
                return
            self._state = "running"
        function, arguments, keywords = self._call
        try:
            result = function(self, *arguments, **keywords)
        except Cancelled:
            self._finish("cancelled")
        except Exception as error:  # kept whole, and raised again by result() on the thread that asks for it
            self._error = error
            self._finish("failed")
        else:
            self._result = result
            self._finish("cancelled" if self.cancelled() else "done")

    def _finish(self, state: JobState) -> None:
        with self._lock:
            self._state = state
            self._call = (self._call[0], (), {})  # the image of a finished job is not kept
        self._over.set()


class LatestJobWorker:
    """A daemon thread with room for one waiting job. Submitting a job cancels the running and the waiting one."""

    def __init__(self, name: str = "landmark-detection") -> None:
        self._name = name
        self._condition = threading.Condition()
        self._waiting: Job | None = None
        self._running: Job | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Job:
        """Queue `function(job, *arguments, **keywords)` and return its job. Raises after `close`."""
        job = Job(function, arguments, keywords)
        with self._condition:
            if self._closed:
                raise LandmarkDetectionError("The worker was closed; create a new one.")
            for older in (self._waiting, self._running):
                if older is not None:
                    older.cancel()
            self._waiting = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._condition.notify()
        return job

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def close(self, timeout: float = 10.0) -> None:
        """Cancel everything and end the thread, waiting at most `timeout` seconds for a running job to notice."""
        with self._condition:
            self._closed = True
            for job in (self._waiting, self._running):
                if job is not None:
                    job.cancel()
            self._condition.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._condition:
                while self._waiting is None and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                job, self._waiting = self._waiting, None
                self._running = job
            job.run()
            with self._condition:
                self._running = None


@dataclass
class Outcome:
    """What a detection job hands back: the detection and the device that was really used, with the reason."""

    detection: Any
    device: str
    device_reason: str


class DetectionWorker(LatestJobWorker):
    """Runs detectors on the worker thread and keeps the last one, so that a second image costs only its own work."""

    def __init__(self, name: str = "landmark-detection") -> None:
        super().__init__(name)
        self._key: tuple[str, str] | None = None
        self._detector: Any = None

    def detect(self, image: Any, model: str, device: str = "auto", side: str = "auto") -> Job:
        """Queue a detection on `image` with the bundle named `model`. The job's result is an `Outcome`."""
        return self.submit(self._detect, image, model, device, side)

    def _detect(self, job: Job, image: Any, model: str, device: str, side: str) -> Outcome:
        job.report(0.0, "Loading the model")
        detector = self._load(model, device)
        try:
            detection = detector.detect(image, side=side, progress=job.report, cancelled=job.cancelled)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError" or str(detector.device) == "cpu":
                raise
            self._key, self._detector, detector = None, None, None
            detector = self._load(model, "cpu")
            detection = detector.detect(image, side=side, progress=job.report, cancelled=job.cancelled)
            return Outcome(detection, str(detector.device), "CPU: the GPU ran out of memory.")
        return Outcome(detection, str(detector.device), detector.device_reason)

    def _load(self, model: str, device: str) -> Any:
        if self._key != (model, device):
            from .bundle import find_bundle
            from .detector import Detector

            self._detector = Detector(find_bundle(model), device)
            self._key = (model, device)
        return self._detector


_shared: DetectionWorker | None = None


def shared_worker() -> DetectionWorker:
    """The one detection worker of this process, made on first use: panel and scripts share its thread and models."""
    global _shared
    if _shared is None:
        _shared = DetectionWorker()
    return _shared


def close_shared_worker() -> None:
    """End the shared worker's thread and drop its models; the next use starts afresh."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None
