"""Anatomical landmarks on medical images, with an honest error estimate.

Importing this package loads nothing heavy; import the module you need, for example ``LandmarkDetectionLib.images``.
"""

__version__ = "0.1.0"
