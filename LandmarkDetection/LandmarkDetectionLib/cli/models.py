"""``models list`` and ``models verify``."""

from __future__ import annotations

from ..errors import BundleError
from .output import INCOMPLETE, console, error_console


def run_list() -> int:
    """A few lines for each model found; a damaged one is named and does not hide the others."""
    from ..inference.bundle import Bundle, list_bundles

    found = list_bundles()
    for name, folder in found.items():
        try:
            bundle = Bundle.load(folder)
        except BundleError as error:
            console.print(f"{name}: not usable. {error}")
        else:
            console.print(f"{bundle.name} {bundle.version}: {bundle.title}")
            console.print(f"  {folder}")
            console.print(f"  License: {bundle.licence}. {bundle.terms}")
    if not found:
        console.print("No model found.")
    return 0


def run_verify(models: list[str]) -> int:
    """Load each model, given by name or folder, which checks its hashes; 0 only when all are as they were made."""
    from ..inference.bundle import find_bundle, list_bundles

    names = models or list(list_bundles())
    if not names:
        raise BundleError("No model was found; put a bundle into the folder named by LANDMARK_MODELS.")
    failed = 0
    for name in names:
        try:
            bundle = find_bundle(name)
        except BundleError as error:
            failed += 1
            error_console.print(str(error))
        else:
            console.print(f"{bundle.name} {bundle.version}: every file matches its SHA-256")
    return INCOMPLETE if failed else 0
