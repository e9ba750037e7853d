"""What is known of a landmark set before looking at the image."""

from .shape import ShapePrior
from .solve import Posterior

__all__ = ["Posterior", "ShapePrior"]
