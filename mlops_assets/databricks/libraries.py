"""The libraries of a cluster: the project's requirements with all that they need, pinned, minus what its runtime has.

What belongs here: which packages, in which versions, and the file that says so. What does not: what a runtime ships
(`runtimes`), sending the file (`launch.uploads`), installing.

The packages are the direct dependencies of this project and whatever these need; versions and hashes are those of
`requirements.lock`, with which the tests ran. Without a checkout they are the installed versions, and there are no
hashes. One file makes one installation: of separate `pypi` libraries each would be resolved on its own, in no
guaranteed order (databricks/terraform-provider-databricks#1585), and what they need would float.

A package of the runtime stays as it is if its version lies in every range that is asked of it, those of pyproject.toml
included, because these say what the code is written against. So numpy, pandas and pyarrow, against which the rest of an
image is built, are replaced only where they must be. scikit-learn and xgboost are always the locked ones: the same
search must give the same model and the same figures wherever it runs.

Never installed: pyspark and delta-spark, which are part of the runtime and no distributions there; what needs them as
one (dagster-pyspark, which the embedded session uses); and dagster-databricks, which is for the launching side.

xgboost is installed as `xgboost-cpu`, on ML runtimes too, unless theirs is the locked version: it is the same library
without CUDA, which saves a download of hundreds of MB at each start, and 3.0 and 3.1 write other models than 3.2.
Cluster libraries come before the runtime's own on `sys.path`, so ours is the one that is imported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlops_assets.databricks.runtimes import Runtime
from mlops_assets.errors import SettingsError

NEVER_INSTALLED: Final = frozenset({"pyspark", "delta-spark", "dagster-pyspark", "dagster-spark"})
SAME_ON_BOTH_SIDES: Final = frozenset({"scikit-learn", "xgboost-cpu"})
_PROJECT = "mlops_assets"
# Two distributions of one library: what we install, and what a runtime has.
_TWINS: Final[Mapping[str, str]] = {"xgboost-cpu": "xgboost"}
# A pin of a lock with the lines of its hashes.
_LOCKED = re.compile(r"^([A-Za-z0-9][^\s#]*==[^\\\n]+)((?:\\\n\s+--hash=\S+\s*?)*)$", re.MULTILINE)
_HASH = re.compile(r"--hash=\S+")


def cluster_pins(runtime: Runtime, installed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what is installed on a cluster, sorted: versions by normalized name.

    Args:
        runtime: The cluster's runtime.
        installed: Versions to pin, by normalized name; by default those of the lock, or of this environment.

    Raises:
        SettingsError: No version is known for a package.
    """
    pins = known_versions(runtime.python) if installed is None else installed
    pinned: set[str] = set()
    # What is installed asks more of the rest, so that another package of the runtime may have to be replaced.
    while more := _replaced(runtime, pins, pinned) - pinned:
        pinned |= more
    unknown = sorted(pinned - pins.keys())
    if unknown:
        raise SettingsError(
            f"{', '.join(unknown)}: neither in requirements.lock nor installed",
            where="cluster libraries",
            fix="install the project, or run `make setup`",
        )
    return {name: pins[name] for name in sorted(pinned)}


def requirements_file(runtime: Runtime, index: str | None = None) -> str:
    """Return a requirements file of `cluster_pins`, with the lock's hashes; without a checkout there are none.

    Args:
        runtime: The cluster's runtime.
        index: Address of the package index to install from; PyPI, or the workspace's default, when None.

    Raises:
        SettingsError: No version is known for a package.
    """
    pins, hashes = cluster_pins(runtime), _hashes(runtime.python)
    lines = [" \\\n    ".join([f"{name}=={version}", *hashes.get(name, [])]) for name, version in pins.items()]
    head = [f"# mlops_assets on Databricks Runtime {runtime.key}", *([] if index is None else [f"--index-url {index}"])]
    return "".join(f"{line}\n" for line in [*head, *lines])


def cluster_libraries(
    runtime: Runtime, installed: Mapping[str, str] | None = None, *, index: str | None = None
) -> list[dict[str, Any]]:
    """Return the direct dependencies among `cluster_pins` as `libraries` of a task, for staging in DBFS.

    The Jobs API takes requirements files from workspace files and volumes only ("Library", `requirements`), which old
    workspaces with DBFS may not have. What the dependencies need is then left to pip on the cluster.

    Args:
        runtime: The cluster's runtime.
        installed: As in `cluster_pins`.
        index: As in `requirements_file`.

    Raises:
        SettingsError: No version is known for a requirement.
    """
    direct = cluster_requirements()
    pins = cluster_pins(runtime, installed)
    where = {} if index is None else {"repo": index}
    return [{"pypi": {"package": f"{name}=={version}", **where}} for name, version in pins.items() if name in direct]


def runtime_version(runtime: Runtime, name: str) -> str | None:
    """Return a runtime's version of a package, None if it is not known to have one."""
    return runtime.packages.get(_TWINS.get(name, name))


def cluster_requirements() -> dict[str, Requirement]:
    """Return the package's requirements on a cluster, by normalized name, with their supported ranges.

    Raises:
        SettingsError: There is neither a checkout nor an installed distribution to read them from.
    """
    project = _checkout() / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
    else:
        lines = [str(requirement) for requirement in _requires(_PROJECT, {}, frozenset())]
    made = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}
    return {name: requirement for name, requirement in made.items() if name not in NEVER_INSTALLED}


def known_versions(python: str) -> dict[str, str]:
    """Return all versions that can be pinned: the lock's in a checkout, else those installed here.

    Args:
        python: Minor version of the cluster's Python, which a lock's markers may depend on.
    """
    lock = _checkout() / "requirements.lock"
    if lock.is_file():
        return read_lock(lock.read_text("utf-8"), python)
    return {canonicalize_name(found.name): found.version for found in metadata.distributions()}


def pinned_versions(python: str) -> dict[str, str]:
    """Return the version to pin of each direct requirement; see `known_versions`."""
    known = known_versions(python)
    return {name: known[name] for name in cluster_requirements() if name in known}


def read_lock(text: str, python: str) -> dict[str, str]:
    """Return all versions that a requirements file pins, by normalized name.

    Args:
        text: A requirements file with hashes, as `uv` writes it.
        python: Minor version of the Python that markers are evaluated for, on Linux.
    """
    return {name: version for name, version, _ in _locked(text, python)}


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


def _replaced(runtime: Runtime, pins: Mapping[str, str], pinned: Iterable[str]) -> set[str]:
    """Return the packages that must be installed, given those that are: asked for, and not in the runtime as asked."""
    asked: dict[str, list[Requirement]] = {}
    for name, requirement in cluster_requirements().items():
        asked.setdefault(name, []).append(requirement)
    for parent in pinned:
        extras = frozenset(extra for requirement in asked.get(parent, []) for extra in requirement.extras)
        for requirement in _requires(parent, _environment(runtime.python), extras):
            asked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    stays = {
        name: _stays(name, requirements, pins.get(name), runtime_version(runtime, name))
        for name, requirements in asked.items()
    }
    return {name for name, it_stays in stays.items() if not it_stays} - NEVER_INSTALLED


def _stays(name: str, asked: Iterable[Requirement], pin: str | None, shipped: str | None) -> bool:
    if shipped is None:
        return False
    if name in SAME_ON_BOTH_SIDES:
        return shipped == pin
    return all(requirement.specifier.contains(shipped, prereleases=True) for requirement in asked)


def _hashes(python: str) -> dict[str, list[str]]:
    lock = _checkout() / "requirements.lock"
    text = lock.read_text("utf-8") if lock.is_file() else ""
    return {name: hashes for name, _, hashes in _locked(text, python)}


def _locked(text: str, python: str) -> Iterable[tuple[str, str, list[str]]]:
    there = _environment(python)
    for line, hashes in _LOCKED.findall(text):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate(there):
            (pin,) = requirement.specifier
            yield canonicalize_name(requirement.name), pin.version, _HASH.findall(hashes)


def _environment(python: str) -> dict[str, str]:
    """Return the environment of a cluster for markers."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }


def _requires(distribution: str, there: Mapping[str, str], extras: frozenset[str]) -> list[Requirement]:
    """Return what an installed distribution requires.

    Args:
        distribution: Its name.
        there: The environment that markers are evaluated for, where it differs from this one.
        extras: Extras that are asked for.

    Raises:
        SettingsError: It is not installed.
    """
    try:
        made = [Requirement(line) for line in metadata.requires(distribution) or []]
    except metadata.PackageNotFoundError as error:
        raise SettingsError(
            f"{distribution} is not installed, so what it needs is not known",
            where="cluster libraries",
            fix="install the project (pip install 'mlops_assets[databricks]'), or run `make setup`",
        ) from error
    return [
        requirement
        for requirement in made
        if requirement.marker is None
        or any(requirement.marker.evaluate({**there, "extra": extra}) for extra in ("", *extras))
    ]


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]
