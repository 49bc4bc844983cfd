"""The project of a run's code location: what must be sent beside the platform's own package.

What belongs here: which package that is, and the file by which Dagster recognizes a project. What does not: packing
(`code`), uploading (`uploads`).

`dagster.load_from_defs_folder` looks for the project's file above its package, so the file travels as well.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.dagster_internals import ModuleCodePointer
from mlops_assets.databricks.launch.code import root_of

if TYPE_CHECKING:
    import dagster as dg

# File name, and where in it the description of a project for `dg` is.
_FILES: Final = {"dg.toml": ("project",), "pyproject.toml": ("tool", "dg", "project")}


@dataclass(frozen=True)
class Project:
    """What a code location needs on the cluster besides the packages that are always sent.

    Attributes:
        packages: Import names.
        files: Files beside the packages, by their name there.
    """

    packages: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


def module_of(run: dg.DagsterRun) -> tuple[str, str] | None:
    """Return module and name of the code location that started a run, None if it is not one that can be imported."""
    pointer = run.job_code_origin.repository_origin.code_pointer if run.job_code_origin is not None else None
    return (pointer.module, pointer.fn_name) if isinstance(pointer, ModuleCodePointer) else None


def project_of(run: dg.DagsterRun, packages: Sequence[str]) -> Project:
    """Return what the code location of a run needs.

    Args:
        run: The run.
        packages: Import names of the packages that are always sent.

    Raises:
        LaunchError: The code location is in no package: nothing of it can be sent.
    """
    found = module_of(run)
    if found is None or any(f"{found[0]}.".startswith(f"{package}.") for package in packages):
        return Project()
    package = found[0].partition(".")[0]
    root = root_of(package)
    for folder in (root, *root.parents):
        for name, keys in _FILES.items():
            if _describes_project(folder / name, keys):
                return Project((package,), {name: folder / name})
    return Project((package,))


def _describes_project(path: Path, keys: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    try:
        found: Any = tomllib.loads(path.read_text("utf-8"))
    except ValueError:  # Dagster itself can't have loaded the project from it
        return False
    for key in keys:
        found = found.get(key, {})
    return bool(found)
