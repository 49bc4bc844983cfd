"""Checks of this machine: Java, Python, packages, the folder for the output of runs, settings.

What belongs here: checks that change nothing, except for a probe file that is removed again. What does not: the
workspace (`workspace`, `clusters`).
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from mlops_assets.databricks.libraries import cluster_requirements, installed_version
from mlops_assets.databricks.preflight import OLDEST_PYTHON, Finding
from mlops_assets.diagnostics.findings import PROBE, ok, wrong
from mlops_assets.errors import PlatformError, SettingsError
from mlops_assets.resources.java import require_java

_NEWEST_PYTHON: Final = (3, 13)


def check_machine(home: Path, java_home: str | None, *, launches: bool = False) -> Iterator[Finding]:
    """Check Java, Python, the installed packages and the folder for the output of runs.

    Args:
        home: Folder for the output of runs.
        java_home: JAVA_HOME of the process.
        launches: Whether steps are launched on Databricks, which needs more packages.
    """
    try:
        yield ok("java", f"Java {require_java(java_home)}")
    except SettingsError as error:
        yield wrong("java", str(error))
    here = sys.version_info[:2]
    text = f"Python {here[0]}.{here[1]}"
    supported = OLDEST_PYTHON <= here <= _NEWEST_PYTHON
    yield ok("python", text) if supported else wrong("python", f"{text} is not supported; use 3.11, 3.12 or 3.13")
    yield _installed(launches=launches)
    yield _home(home)


def _installed(*, launches: bool) -> Finding:
    try:
        wanted = cluster_requirements() if launches else _requirements()
    except (SettingsError, metadata.PackageNotFoundError) as error:
        return wrong("packages", str(error))
    misfits = [_misfit(name, requirement) for name, requirement in sorted(wanted.items())]
    problems = [misfit for misfit in misfits if misfit]
    if problems:
        return wrong("packages", f"{'; '.join(problems)}; install mlops_assets again (in a checkout: `make setup`)")
    return ok("packages", f"{len(wanted)} requirements are met, dagster {metadata.version('dagster')}")


def _requirements() -> dict[str, Requirement]:
    """Return the installed package's requirements on this machine, without its extras, by name."""
    requirements = map(Requirement, metadata.requires("mlops_assets") or [])
    return {
        needed.name: needed for needed in requirements if needed.marker is None or needed.marker.evaluate({"extra": ""})
    }


def _misfit(name: str, requirement: Requirement) -> str:
    installed = installed_version(name)
    if installed is None:
        return f"{name} is not installed"
    fits = requirement.specifier.contains(installed, prereleases=True)
    return "" if fits else f"{name} is {installed}, required {requirement.specifier}"


def _home(home: Path) -> Finding:
    probe = home / f".doctor-{uuid.uuid4().hex}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(PROBE)
        probe.unlink()
    except OSError as error:
        return wrong("home", f"{home} is not writable: {error.strerror}; set MLOPS_HOME to a writable folder")
    return ok("home", f"{home} is writable")


def check_settings(problem: PlatformError | None) -> Finding:
    """Return whether the settings and the profile could be read, and the error if not."""
    return ok("settings", "valid") if problem is None else wrong("settings", str(problem))
