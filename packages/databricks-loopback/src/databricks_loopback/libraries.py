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

from databricks_loopback.storage import Storage


class LibraryError(Exception):
    """A library that can't be installed; its text becomes the run's message."""


def install(libraries: Iterable[Mapping[str, Any]], storage: Storage, target: Path) -> None:
    """Make a task's libraries importable.

    Args:
        libraries: `libraries` of the task.
        storage: Storage of wheels and requirements files.
        target: Folder on the task's `PYTHONPATH`; created even if it stays empty.

    Raises:
        LibraryError: One is not available.
    """
    target.mkdir(parents=True, exist_ok=True)
    for library in libraries:
        ((kind, value),) = library.items()
        if kind == "pypi":
            _require(value["package"])
        elif kind == "requirements":
            for line in _file(value, storage).read_text("utf-8").splitlines():
                text = line.split("#", 1)[0].strip()
                if text and not text.startswith("-"):
                    _require(text)
        elif kind == "whl":
            wheel = _file(value, storage)
            if not wheel.name.endswith("-none-any.whl"):
                raise _failure(value, "only pure wheels can be unpacked here")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
        else:
            raise _failure(str(value), f"the loopback workspace has no source for {kind} libraries")


def _require(text: str) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _failure(text, f"invalid requirement: {error}") from None
    if requirement.marker is not None and not requirement.marker.evaluate():
        return
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        raise _failure(text, f"No matching distribution found for {text}") from None
    if not requirement.specifier.contains(installed, prereleases=True):
        raise _failure(text, f"the loopback workspace has {requirement.name} {installed}")


def _file(uri: str, storage: Storage) -> Path:
    path = storage.locate(uri)
    if not path.is_file():
        raise _failure(uri, "file not found")
    return path


def _failure(library: str, why: str) -> LibraryError:
    return LibraryError(f"Library installation failed for library due to user error for {library}: {why}")
