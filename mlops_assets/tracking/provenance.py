"""Where a model comes from: code revision and package versions.

What belongs here: facts about the code that trains. What does not: facts about data (pinned table versions).
"""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from mlops_assets import __version__

_PACKAGES = (
    "dagster",
    "delta-spark",
    "hyperopt",
    "mlflow",
    "numpy",
    "pyspark",
    "xgboost-cpu",
)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a model."""
    return {
        "python": platform.python_version(),
        "mlops_assets": __version__,
        **{name: version(name) for name in _PACKAGES},
    }


def git_revision() -> str:
    """Return the checkout's commit, with `+changes` when the work tree differs; the version where there is no git."""
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
