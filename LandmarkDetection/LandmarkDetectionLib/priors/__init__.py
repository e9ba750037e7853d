"""What is known of a landmark set before looking at the image, and of the errors of a model."""

from .errors import ErrorModel
from .shape import ShapePrior
from .solve import Posterior

__all__ = ["ErrorModel", "Posterior", "ShapePrior"]
