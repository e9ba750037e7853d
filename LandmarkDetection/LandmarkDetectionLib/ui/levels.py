"""Levels of a column in the panel: the table of one vertebra at a time, and labels that are one level off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slicer.i18n import tr as _

from ..landmarks import LandmarkSchema
from .landmark_table import Listing


class Levels:
    """The combo box of levels and the two buttons that move all labels; hidden where the landmarks have no levels.

    Args:
        ui: the widgets by name.
        on_choice: called when another level is chosen.
        on_shift: called with +1 (all labels one level down) or -1 (up).
    """

    def __init__(self, ui, on_choice: Callable[[], None], on_shift: Callable[[int], None]) -> None:
        self._selector = ui.levelSelector
        self._widgets = (ui.levelSelector, ui.labelsUpButton, ui.labelsDownButton)
        self._levels: tuple[tuple[str, ...], ...] = ()
        self._selector.connect("currentIndexChanged(int)", lambda index: on_choice())
        ui.labelsUpButton.connect("clicked()", lambda: on_shift(-1))
        ui.labelsDownButton.connect("clicked()", lambda: on_shift(1))
        self.fit(None)

    def fit(self, schema: LandmarkSchema | None) -> None:
        """Offer the levels of these landmarks; the choice stays while the levels do."""
        levels = () if schema is None else schema.levels
        for widget in self._widgets:
            widget.setVisible(bool(levels))
        if levels == self._levels and self._selector.count:
            return
        self._levels = levels
        blocked = self._selector.blockSignals(True)
        self._selector.clear()
        self._selector.addItems([_("All levels"), *(level[0].split("_")[0] for level in levels)])
        self._selector.blockSignals(blocked)

    def filtered(self, listed: Listing) -> Listing:
        """The rows of the chosen level, or all of them."""
        chosen = self._selector.currentIndex
        if not 0 < chosen <= len(self._levels):
            return listed
        shown = set(self._levels[chosen - 1])
        return replace(listed, rows=tuple(row for row in listed.rows if row.id in shown))

    def include(self, landmark: str) -> None:
        """Turn to the level of this landmark if another one is chosen."""
        if self._selector.currentIndex > 0:
            numbers = [number for number, level in enumerate(self._levels) if landmark in level]
            self._selector.setCurrentIndex(numbers[0] + 1 if numbers else 0)
