"""The embedded Dagster instance: its folder and its `dagster.yaml`.

What belongs here: preparing DAGSTER_HOME for `make demo` and `make ui`. What does not: what runs in it.
Run as `python -m mlops_assets.instance` it prints the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from filelock import FileLock

from mlops_assets.errors import PlatformError, StorageError
from mlops_assets.settings import Settings

_DAGSTER_YAML = """\
# Written by mlops_assets when the file is missing; yours to edit.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    # Each run starts a Spark of its own.
    max_concurrent_runs: 2
"""


def prepare_instance(folder: Path) -> Path:
    """Create DAGSTER_HOME, with its database, if it is not there.

    Dagster makes its SQLite tables when they are first used, and two processes that do so at the same time leave a
    database that none can open ("more than one head present"). Here one makes them and the others wait for it.

    Raises:
        StorageError: The folder can't be written.
    """
    made = folder / ".made"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            config = folder / "dagster.yaml"
            if not config.exists():
                draft = config.with_suffix(".draft")
                draft.write_text(_DAGSTER_YAML, encoding="utf-8")
                draft.replace(config)
            if not made.exists():
                from dagster import DagsterInstance  # noqa: PLC0415 - costs a second, once in a folder's life

                with DagsterInstance.from_config(str(folder)):
                    made.touch()
    except OSError as error:
        raise StorageError(
            f"folder can't be written: {error.strerror}", where=str(folder), mend="set MLOPS_HOME to a writable folder"
        ) from None
    return folder


def main() -> int:
    """Prepare the instance and print its folder."""
    try:
        sys.stdout.write(f"{prepare_instance(Settings.from_environment().dagster_home)}\n")
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
