"""Linear algebra keeps to one thread while the networks work."""

from __future__ import annotations

import sys

import numpy  # noqa: F401
import scipy.linalg  # noqa: F401
from LandmarkDetectionLib.inference import threads
from threadpoolctl import threadpool_info, threadpool_limits


def algebra_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_inside_and_what_it_was_outside():
    with threadpool_limits(2, user_api="blas"):
        before = algebra_threads()
        with threads.single_threaded_algebra():
            assert algebra_threads() == {1}
        assert algebra_threads() == before != {1}


def test_it_goes_on_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    threads._controller.cache_clear()
    try:
        with threads.single_threaded_algebra():
            pass
    finally:
        threads._controller.cache_clear()
