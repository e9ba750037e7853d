"""How commands end and where they write: one sentence for an error, status 0 only when all went well."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ..errors import LandmarkDetectionError

if TYPE_CHECKING:
    from ..inference.bundle import Bundle

INCOMPLETE = 2
"""Exit status when an image was refused or the command could not do its work."""

console = Console(highlight=False, markup=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Turn an exit status into an exit, and an error meant for the user into its sentence."""

    @functools.wraps(function)
    def run(*arguments, **options) -> None:
        try:
            status = function(*arguments, **options)
        except LandmarkDetectionError as error:
            error_console.print(str(error))
            status = INCOMPLETE
        raise typer.Exit(status)

    return run


def output_folder(path: Path) -> Path:
    """The folder, made where needed and tried out: better to fail before an hour's work than after it.

    Raises:
        LandmarkDetectionError: nothing can be written there.
    """
    probe = path / ".landmark-detection-writes-here"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LandmarkDetectionError(
            f"The output folder '{path}' cannot be written ({error.strerror}); choose another with --out."
        ) from error
    return path


def load_bundle(model: str) -> Bundle:
    """The bundle of that name or folder; its terms are printed, never asked for.

    Raises:
        BundleError: no such model, or its files are missing or altered.
    """
    from ..inference.bundle import find_bundle

    bundle = find_bundle(model)
    console.print(f"Model {bundle.name} {bundle.version}. Terms of use: {bundle.terms}")
    return bundle
