"""Provenance of a model: its run, code revision and package versions, as tags.

What belongs here: facts about the code that trains, and the tags of every model's run. What does not: reading the
tags (`registry/pins`).
"""

from __future__ import annotations

import getpass
import platform
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from mlops_assets import __version__
from mlops_assets.lineage import (
    DAGSTER_RUN_TAG,
    DATABASE_TAG,
    GIT_REVISION_TAG,
    PACKAGE_TAG_PREFIX,
    RAW_VERSION_TAG,
)

_PACKAGES = ("dagster", "hyperopt", "mlflow", "numpy", "pandas")
# A Databricks Runtime has the modules of Spark and Delta without a distribution that `importlib.metadata` could find,
# and an ML runtime has another distribution of XGBoost.
_MODULES = {"delta-spark": "delta", "pyspark": "pyspark", "xgboost-cpu": "xgboost"}


@dataclass(frozen=True)
class Origin:
    """The Dagster run that makes a model.

    Attributes:
        dagster_run: Its id.
        url: Its page in the Dagster UI.
        runtime: The Databricks Runtime that it runs on; empty anywhere else.
    """

    dagster_run: str
    url: str
    runtime: str = ""

    def tags(self, database: str, raw_version: int) -> dict[str, str]:
        """Return the MLflow tags that name a model's Dagster run, data and code."""
        return {
            DATABASE_TAG: database,
            DAGSTER_RUN_TAG: self.dagster_run,
            RAW_VERSION_TAG: str(raw_version),
            GIT_REVISION_TAG: git_revision(),
            **{f"{PACKAGE_TAG_PREFIX}{name}": number for name, number in package_versions(self.runtime).items()},
        }


def package_versions(runtime: str = "") -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a model.

    Args:
        runtime: The Databricks Runtime, named for a module of its own that has no version.
    """
    return {
        "python": platform.python_version(),
        "mlops_assets": __version__,
        **{name: version(name) for name in _PACKAGES},
        **{
            name: getattr(import_module(module), "__version__", f"runtime {runtime or 'unknown'}")
            for name, module in _MODULES.items()
        },
    }


def this_actor() -> str:
    """Return the user and machine of this process, as the operating system names them: nothing authenticates them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run a number without a name
        user = "unknown"
    return f"{user}@{platform.node()}"


def git_revision() -> str:
    """Return the commit, with `+changes` if the work tree is dirty, or the release if this is not a git checkout."""
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / ".git").exists():
        return f"release {__version__}"
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(folder, "status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return f"unknown (git can't be run), release {__version__}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git, from PATH
        capture_output=True,
        check=True,
        text=True,
        timeout=10,
    )
    return done.stdout.strip()
