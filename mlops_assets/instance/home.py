"""The embedded Dagster instance: its folder and its `dagster.yaml`.

What belongs here: preparing DAGSTER_HOME for `make demo` and `make ui`, with the limits that Dagster keeps there. What
does not: what runs in it.
Run as `python -m mlops_assets.instance.home` it prints the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from filelock import FileLock

from mlops_assets.errors import PlatformError, StorageError
from mlops_assets.settings import LAUNCH_POOL, Settings

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
run_launcher:
  # Dagster's own does not notice when a run and its code server are gone in one blow.
  module: mlops_assets.instance.run_launcher
  class: LocalRunLauncher
run_monitoring:
  enabled: true
  # A run that was killed leaves its place in the pool of launches taken.
  free_slots_after_run_end_seconds: 120
retention:
  sensor:
    purge_after_days:
      # Each look of a sensor is kept with its cursor, which names all files that lie in the landing place.
      skipped: 1
"""


def prepare_instance(folder: Path, *, launches: int | None = None) -> Path:
    """Create DAGSTER_HOME, with its database, if it is not there, and limit the pool of launches.

    Dagster makes its SQLite tables when they are first used, and two processes that do so at the same time leave a
    database that none can open ("more than one head present"). Here one makes them and the others wait for it.

    Args:
        folder: DAGSTER_HOME.
        launches: How many steps may be on Databricks at once, in all runs together; None leaves the limit as it is.

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
            if launches is not None or not made.exists():
                from dagster import DagsterInstance  # noqa: PLC0415 - costs a second, which `make ui` need not pay

                with DagsterInstance.from_config(str(folder)) as instance:
                    made.touch()
                    if launches is not None:
                        instance.event_log_storage.set_concurrency_slots(LAUNCH_POOL, launches)
    except OSError as error:
        raise StorageError(
            f"folder can't be written: {error.strerror}", where=str(folder), fix="set MLOPS_HOME to a writable folder"
        ) from None
    return folder


def main() -> int:
    """Prepare the instance and print its folder."""
    try:
        settings = Settings.from_environment()
        launches = settings.profile().max_concurrent_launches if settings.target == "databricks" else None
        sys.stdout.write(f"{prepare_instance(settings.dagster_home, launches=launches)}\n")
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
