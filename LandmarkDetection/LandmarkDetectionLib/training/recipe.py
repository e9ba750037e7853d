"""Recipes: everything that a training run depends on but the data, as a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import LandmarkDetectionError

RECIPES = Path(__file__).parent / "recipes"

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """A recipe by its sections; ``kind`` names the pipeline that follows it."""

    path: Path
    kind: str
    name: str
    seed: int
    folds: int
    sections: dict[str, Any]

    def __getitem__(self, section: str) -> dict[str, Any]:
        try:
            return self.sections[section]
        except KeyError:
            raise LandmarkDetectionError(f"The recipe '{self.path.name}' has no section [{section}].") from None

    def built(self, section: str, kind: Callable[..., T], **more: object) -> T:
        """What a section describes, made by ``kind`` from its fields; where both have one, ``more`` holds.

        Raises:
            LandmarkDetectionError: a field is missing or not known.
        """
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in self[section].items()}
        try:
            return kind(**fields | more)
        except TypeError as error:
            raise LandmarkDetectionError(
                f"The recipe '{self.path.name}' has a field in [{section}] that is missing or not known ({error})."
            ) from error


def find_recipe(recipe: str | Path) -> Path:
    """A file, or the name of a recipe that comes with the library."""
    for path in (Path(recipe), RECIPES / f"{recipe}.toml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise LandmarkDetectionError(f"There is no recipe '{recipe}'; give a TOML file or one of: {known}.")


def load_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        LandmarkDetectionError: it does not exist, is not TOML, or lacks a key.
    """
    path = find_recipe(recipe)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        plain = {key: content.pop(key) for key in ("kind", "name", "seed", "folds")}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LandmarkDetectionError(f"The recipe '{path.name}' is not valid TOML ({error}).") from error
    except KeyError as error:
        raise LandmarkDetectionError(f"The recipe '{path.name}' lacks the key {error}.") from error
    return Recipe(path, **plain, sections=content)
