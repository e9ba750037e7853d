"""Errors meant for the user: each message is one sentence that names the file or field and says what to do."""

from __future__ import annotations


class LandmarkDetectionError(Exception):
    """A problem the user can act on; ``str(error)`` is one sentence, shown as it stands."""


class ImageError(LandmarkDetectionError):
    """An image, or its geometry, cannot be used."""


class BundleError(LandmarkDetectionError):
    """A model bundle is missing, incomplete or altered."""


class NotThisAnatomyError(LandmarkDetectionError):
    """The image does not show the anatomy that the model was made for."""


class SideError(LandmarkDetectionError):
    """The side declared for the image contradicts what it shows."""


class Cancelled(LandmarkDetectionError):
    """The user stopped the work before it was done."""
