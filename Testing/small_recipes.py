"""Recipes of the project, smaller: the same steps in seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from LandmarkDetectionLib.training.recipe import find_recipe


def small_recipe(name: str, folder: Path, fields: Mapping[str, str]) -> Path:
    """A recipe in a folder, with other values for some fields, wherever these stand at the beginning of a line."""
    text = find_recipe(name).read_text(encoding="utf-8")
    for field, value in fields.items():
        text, count = re.subn(rf"(?m)^{field} = [^#\n]+", f"{field} = {value} ", text)
        assert count, f"The recipe {name} has no field {field}."
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path
