"""Installing PyTorch and safetensors inside Slicer: when the user applies, on the main thread, never at start-up."""

from __future__ import annotations

import importlib.util
import subprocess

import slicer
import slicer.util

from ..errors import LandmarkDetectionError

TORCH_VERSIONS = ">=2.1"
REQUIREMENTS = ("safetensors>=0.4",)


def missing_dependencies() -> tuple[str, ...]:
    """Names of the packages that detection needs and that cannot be found; nothing is imported."""
    return tuple(name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None)


def ensure_dependencies() -> None:
    """Install what is missing, asking the user first. Call it on the main thread, outside the import of any module.

    Raises:
        LandmarkDetectionError: declined, failed, or the PyTorch extension is not there; says what to do.
    """
    if "torch" in missing_dependencies():
        _install_torch()
    if "safetensors" in missing_dependencies():
        _install_packages()
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise LandmarkDetectionError(
            f"PyTorch is installed but cannot be loaded ({error}); uninstall it in the module PyTorch Utils, restart "
            "Slicer and apply again."
        ) from error


def _install_torch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise LandmarkDetectionError(
            "The extension PyTorch is missing; install it in the Extensions Manager, restart Slicer and apply again."
        ) from error
    asked = not slicer.app.testingEnabled()
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=asked, torchVersionRequirement=TORCH_VERSIONS)
    if torch is None:
        raise LandmarkDetectionError("PyTorch was not installed; apply again and accept the installation.")


def _install_packages() -> None:
    import slicer.packaging

    try:
        slicer.packaging.pip_ensure(list(REQUIREMENTS), requester="LandmarkDetection", skip_in_testing=False)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise LandmarkDetectionError(
            f"The Python package safetensors could not be installed ({error}); check the network and apply again."
        ) from error
    importlib.invalidate_caches()
    if "safetensors" in missing_dependencies():
        raise LandmarkDetectionError("The Python package safetensors was not installed; apply again and accept it.")
