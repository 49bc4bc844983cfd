"""Provenance of a model: its run, code revision and package versions, as tags.

What belongs here: facts about the code that trains, and the tags of every model's run. What does not: reading the
tags (`registry/pins`).
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
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

_PACKAGES = (
    "dagster",
    "delta-spark",
    "hyperopt",
    "mlflow",
    "numpy",
    "pyspark",
    "xgboost-cpu",
)


@dataclass(frozen=True)
class Origin:
    """The Dagster run that makes a model.

    Attributes:
        dagster_run: Its id.
        url: Its page in the Dagster UI.
    """

    dagster_run: str
    url: str

    def tags(self, database: str, raw_version: int) -> dict[str, str]:
        """Return the MLflow tags that name a model's Dagster run, data and code."""
        return {
            DATABASE_TAG: database,
            DAGSTER_RUN_TAG: self.dagster_run,
            RAW_VERSION_TAG: str(raw_version),
            GIT_REVISION_TAG: git_revision(),
            **{f"{PACKAGE_TAG_PREFIX}{name}": number for name, number in package_versions().items()},
        }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a model."""
    return {
        "python": platform.python_version(),
        "mlops_assets": __version__,
        **{name: version(name) for name in _PACKAGES},
    }


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
