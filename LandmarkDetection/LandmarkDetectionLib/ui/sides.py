"""Which models know the side of the body: a knee is left or right, a spine is neither."""

from __future__ import annotations

from ..errors import LandmarkDetectionError
from ..mrml.dependencies import missing_dependencies


class Sides:
    """Answers for the panel, which asks at every refresh: each model is opened once.

    Args:
        logic: the module's logic.
    """

    def __init__(self, logic) -> None:
        self._logic = logic
        self._known: dict[str, bool] = {}

    def known_to(self, model: str) -> bool:
        """Whether this model tells left from right; where it cannot be opened, the question stays open: True."""
        if model not in self._known:
            if not model or "safetensors" in missing_dependencies():
                return True
            try:
                self._known[model] = self._logic.bundle(model).mirrored_side is not None
            except LandmarkDetectionError:
                return True  # said when it is used; it may be repaired meanwhile
        return self._known[model]
