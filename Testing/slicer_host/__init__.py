"""Slicer's core from published wheels as a small application without Qt: scene, logics, files and real views.

Nothing here is simulated except `slicer.app`, which is Qt in Slicer: a shim offers the members that `slicer.util`
calls. The package needs slicer-core, vtk, numpy and pillow only, so that the demo can use it as the tests do.
"""

from __future__ import annotations

from .application import Application, make_app
from .slice_view import SliceView
from .three_d_view import ThreeDView

__all__ = ["Application", "SliceView", "ThreeDView", "make_app"]
