"""The libraries of a cluster: the project's requirements, pinned, minus what its runtime already has.

What belongs here: which packages, in which versions. What does not: what a runtime ships (`runtimes`), installing.

The packages are the direct dependencies of this project, plus dagster-databricks, whose classes the launched step
imports, plus databricks-sdk, because newer runtimes ship a version that dagster-databricks rejects; pip resolves the
rest. Versions are those of `requirements.lock`, with which the tests ran; without a checkout, the installed ones.

The runtime's version is accepted when it lies in the range of pyproject.toml, because that is what the code is written
against. Some packages must have the same version on both sides:

- pydantic: its objects are pickled between the two;
- numpy, pandas, pyarrow, scikit-learn, xgboost: the same search must give the same model and the same figures wherever
  it runs, and these packages produce the figures. They are also compiled against each other; nobody tested a mix of
  the runtime's versions and ours.

pyspark and delta-spark are never installed: the runtime's are part of its Spark. (dagster-pyspark names pyspark among
its dependencies; the installer of cluster libraries leaves that one out, lance-format/lance#730.)

xgboost is installed as `xgboost-cpu`, on ML runtimes too, unless theirs is the locked version: it is the same library
without CUDA, which saves a download of hundreds of MB at each start, and 3.0 and 3.1 write other models than 3.2.
Cluster libraries come before the runtime's own on `sys.path`, so ours is the one that is imported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlops_assets.databricks.runtimes import Runtime
from mlops_assets.errors import SettingsError

NEVER_INSTALLED: Final = frozenset({"pyspark", "delta-spark"})
SAME_ON_BOTH_SIDES: Final = frozenset({"pydantic", "numpy", "pandas", "pyarrow", "scikit-learn", "xgboost-cpu"})
_PROJECT = "mlops_assets"
_LAUNCHER = "dagster-databricks"
_SDK = "databricks-sdk"
# Two distributions of one library: what we install, and what a runtime has.
_TWINS: Final[Mapping[str, str]] = {"xgboost-cpu": "xgboost"}
_LOCKED = re.compile(r"^[A-Za-z0-9][^\s#]*==[^\\\n]+", re.MULTILINE)


def cluster_libraries(runtime: Runtime, installed: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the `libraries` of a task in the form of the Jobs API, sorted by name.

    Args:
        runtime: The cluster's runtime.
        installed: Versions to pin, by normalized name; by default those of the lock, or of this environment.

    Raises:
        SettingsError: No version is known for a requirement.
    """
    pins = pinned_versions(runtime.python) if installed is None else installed
    libraries = []
    for name, requirement in sorted(cluster_requirements().items()):
        if name not in pins:
            raise SettingsError(
                f"{name} is neither in requirements.lock nor installed",
                where="cluster libraries",
                fix="install the project with its `databricks` extra, or run `make setup`",
            )
        if not _is_satisfied(name, requirement, pins[name], runtime_version(runtime, name)):
            libraries.append({"pypi": {"package": f"{name}=={pins[name]}"}})
    return libraries


def runtime_version(runtime: Runtime, name: str) -> str | None:
    """Return a runtime's version of one of our requirements, None if it is not known to have one."""
    return runtime.packages.get(_TWINS.get(name, name))


def cluster_requirements() -> dict[str, Requirement]:
    """Return the package's requirements on a cluster, by normalized name, with their supported ranges.

    Raises:
        SettingsError: There is neither a checkout nor an installed distribution to read them from.
    """
    project = _checkout() / "pyproject.toml"
    if project.is_file():
        document = tomllib.loads(project.read_text("utf-8"))["project"]
        lines = [*document["dependencies"], *document["optional-dependencies"]["databricks"]]
    else:
        lines = _requires(_PROJECT, extra="databricks")
    lines += [line for line in _requires(_LAUNCHER) if canonicalize_name(Requirement(line).name) == _SDK]
    made = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}
    return {name: requirement for name, requirement in made.items() if name not in NEVER_INSTALLED}


def pinned_versions(python: str) -> dict[str, str]:
    """Return the version to pin of each requirement: the lock's in a checkout, else the installed one.

    Args:
        python: Minor version of the cluster's Python, which a lock's markers may depend on.
    """
    lock = _checkout() / "requirements.lock"
    if lock.is_file():
        locked = read_lock(lock.read_text("utf-8"), python)
        return {name: locked[name] for name in cluster_requirements() if name in locked}
    return {name: version for name in cluster_requirements() if (version := installed_version(name)) is not None}


def read_lock(text: str, python: str) -> dict[str, str]:
    """Return all versions that a requirements file pins, by normalized name.

    Args:
        text: A requirements file with hashes, as `uv` writes it.
        python: Minor version of the Python that markers are evaluated for, on Linux.
    """
    there = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    pins: dict[str, str] = {}
    for line in _LOCKED.findall(text):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate(there):
            (pin,) = requirement.specifier
            pins[canonicalize_name(requirement.name)] = pin.version
    return pins


def installed_version(name: str) -> str | None:
    """Return the version of a package in this environment, or None.

    For xgboost, the version of either distribution.
    """
    for candidate in (name, _TWINS.get(name, name)):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def _is_satisfied(name: str, requirement: Requirement, pin: str, shipped: str | None) -> bool:
    if shipped is None:
        return False
    return shipped == pin if name in SAME_ON_BOTH_SIDES else requirement.specifier.contains(shipped)


def _requires(distribution: str, *, extra: str = "") -> list[str]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise SettingsError(
            f"{distribution} is not installed",
            where="cluster libraries",
            fix="install the project with its `databricks` extra: pip install 'mlops_assets[databricks]'",
        ) from error
    made = [Requirement(line) for line in lines]
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in made
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    ]


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]
