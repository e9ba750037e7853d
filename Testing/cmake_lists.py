"""Compares the file lists of the module's CMakeLists.txt with the tree, or writes them: `cmake_lists.py [--write]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "LandmarkDetection"
SCRIPTS = "MODULE_PYTHON_SCRIPTS"
RESOURCES = "MODULE_PYTHON_RESOURCES"


def tree_lists(module: Path = MODULE) -> dict[str, list[str]]:
    """What the module folder holds, as the two lists CMake needs, paths relative to the folder."""
    files = sorted(
        path.relative_to(module)
        for path in module.rglob("*")
        if path.is_file() and not any(_generated(part) for part in path.relative_to(module).parts)
    )
    names = [path.as_posix() for path in files if path.name != "CMakeLists.txt"]
    scripts = [name for name in names if name.endswith(".py")]
    return {SCRIPTS: scripts, RESOURCES: [name for name in names if name not in scripts]}


def cmake_lists(text: str) -> dict[str, list[str]]:
    """The two lists as the text of a CMakeLists.txt has them."""
    return {name: _list_pattern(name).search(text).group(1).split() for name in (SCRIPTS, RESOURCES)}


def rewritten(text: str, lists: dict[str, list[str]]) -> str:
    """The text of a CMakeLists.txt with its two lists replaced."""
    for name, entries in lists.items():
        body = "".join(f"  {entry}\n" for entry in entries)
        text = _list_pattern(name).sub(f"set({name}\n{body}  )", text)
    return text


def _generated(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__" or part.endswith((".egg-info", ".pyc"))


def _list_pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"set\({name}\b([^)]*)\)")


def main(arguments: list[str]) -> int:
    cmake = MODULE / "CMakeLists.txt"
    text = cmake.read_text(encoding="utf-8")
    listed, found = cmake_lists(text), tree_lists()
    if "--write" in arguments:
        cmake.write_text(rewritten(text, found), encoding="utf-8", newline="\n")
        return 0
    differences = [
        f"{sign} {entry}  ({name})"
        for name in found
        for sign, entries in (
            ("missing:", set(found[name]) - set(listed[name])),
            ("not there:", set(listed[name]) - set(found[name])),
        )
        for entry in sorted(entries)
    ]
    print("\n".join(differences) or "The lists match the tree.")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
