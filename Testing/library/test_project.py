"""The project as a whole: file lists, descriptions in step with each other, imports that point one way, licenses."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cmake_lists import cmake_lists, rewritten, tree_lists
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "LandmarkDetection"
LIBRARY = MODULE / "LandmarkDetectionLib"

LAYERS = (
    {"errors", "geometry", "images", "landmarks", "reading"},
    {"preprocessing", "heatmaps", "networks"},
    {"uncertainty", "priors", "measurements"},
    {"inference"},
    {"training", "evaluation", "phantoms", "markups_file", "overlay"},
    {"mrml"},
    {"ui", "cli", "demo"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

IN_SLICER = {"numpy", "scipy", "SimpleITK", "PIL", "torch", "safetensors"}
"""What Slicer brings along or the module installs; anything else would have to be installed by the user."""

ALSO_ALLOWED = {
    "cli": {"typer", "rich", "click"},
    "training": {"rich", "matplotlib"},
    "evaluation": {"jinja2", "matplotlib"},
    "phantoms": {"pydicom"},
    "mrml": {"slicer", "vtk", "PyTorchUtils"},
    "ui": {"slicer", "vtk", "qt", "ctk"},
    "demo": {"slicer", "vtk", "rich"},
}


def tracked_files() -> list[Path]:
    """Every file that is, or would be, under version control."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return sorted(ROOT / name for name in set(names) if name and (ROOT / name).is_file())


def cmake_settings() -> dict[str, str]:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\((EXTENSION_\w+) "([^"\n]*)"\)$', text, flags=re.MULTILINE))


def description_file() -> list[tuple[str, str]]:
    lines = (ROOT / "LandmarkDetection.s4ext").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(" ") for line in lines if line.strip() and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def catalog_entry() -> dict:
    return json.loads((ROOT / "LandmarkDetection.json").read_text(encoding="utf-8"))


# What CMake installs


def test_cmake_lists_every_file():
    listed = cmake_lists((MODULE / "CMakeLists.txt").read_text(encoding="utf-8"))
    found = tree_lists()
    for name in found:
        missing = sorted(set(found[name]) - set(listed[name]))
        gone = sorted(set(listed[name]) - set(found[name]))
        assert not missing and not gone, f"{name}: missing {missing}, not in the tree {gone}; run make cmake-lists"


def test_cmake_lists_are_written_as_they_are_read():
    text = "set(MODULE_PYTHON_SCRIPTS\n  old.py\n  )\n\nset(MODULE_PYTHON_RESOURCES\n  )\nmacro(SCRIPTS ${A})\n"
    lists = {"MODULE_PYTHON_SCRIPTS": ["a.py", "b/c.py"], "MODULE_PYTHON_RESOURCES": ["Resources/i.png"]}
    assert cmake_lists(rewritten(text, lists)) == lists
    assert "old.py" not in rewritten(text, lists)


def test_only_the_module_file_stands_beside_the_library():
    assert [path.name for path in MODULE.glob("*.py")] == ["LandmarkDetection.py"]


# What the catalog reads


def test_catalog_entry_has_the_accepted_keys():
    entry = catalog_entry()
    required = {"$schema", "category", "scm_url"}
    optional = {"scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled", "tier"}
    assert required <= entry.keys() <= required | optional
    assert "catalog-entry-schema-v1.0.1.json" in entry["$schema"]
    assert entry["category"] == "Quantification"
    assert entry["build_dependencies"] == ["PyTorch"]
    assert re.fullmatch(r"https://[^ ]+/Slicer\w+", entry["scm_url"])


def test_description_file_is_in_step_with_cmake_and_catalog():
    pairs = description_file()
    order = (
        "scm scmurl scmrevision depends recommends build_subdirectory homepage contributors category iconurl status "
        "tier description screenshoturls enabled dicom_support_rule keywords"
    )
    assert [key for key, _ in pairs] == order.split()
    values, cmake, entry = dict(pairs), cmake_settings(), catalog_entry()
    for key in ("depends", "recommends", "homepage", "contributors", "category", "iconurl", "status", "tier"):
        assert values[key] == cmake[f"EXTENSION_{key.upper()}"], key
    for key in ("description", "screenshoturls", "enabled", "keywords", "build_subdirectory"):
        assert values[key] == cmake[f"EXTENSION_{key.upper()}"], key
    assert values["scm"] == entry["scm_type"]
    assert values["scmurl"] == entry["scm_url"] == cmake["EXTENSION_HOMEPAGE"]
    assert values["scmrevision"] == entry["scm_revision"]
    assert values["category"] == entry["category"]
    assert values["depends"].split() == entry["build_dependencies"]
    assert values["build_subdirectory"] == entry["build_subdirectory"]


def test_project_name_and_pictures_of_the_extension():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(LandmarkDetection)" in text
    assert "## NEXT_MODULE" in text
    cmake = cmake_settings()
    for key in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for url in cmake[key].split():
            path = ROOT / url.partition("/main/")[2]
            assert path.is_file(), f"{key} names {path.name}, which is not in the repository"
            with Image.open(path) as picture:
                assert picture.format in ("PNG", "JPEG", "GIF")
    with Image.open(ROOT / "Resources" / "LandmarkDetection.png") as icon:
        assert icon.size == (256, 256)
    assert (MODULE / "Resources" / "Icons" / "LandmarkDetection.png").is_file()


def test_the_version_is_the_same_everywhere():
    import LandmarkDetectionLib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert LandmarkDetectionLib.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    pinned = {normalised(line.partition("==")[0]) for line in lines}
    assert {normalised(re.match(r"[\w.-]+", name).group()) for name in wanted} <= pinned


# Which way imports point


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imported_names(path: Path, nodes: Iterator[ast.AST]) -> set[str]:
    """Absolute dotted names of everything the nodes import, relative imports resolved inside the library."""
    package = ("LandmarkDetectionLib", *path.relative_to(LIBRARY).parts[:-1]) if path.is_relative_to(LIBRARY) else ()
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def layer_name(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", python_files(LIBRARY), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_imports_point_one_way(path):
    names = imported_names(path, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    own = layer_name(path)
    if own == "__init__":
        assert names <= {"__future__.annotations"}
        return
    assert own in LEVEL, f"give '{own}' a layer in this test and in the architecture section"
    for name in names:
        parts = name.split(".")
        if parts[0] == "LandmarkDetectionLib":
            target = parts[1]
            assert target in LEVEL or target == "__version__", f"{name} has no layer"
            assert LEVEL.get(target, 0) <= LEVEL[own], f"{own} must not import {target}, which is built on it"
        elif parts[0] not in sys.stdlib_module_names:
            assert parts[0] in IN_SLICER | ALSO_ALLOWED.get(own, set()), f"{own} must not import {parts[0]}"


def test_the_import_arrow_is_noticed_when_it_points_the_wrong_way():
    path = LIBRARY / "priors" / "made_up.py"
    tree = ast.parse("from ..inference.session import Session\nfrom . import shape\nimport torch.nn")
    assert imported_names(path, ast.walk(tree)) == {
        "LandmarkDetectionLib.inference.session.Session",
        "LandmarkDetectionLib.priors.shape",
        "torch.nn",
    }
    assert LEVEL["inference"] > LEVEL["priors"]


def file_scope(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the file is imported: everything but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from file_scope(child)


def test_the_module_file_imports_only_what_slicer_always_has():
    path = MODULE / "LandmarkDetection.py"
    names = imported_names(path, file_scope(ast.parse(path.read_text(encoding="utf-8"))))
    roots = {name.partition(".")[0] for name in names} - {"__future__"}
    assert roots <= sys.stdlib_module_names | {"vtk", "slicer"}


def test_importing_the_library_loads_nothing_heavy():
    code = "import sys, LandmarkDetectionLib; print(*sorted({'torch', 'slicer', 'numpy', 'vtk'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=MODULE, capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == ""


# What is in the repository


def test_no_pickled_weights_and_nothing_huge():
    files = tracked_files()
    assert not [path.name for path in files if path.suffix in (".pt", ".pth", ".pkl", ".npz")]
    assert sum(path.stat().st_size for path in files) < 60e6


def test_python_files_stay_small():
    python = [path for path in tracked_files() if path.suffix == ".py"]
    assert python
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in python}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_text_files_end_their_lines_with_lf():
    text = {".py", ".md", ".txt", ".toml", ".json", ".ui", ".cff", ".s4ext", ".html", ".sh", ".csv"}
    assert [path.name for path in tracked_files() if path.suffix in text and b"\r\n" in path.read_bytes()] == []


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_dependency_is_under_the_gpl():
    """Choices that include the GPL are fine (Qt), and so is the LGPL; the GPL alone is not."""
    names = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
    offenders = []
    for name in names:
        try:
            info = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a pin for another system or Python version
        terms = [info.get("License-Expression") or "", (info.get("License") or "").partition("\n")[0]]
        terms += [line for line in info.get_all("Classifier") or [] if line.startswith("License")]
        words = " ".join(terms)
        if re.search(r"(?<!L)(?<!Lesser )\bA?GPL|GNU General Public|GNU Affero", words) and "LGPL" not in words:
            offenders.append(name)
    assert offenders == []
