"""The command line ``landmark-detection``: what it says and where it writes; everything else is the library's."""

from .main import app

__all__ = ["app"]
