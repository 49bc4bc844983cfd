"""Table locks, and the folders in which incoming rows are staged.

What belongs here: keeping two processes of one machine apart, and cleaning up after a killed one. What does not:
detecting two writers that no lock keeps apart (`commits`).
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
    """Hold a lock file; the lock is released when the process ends, however it ends.

    Args:
        path: The lock file; its folder is created.
        wait_seconds: How long to wait for another holder; `LOCK_TIMEOUT_SECONDS` when not given.
        where: What is locked, for errors.

    Raises:
        StorageError: The lock was not free in time, or its folder can't be written.
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
            transient=True,
        ) from None
    except OSError as error:
        raise StorageError.not_writable(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging_folder(shared: Path, *, locked: bool) -> Iterator[Path]:
    """Create an empty folder for the length of a block, and remove it afterwards.

    Args:
        shared: The folder in which all writers stage rows for one table.
        locked: Whether a lock keeps other writers out. If so, anything in the folder was left by a killed process and
            is removed. If not, each writer gets a subfolder of its own, named with the time, and abandoned ones are
            removed after a week.

    Raises:
        StorageError: The folder can't be written.
    """
    folder = shared if locked else shared / f"{time.time():.0f}-{uuid.uuid4().hex}"
    try:
        if locked:
            shutil.rmtree(shared, ignore_errors=True)
        else:
            _remove_abandoned(shared)
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError.not_writable(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(shared: Path) -> None:
    """Remove the staging folders whose owners can't be running any more.

    A folder's age is in its name: what a volume says of a folder's modification time is not reliable.
    """
    for folder in shared.iterdir() if shared.is_dir() else ():
        made = folder.name.partition("-")[0]
        if made.isdigit() and time.time() - int(made) > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
