"""The worker thread: latest job wins, cancelling, errors carried to the caller. No Qt is needed."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from LandmarkDetectionLib.errors import Cancelled, LandmarkDetectionError
from LandmarkDetectionLib.inference.worker import DetectionWorker, LatestJobWorker

PATIENCE = 30.0  # seconds before a hanging test gives up; nothing is timed


@pytest.fixture
def worker():
    worker = LatestJobWorker()
    yield worker
    worker.close()
    assert not worker.alive


class Gate:
    """A job function that says when it has started and goes on when told, or when cancelled."""

    def __init__(self) -> None:
        self.started, self.open = threading.Event(), threading.Event()

    def __call__(self, job, value):
        self.started.set()
        while not self.open.wait(0.005):
            if job.cancelled():
                raise Cancelled("The detection was cancelled.")
        return value


def test_jobs_run_on_one_thread_that_lives_on(worker):
    first = worker.submit(lambda job: threading.get_ident()).result()
    assert worker.submit(lambda job: threading.get_ident()).result() == first
    assert first != threading.get_ident()


def test_latest_job_wins(worker):
    gate = Gate()
    running = worker.submit(gate, 1)
    assert gate.started.wait(PATIENCE)
    waiting = worker.submit(lambda job: 2)
    latest = worker.submit(lambda job: 3)
    assert latest.result() == 3
    assert (running.state, waiting.state, latest.state) == ("cancelled", "cancelled", "done")


def test_cancelled_job_never_gives_a_result(worker):
    gate = Gate()
    job = worker.submit(gate, "late")
    assert gate.started.wait(PATIENCE)
    job.cancel()
    assert job.wait(PATIENCE)
    with pytest.raises(Cancelled):
        job.result()


def test_result_that_comes_after_cancelling_is_dropped(worker):
    gate = Gate()

    def deaf(job):
        gate.started.set()
        gate.open.wait(PATIENCE)
        return "done all the same"

    job = worker.submit(deaf)
    assert gate.started.wait(PATIENCE)
    job.cancel()
    gate.open.set()
    with pytest.raises(Cancelled):
        job.result()


def test_errors_reach_whoever_asks_and_the_thread_survives(worker):
    job = worker.submit(lambda job: np.zeros(2)[5])
    with pytest.raises(IndexError):
        job.result()
    assert job.state == "failed"
    assert worker.submit(lambda job: "fine").result() == "fine"


def test_progress_is_reported(worker):
    gate = Gate()

    def work(job):
        job.report(0.5, "half")
        return gate(job, None)

    job = worker.submit(work)
    assert gate.started.wait(PATIENCE)
    assert job.progress == (0.5, "half") and not job.finished
    gate.open.set()
    assert job.wait(PATIENCE) and job.state == "done"


def test_finished_job_keeps_no_image(worker):
    image = np.zeros(4).view(type("Pixels", (np.ndarray,), {}))
    seen = weakref.ref(image)
    job = worker.submit(lambda job, pixels: float(pixels.sum()), image)
    assert job.result() == 0.0
    del image
    worker.submit(lambda job: None).result()  # the thread's own variables have moved on
    assert seen() is None


def test_closed_worker_refuses_work():
    worker = LatestJobWorker()
    gate = Gate()
    job = worker.submit(gate, 1)
    assert gate.started.wait(PATIENCE)
    worker.close()
    assert job.state == "cancelled" and not worker.alive
    with pytest.raises(LandmarkDetectionError, match="closed"):
        worker.submit(gate, 2)


def test_unknown_model_is_reported_by_the_job():
    worker = DetectionWorker()
    job = worker.detect(None, "no-such-model")
    with pytest.raises(LandmarkDetectionError, match="no-such-model"):
        job.result()
    worker.close()
