"""The libraries of a task: checked against what is installed, because nothing can be installed here.

What belongs here: what a cluster does with `libraries` before the task. What does not: the Python environment itself.

An installed package must satisfy each PyPI requirement and each line of a requirements file; a pure wheel is unpacked.
Anything else fails as on a cluster that can't reach the library's source.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from databricks_loopback.storage import Storage


class LibraryError(Exception):
    """A library that can't be installed; its text becomes the run's message."""


def install(libraries: Iterable[Mapping[str, Any]], storage: Storage, target: Path) -> set[str]:
    """Make a task's libraries importable, and return the normalized names of those from PyPI.

    Args:
        libraries: `libraries` of the task.
        storage: Storage of wheels and requirements files.
        target: Folder on the task's `PYTHONPATH`; created even if it stays empty.

    Raises:
        LibraryError: One is not available.
    """
    target.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    for library in libraries:
        ((kind, value),) = library.items()
        if kind == "pypi":
            names.add(_require(value["package"]))
        elif kind == "requirements":
            if not value.startswith(("/Volumes/", "/Workspace/")):
                raise _failure(value, "requirements files are taken from workspace files and volumes only")
            names |= _require_all(_file(value, storage).read_text("utf-8"), value)
        elif kind == "whl":
            wheel = _file(value, storage)
            if not wheel.name.endswith("-none-any.whl"):
                raise _failure(value, "only pure wheels can be unpacked here")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
        else:
            raise _failure(str(value), f"the loopback workspace has no source for {kind} libraries")
    return names


def require_lines(lines: Iterable[str], storage: Storage) -> set[str]:
    """Check the dependencies of a serverless environment, and return the normalized names of what they ask for.

    Args:
        lines: Lines of pip's requirements; `-r <file>` names a workspace file or one of a volume.
        storage: Storage of these files.

    Raises:
        LibraryError: One is not available.
    """
    names: set[str] = set()
    for line in lines:
        kind, _, value = line.strip().partition(" ")
        if kind == "-r":
            names |= _require_all(_file(value.strip(), storage).read_text("utf-8"), value)
        else:
            names.add(_require(line.strip()))
    return names


def _require_all(text: str, where: str) -> set[str]:
    lines = [line.split("#", 1)[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("-")]
    hashed = [line for line in wanted if "--hash=" in line]
    if hashed and len(hashed) < len(wanted):  # pip: "all requirements must have hashes" once one has
        raise _failure(where, "In --require-hashes mode, all requirements must have their versions pinned with ==")
    return {_require(line.partition(" --")[0].strip()) for line in wanted}


def _require(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _failure(text, f"invalid requirement: {error}") from None
    name = canonicalize_name(requirement.name)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return name
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        raise _failure(text, f"No matching distribution found for {text}") from None
    if not requirement.specifier.contains(installed, prereleases=True):
        raise _failure(text, f"the loopback workspace has {requirement.name} {installed}")
    return name


def _file(uri: str, storage: Storage) -> Path:
    path = storage.locate(uri)
    if not path.is_file():
        raise _failure(uri, "file not found")
    return path


def _failure(library: str, why: str) -> LibraryError:
    return LibraryError(f"Library installation failed for library due to user error for {library}: {why}")
