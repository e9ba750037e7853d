"""Stand-in for `slicer.packaging`: says whether requirements are there; nothing is ever installed in tests."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement


def pip_check(requirements) -> bool:
    names = [requirements] if isinstance(requirements, str) else requirements
    for requirement in map(Requirement, names):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def pip_ensure(requirements, requester=None, skip_in_testing=True, **unused) -> None:
    if not pip_check(requirements):
        raise RuntimeError(f"{requirements} is missing and is not installed in tests.")
