"""Whether the versions on both sides of a launch are compatible, checked before the submit and again on the cluster.

What belongs here: versions, and what a difference between them breaks. What does not: installing (`libraries`),
checks of a workspace (`doctor`).

The comparison is made twice: before the submit, with the expected versions of the runtime and our libraries
(`runtime_versions`), so that nothing incompatible costs money; and as the first thing on the cluster, with the actual
ones (`local_versions` there). A cluster that differs then stops with one error instead of a traceback from `pickle`
(dagster-io/dagster#8576).
"""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final, Literal

from mlops_assets.databricks.libraries import (
    SAME_ON_BOTH_SIDES,
    cluster_pins,
    cluster_requirements,
    installed_version,
    runtime_version,
)
from mlops_assets.databricks.runtimes import RUNTIMES, Runtime
from mlops_assets.errors import SettingsError
from mlops_assets.foreign_text import printable

Level = Literal["ok", "warning", "error"]

OLDEST_PYTHON: Final = (3, 11)
# Their events, step references and search state may be unreadable to, or misread by, another version.
_ONE_VERSION = ("dagster-mlflow", "hyperopt")
# They produce the figures. Each release of pyarrow is a major one.
_FIGURES = SAME_ON_BOTH_SIDES | {"numpy", "pandas", "pyarrow"}
_OLDEST_SPARK = (4, 0)


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        level: `ok`, `warning` (works with a caveat) or `error` (does not work).
        subject: The thing that was checked, such as `python` or `staging`.
        text: The result and, unless it is ok, how to fix it.
    """

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:7} {printable(self.subject)}: {printable(self.text)}"


@dataclass(frozen=True)
class Versions:
    """The versions on one side; `dataclasses.asdict` and `Versions(**document)` convert it for the other.

    Attributes:
        python: Version of Python, at least major and minor.
        dagster: Version of Dagster, empty if it is not installed.
        pydantic: Version of pydantic, empty if it is not installed.
        spark: Version of Spark, empty if there is none.
        packages: Versions of the other packages that matter, by normalized name.
    """

    python: str
    dagster: str
    pydantic: str
    spark: str
    packages: Mapping[str, str] = field(default_factory=dict)


def local_versions(names: Iterable[str] | None = None, *, spark: str | None = None) -> Versions:
    """Return the versions in this process; called on the cluster too.

    Args:
        names: Packages to look at; defaults to the project's requirements. On a cluster, which has no metadata of the
            project, pass those of the launching side.
        spark: Version of the running Spark (`spark.version`); defaults to that of the installed pyspark.
    """
    packages = cluster_requirements() if names is None else names
    installed = {name: installed_version(name) for name in packages}
    return _versions(
        platform.python_version(),
        _pyspark() if spark is None else spark,
        {name: version for name, version in installed.items() if version is not None},
    )


def runtime_versions(runtime: Runtime, installed: Mapping[str, str] | None = None) -> Versions:
    """Return the versions on a new cluster once our libraries are installed.

    Args:
        runtime: Its runtime.
        installed: As in `cluster_pins`.
    """
    pins = cluster_pins(runtime, installed)
    kept = {name: version for name in cluster_requirements() if (version := runtime_version(runtime, name))}
    ours = {name: version for name, version in pins.items() if name in cluster_requirements()}
    return _versions(runtime.python, runtime.spark, kept | ours)


def compare(local: Versions, remote: Versions, *, only_data: bool = True) -> list[Finding]:
    """Return the differences that matter, none if the two sides are compatible.

    Args:
        local: The launching side, on whose versions the code was tested.
        remote: The cluster's.
        only_data: Whether only data is pickled. Functions pickled by value contain byte code, which another minor
            version of Python can't run.
    """
    return [
        *_python(local, remote, only_data=only_data),
        *_dagster(local, remote),
        *_pydantic(local, remote),
        *_spark(local, remote),
        *_packages(local, remote),
    ]


def require_compatible(
    local: Versions, remote: Versions, *, where: str = "cluster", only_data: bool = True
) -> list[Finding]:
    """Return the warnings of `compare`.

    Raises:
        SettingsError: There are errors; the text lists all of them.
    """
    findings = compare(local, remote, only_data=only_data)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise SettingsError(
            "; ".join(f"{error.subject}: {error.text}" for error in errors),
            where=where,
            fix=f"choose another `runtime` for the cluster ({', '.join(RUNTIMES)}), or install the versions of "
            "requirements.lock on both sides (`make setup` here; on an existing cluster remove other versions)",
        )
    return findings


def require_compatible_here(local: Mapping[str, Any]) -> list[Finding]:
    """Compare this process, a step on a cluster, with the launching side; see `require_compatible`.

    Args:
        local: The `Versions` of the launching side, as a document.

    Raises:
        SettingsError: There are errors; the text lists all of them.
    """
    # Databricks' own pyspark is not an installed distribution.
    spark = _pyspark() or str(importlib.import_module("pyspark").__version__)
    here = local_versions(["dagster", "pydantic", *local["packages"]], spark=spark)
    return require_compatible(Versions(**local), here)


def _python(local: Versions, remote: Versions, *, only_data: bool) -> list[Finding]:
    there, here = _line(remote.python), _line(local.python)
    if there < OLDEST_PYTHON:
        return [Finding("error", "python", f"{remote.python} on the cluster; the code needs 3.11 or newer")]
    if there == here:
        return []
    what = f"{remote.python} on the cluster, {local.python} here"
    if only_data:
        return [Finding("warning", "python", f"{what}; only data is pickled between them, which both can read")]
    return [Finding("error", "python", f"{what}; pickled functions do not cross minor versions")]


def _dagster(local: Versions, remote: Versions) -> list[Finding]:
    if not remote.dagster:
        return [Finding("error", "dagster", "not installed on the cluster")]
    if remote.dagster == local.dagster:
        return []
    text = (
        f"{remote.dagster} on the cluster, {local.dagster} here; steps and events can be read only by the same version"
    )
    return [Finding("error", "dagster", text)]


def _pydantic(local: Versions, remote: Versions) -> list[Finding]:
    if not remote.pydantic:
        return [Finding("error", "pydantic", "not installed on the cluster")]
    what = f"{remote.pydantic} on the cluster, {local.pydantic} here"
    if _line(remote.pydantic)[0] != _line(local.pydantic)[0]:
        return [Finding("error", "pydantic", f"{what}; the code is written for the latter")]
    return []


def _spark(local: Versions, remote: Versions) -> list[Finding]:
    if not remote.spark:
        return [Finding("error", "spark", "there is no Spark on the cluster")]
    there, here = _line(remote.spark), _line(local.spark)
    if there < _OLDEST_SPARK:
        return [Finding("error", "spark", f"{remote.spark} on the cluster; the code needs Spark 4")]
    if there != here:
        return [Finding("warning", "spark", f"{remote.spark} on the cluster; the tests ran on {local.spark}")]
    return []


def _packages(local: Versions, remote: Versions) -> list[Finding]:
    findings = []
    for name, here in sorted(local.packages.items()):
        there = remote.packages.get(name)
        if there is None:
            findings.append(Finding("error", name, "not installed on the cluster"))
        elif there == here:
            continue
        elif name in _ONE_VERSION or (name in _FIGURES - {"pyarrow"} and _line(there)[0] != _line(here)[0]):
            findings.append(Finding("error", name, f"{there} on the cluster, {here} here; they must be the same"))
        elif name in _FIGURES:
            findings.append(Finding("warning", name, f"{there} on the cluster, {here} here; figures may differ"))
    return findings


def _versions(python: str, spark: str, installed: Mapping[str, str]) -> Versions:
    named = {"dagster", "pydantic"}
    rest = {name: version for name, version in sorted(installed.items()) if name not in named}
    return Versions(python, installed.get("dagster", ""), installed.get("pydantic", ""), spark, rest)


def _pyspark() -> str:
    try:
        return metadata.version("pyspark")
    except metadata.PackageNotFoundError:
        return ""


def _line(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)(?:\.(\d+))?", version)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
