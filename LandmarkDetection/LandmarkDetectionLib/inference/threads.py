"""How many threads linear algebra takes beside the networks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def single_threaded_algebra() -> Iterator[None]:
    """NumPy and SciPy work with one thread.

    The matrices here are small. On two cores their threads and those of PyTorch, each waiting in a loop for the other,
    took more than twice the time for a detection and a correction.
    """
    controller = _controller()
    if controller is None:
        yield
    else:
        with controller.limit(limits=1, user_api="blas"):
            yield


@functools.cache
def _controller() -> Any:
    """The loaded libraries, looked up once; None without threadpoolctl, which a saved session can do without."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
