"""Which models are offered: those made for films where a film is chosen, those made for volumes where a volume is."""

from __future__ import annotations

import json
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from ..errors import ImageError
from ..inference.bundle import MODEL_FILE, list_bundles
from ..mrml.volumes import is_film


class ModelChoice:
    """Keeps a combo box of models in line with the image; the model last used for each kind of image comes back.

    Args:
        selector: the QComboBox.
        logic: the module's logic.
        on_voxels: called when the chosen image gets other voxels: it may have been chosen before it had any.
    """

    def __init__(self, selector, logic, on_voxels: Callable[[], None]) -> None:
        self._selector = selector
        self._logic = logic
        self._on_voxels = on_voxels
        self._watched: tuple | None = None
        self._dims: dict[str, int | None] = {}
        self._last: dict[int | None, str] = {}

    def close(self) -> None:
        """Watch no image any more."""
        self._watch(None)

    def _watch(self, volume) -> None:
        if self._watched is not None:
            node, tag = self._watched
            if node is volume:
                return
            node.RemoveObserver(tag)
        event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
        tag = None if volume is None else volume.AddObserver(event, lambda caller, event: self._on_voxels())
        self._watched = None if volume is None else (volume, tag)

    def offer(self, parameters) -> str:
        """Offer the models that fit the chosen image and choose one of them; returns why there is none, or ""."""
        self._watch(parameters.inputVolume)
        names, wanted = self._logic.modelNames(), image_dims(parameters.inputVolume)
        fitting = [name for name in names if wanted is None or self._of(name) in (wanted, None)]
        chosen = parameters.model
        if chosen not in fitting:
            chosen = self._last.get(wanted, fitting[0] if fitting else "")
        if chosen:
            self._last[wanted] = chosen
        self._show(fitting, chosen)
        if parameters.model != chosen:
            parameters.model = chosen
        return "" if fitting else _no_model(wanted if names else None)

    def _show(self, names: list[str], chosen: str) -> None:
        shown = [self._selector.itemText(number) for number in range(self._selector.count)]
        blocked = self._selector.blockSignals(True)
        if shown != names:
            self._selector.clear()
            self._selector.addItems(names)
        self._selector.setCurrentText(chosen)
        self._selector.blockSignals(blocked)

    def _of(self, name: str) -> int | None:
        """Axes of the images of a model, 2 or 3; None where that cannot be read. The panel asks at every refresh."""
        if self._dims.get(name) is None:
            self._dims[name] = stored_dims(name)
        return self._dims[name]


def stored_dims(name: str) -> int | None:
    """2 for a model of films, 3 for one of volumes, None where its file does not say: that is told when it is used."""
    folder = list_bundles().get(name)
    if folder is None:
        return None
    try:
        return int(json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["schema"]["dims"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def image_dims(volume) -> int | None:
    """2 for a film, 3 for a volume, None where there is no image (that is told elsewhere)."""
    if volume is None:
        return None
    try:
        return 2 if is_film(volume) else 3
    except ImageError:
        return None


def _no_model(dims: int | None) -> str:
    if dims == 2:
        return _("No installed model is made for films; choose a volume, or install a model for films.")
    if dims == 3:
        return _("No installed model is made for volumes; choose a film, or install a model for volumes.")
    return _("No model was found; reinstall the extension or let LANDMARK_MODELS point to a folder of models.")
