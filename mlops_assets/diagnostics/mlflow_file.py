"""The database file of an embedded MLflow store: is it there, whole, and the one whose artifacts lie beside it?

What belongs here: looking at the file, read-only and without MLflow. What does not: connecting (`tracking/connection`),
which refuses to begin a new store beside artifacts of another one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from mlops_assets.databricks.preflight import Finding

SQLITE: Final = "sqlite:///"
_SUBJECT: Final = "MLflow store"
_FIX: Final = "restore the file from a backup; if the models in it may go, remove the file and the folder of artifacts"


def check_store(uri: str, artifacts: Path | None) -> list[Finding]:
    """Return the findings on the file of a store; none if nothing was ever written.

    Args:
        uri: `sqlite:///...`.
        artifacts: Folder of its artifacts, if they are in one.
    """
    path = Path(uri.removeprefix(SQLITE))
    if not is_there(uri):
        if artifacts is not None and _has_files(artifacts):
            text = f"{path} is gone, and artifacts of its runs are in {artifacts}. Fix: {_FIX}"
            return [Finding("error", _SUBJECT, text)]
        return []
    try:
        with closing(_open(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            known = {row[0] for row in database.execute("SELECT run_uuid FROM runs")}
    except sqlite3.Error as error:
        return [Finding("error", _SUBJECT, f"{path} can't be read ({error}). Fix: {_FIX}")]
    if verdict != "ok":
        return [Finding("error", _SUBJECT, f"{path} is damaged ({verdict.splitlines()[0]}). Fix: {_FIX}")]
    return [Finding("ok", _SUBJECT, f"{path} is whole, {len(known):,} runs")]


def is_there(uri: str) -> bool:
    """Return whether the file exists and is not empty."""
    path = Path(uri.removeprefix(SQLITE))
    return path.is_file() and path.stat().st_size > 0


def knows(uri: str, experiment: str) -> bool:
    """Return whether a readable store has an experiment of that name."""
    try:
        with closing(_open(Path(uri.removeprefix(SQLITE)))) as database:
            found = database.execute("SELECT 1 FROM experiments WHERE name = ?", (experiment,)).fetchone()
    except sqlite3.Error:
        return False
    return found is not None


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_file() for entry in folder.rglob("*"))
