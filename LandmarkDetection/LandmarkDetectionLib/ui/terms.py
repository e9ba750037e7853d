"""The terms of a model's weights: shown and accepted once for each model and version, before its first use."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

GROUP = "LandmarkDetection/AcceptedTerms"


def settings_key(bundle) -> str:
    """The key in the user's settings under which the acceptance of this model and version is kept."""
    return f"{GROUP}/{bundle.name}/{bundle.version}"


def accepted(bundle) -> bool:
    """Whether the user has accepted the terms of this model in this version."""
    return bool(qt.QSettings().contains(settings_key(bundle)))


def forget(bundle) -> None:
    """Take the acceptance back; the next use asks again."""
    qt.QSettings().remove(settings_key(bundle))


def ask_once(bundle) -> bool:
    """Show the terms unless they were accepted before. Returns whether the model may be used."""
    if not bundle.terms or accepted(bundle):
        return True
    if slicer.app.testingEnabled():
        return True  # no dialog can be answered there; the terms are in the log
    text = _("The model {name} {version} comes with terms of use:").format(name=bundle.name, version=bundle.version)
    text += f"\n\n{bundle.terms}\n\n" + _("License of the weights: {licence}").format(licence=bundle.licence)
    text += "\n\n" + _("Research use only, not a medical device.") + "\n\n" + _("Do you accept these terms?")
    if not slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Terms of use")):
        return False
    qt.QSettings().setValue(settings_key(bundle), qt.QDateTime.currentDateTime().toString(qt.Qt.ISODate))
    return True
