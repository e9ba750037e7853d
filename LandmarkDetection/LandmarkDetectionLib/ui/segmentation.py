"""The button that draws the bones about the landmarks."""

from __future__ import annotations

from collections.abc import Callable

import qt
from slicer.i18n import tr as _

from ..errors import LandmarkDetectionError
from ..mrml.dependencies import ensure_dependencies


class BonesButton:
    """Adds a button below those for corrections; what it finds is said in the status line.

    Args:
        ui: the widgets by name.
        say: shows one sentence.
        parameters: returns the parameter node, or None while there is none.
    """

    def __init__(self, ui, say: Callable[[str], None], parameters: Callable[[], object | None]) -> None:
        self._say = say
        self._parameters = parameters
        self.button = qt.QPushButton(_("Draw bones"))
        self.button.setToolTip(_("Draw femur and tibia about the joint as a segmentation (knee films only)"))
        ui.nextButton.parent().layout().addWidget(self.button)
        self.button.connect("clicked()", self.draw)

    def draw(self) -> None:
        """Draw the bones about the landmarks as they are now."""
        parameters = self._parameters()
        try:
            ensure_dependencies()
            # Deferred: Slicer installs PyTorch on first use only, and the panel opens before that.
            from ..mrml.segmentation import segment_bones

            node, found = segment_bones(parameters.landmarks if parameters is not None else None)
        except LandmarkDetectionError as error:
            self._say(str(error))
            return
        self._say(" ".join([_("The bones are in '{name}'.").format(name=node.GetName()), *found.notes]))
