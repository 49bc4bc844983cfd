"""Locks of tables, and the folders that rows on their way in are staged in.

What belongs here: what keeps two processes of one machine apart, and what a killed one leaves behind. What does not:
two writers that no lock keeps apart (`commits`).
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_assets.errors import StorageError

LOCK_TIMEOUT_SECONDS = 900.0
_ABANDONED_SECONDS = 7 * 86_400.0  # longer than a run may take


@contextmanager
def hold(path: Path, wait_seconds: float | None, *, where: str) -> Iterator[None]:
    """Hold a lock file, which goes with its process, however that ends.

    Args:
        path: The file; its folder is made.
        wait_seconds: How long to wait for another holder; `LOCK_TIMEOUT_SECONDS` when not given.
        where: What is locked, for errors.

    Raises:
        StorageError: The lock can't be had in time, or its folder can't be written.
    """
    from filelock import FileLock, Timeout

    patience = LOCK_TIMEOUT_SECONDS if wait_seconds is None else wait_seconds
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=patience)
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"another run has held the table for {patience:.0f} s",
            where=where,
            fix="wait for it or cancel it in the Dagster UI",
        ) from None
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def lend_folder(shared: Path, *, alone: bool) -> Iterator[Path]:
    """Lend an empty folder, and remove it afterwards.

    Args:
        shared: The folder of all that stage rows for one table.
        alone: Whether a lock keeps others out. If so, whatever lies there was left by a process that was killed, and is
            removed. If not, each has a folder of its own below, and one that is left behind is removed after a week.

    Raises:
        StorageError: The folder can't be written.
    """
    folder = shared if alone else shared / uuid.uuid4().hex
    try:
        if alone:
            shutil.rmtree(shared, ignore_errors=True)
        else:
            _remove_abandoned(shared)
        folder.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(shared: Path) -> None:
    """Remove the staging folders whose owners can't be running any more."""
    for folder in shared.iterdir() if shared.is_dir() else ():
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:  # its owner has just removed it
            continue
        if age > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"folder can't be written: {error.strerror}", where=str(folder), fix="set MLOPS_HOME to a writable folder"
    )
