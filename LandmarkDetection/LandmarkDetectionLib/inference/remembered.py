"""Results that are likely to be asked for again soon."""

from __future__ import annotations

from collections.abc import Callable, Hashable

_MOST = 4


class Remembered:
    """The last few results of a computation, by what they depend on."""

    def __init__(self) -> None:
        self._results: dict = {}

    def __call__(self, key: Hashable, compute: Callable):
        """The result that belongs to `key`, computed where it is not remembered."""
        found = self._results.pop(key) if key in self._results else compute()
        self._results[key] = found
        if len(self._results) > _MOST:
            del self._results[next(iter(self._results))]
        return found
