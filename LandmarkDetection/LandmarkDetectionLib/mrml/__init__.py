"""The scene: volume nodes to images, landmarks to markups, and back. Needs Slicer's core; never Qt.

RAS appears only here; the rest of the library is LPS. Everything is expressed in the volume's *local* coordinates, and
the result nodes are placed under the volume's own parent transform: linear and non-linear transforms then apply to
image and landmarks alike, and a registration done later keeps the points on the anatomy.
"""

from __future__ import annotations
