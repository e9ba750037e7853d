"""What every training has in common: a recipe, the data set that it is applied to, and a folder for what it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..landmarks import LandmarkSchema, load_schema
from .recipe import Recipe


@dataclass
class Model(ABC):
    """A recipe applied to a data set; every part is trained once and kept below ``out``.

    With ``resume``, parts that are there are not trained anew, and one that was interrupted goes on.
    """

    recipe: Recipe
    data: Path
    out: Path
    resume: bool = False

    @cached_property
    def schema(self) -> LandmarkSchema:
        """The landmarks that the recipe's bundle names."""
        return load_schema(self.recipe["bundle"]["schema"])

    @abstractmethod
    def train(self) -> None:
        """Everything, in order."""
