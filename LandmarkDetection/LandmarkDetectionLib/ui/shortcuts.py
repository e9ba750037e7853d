"""The module's keys, active only while the module is entered."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt


class ModuleShortcuts:
    """Keyboard shortcuts on `parent` (the main window), off until `set_active(True)`.

    Args:
        actions: what each key sequence ("Ctrl+Z") does.
    """

    def __init__(self, parent, actions: Mapping[str, Callable[[], None]]) -> None:
        self._shortcuts = []
        for keys, action in actions.items():
            shortcut = qt.QShortcut(parent)
            shortcut.setKey(qt.QKeySequence(keys))
            shortcut.setEnabled(False)
            # The main window has its own Ctrl+Z action: while both are enabled, Qt calls the keys ambiguous.
            shortcut.connect("activated()", action)
            shortcut.connect("activatedAmbiguously()", action)
            self._shortcuts.append(shortcut)

    def set_active(self, active: bool) -> None:
        """Turn the shortcuts on (module entered) or off."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(active)

    def remove(self) -> None:
        """Delete the shortcuts; the object is of no use afterwards."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts = []
