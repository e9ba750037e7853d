"""The table of landmarks: worst first, one row each, a click shows the landmark in the slice views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import qt
from slicer.i18n import tr as _

from ..landmarks import Landmark, LandmarkSet


@dataclass(frozen=True)
class Row:
    """What the table says about one landmark. `index` is its place in the schema and in the Markups node."""

    index: int
    id: str
    name: str
    error: str
    state: str
    definition: str


def rows(landmarks: LandmarkSet, pinned: frozenset[str] = frozenset(), review_above: float = 0.0) -> list[Row]:
    """Rows of the table, worst first: to be reviewed, then by expected error, then what the user placed, then absent.

    Args:
        landmarks: the landmarks to list.
        pinned: ids that the user has fixed.
        review_above: expected error (index px) above which a landmark is to be reviewed; 0 leaves it to the model.
    """
    millimeters = landmarks.expected_errors_mm()
    listed = []
    for index, landmark in enumerate(landmarks.schema.landmarks):
        status = landmarks.statuses[index]
        error = float(landmarks.expected_errors[index])
        if review_above > 0 and status in ("predicted", "review"):
            status = "review" if error > review_above else "predicted"
        if status == "absent" or not np.all(np.isfinite(landmarks.positions[index])):
            shown, rank = "", 3
        elif status == "moved" or landmark.id in pinned:
            shown, rank = "", 2
        else:
            shown = f"{error:.1f} px" if millimeters is None else f"{millimeters[index]:.1f} mm"
            rank = 0 if status == "review" else 1
        name = f"{landmark.id}  {landmark.title}"
        row = Row(index, landmark.id, name, shown, _state_text(status, landmark.id in pinned), landmark.definition)
        listed.append((rank, -error if np.isfinite(error) else 0.0, index, row))
    return [entry[-1] for entry in sorted(listed, key=lambda entry: entry[:3])]


def any_free(landmarks: LandmarkSet) -> bool:
    """Whether there is a landmark left that the user has neither placed nor called absent."""
    return any(status in ("predicted", "review") for status in landmarks.statuses)


def next_sentence(landmark: Landmark) -> str:
    """What to correct next, and why."""
    title = landmark.title.replace(",", "")
    # A title that names the level itself ("T7 upper left corner") needs no id beside it.
    name = title if title.startswith(landmark.id.split("_")[0]) else f"{landmark.id} ({title})"
    return _("Correct {name} next: it helps the others most.").format(name=name)


def _state_text(status: str, pinned: bool) -> str:
    if status == "absent":
        return _("not in the image")
    if status == "moved" or pinned:
        return _("placed by you")
    return _("please check") if status == "review" else _("found")


class LandmarkTable:
    """Fills a QTableWidget with `rows` and calls `on_click(index)` with the landmark's index in the schema."""

    def __init__(self, widget, on_click: Callable[[int], None]) -> None:
        self._widget = widget
        self._on_click = on_click
        self._rows: list[Row] = []
        widget.setColumnCount(3)
        widget.setHorizontalHeaderLabels([_("Landmark"), _("Expected error"), _("State")])
        widget.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        widget.connect("cellClicked(int,int)", self._clicked)

    @property
    def shown(self) -> list[Row]:
        """The rows shown, from the top."""
        return list(self._rows)

    def show(self, listed: list[Row]) -> None:
        """Show these rows; the selected landmark stays selected wherever its row goes."""
        selected, before = self.selected(), self._rows
        self._rows = list(listed)
        blocked = self._widget.blockSignals(True)
        self._widget.setRowCount(len(listed))
        for number, row in enumerate(listed):
            if before[number : number + 1] == [row]:
                continue  # a drag asks for the whole table at every mouse event, and few rows change
            for column, text in enumerate((row.name, row.error, row.state)):
                self._set_cell(number, column, text, row.definition)
        self.select(selected)
        self._widget.blockSignals(blocked)

    def selected(self) -> str | None:
        """The id of the selected landmark."""
        number = self._widget.currentRow()
        return self._rows[number].id if 0 <= number < len(self._rows) else None

    def select(self, landmark_id: str | None) -> None:
        """Select the row of this landmark, or none."""
        numbers = [number for number, row in enumerate(self._rows) if row.id == landmark_id]
        if numbers:
            self._widget.setCurrentCell(numbers[0], 0)
        else:
            self._widget.setCurrentCell(-1, -1)

    def _set_cell(self, number: int, column: int, text: str, tip: str) -> None:
        item = self._widget.item(number, column)
        if item is None:
            item = qt.QTableWidgetItem()
            self._widget.setItem(number, column, item)
        item.setText(text)
        item.setToolTip(tip)

    def _clicked(self, number: int, column: int) -> None:
        if 0 <= number < len(self._rows):
            self._on_click(self._rows[number].index)
