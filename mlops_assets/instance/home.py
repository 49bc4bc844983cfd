"""The embedded Dagster instance: its folder and its `dagster.yaml`.

What belongs here: preparing DAGSTER_HOME for everything that runs jobs or shows them, with the limits that Dagster
keeps there. What does not: what runs in it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from filelock import FileLock

from mlops_assets.deployment import LAUNCH_POOL, Deployment
from mlops_assets.errors import StorageError

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
  pools:
    # A run waits in the queue until the pool of launches has room for it. With `op`, Dagster's default, it would start
    # and wait in a process of its own, and one that is killed would keep its place in the pool.
    granularity: run
run_launcher:
  # Dagster's default does not notice when a run and its code server die at the same time.
  module: mlops_assets.instance.run_launcher
  class: LocalRunLauncher
run_monitoring:
  enabled: true
  # A run whose process was killed keeps its place until this look.
  poll_interval_seconds: 45
retention:
  sensor:
    purge_after_days:
      # Each tick of a sensor is stored with its cursor, which lists all files in the landing folder.
      skipped: 1
"""
# The run launcher in a file that was written before its module was moved.
_FORMER_LAUNCHER: Final = re.compile(rb"^(\s*module:\s*)mlops_assets\.run_launcher(?=\s*(#.*)?$)", re.MULTILINE)


def prepare_for(deployment: Deployment) -> Path:
    """Create the DAGSTER_HOME of a deployment if it does not exist, and return it.

    With target `databricks` the pool of launches gets the limit that the profile sets.

    Raises:
        SettingsError: The Databricks profile can't be used.
        StorageError: The folder can't be written.
    """
    launches = deployment.profile().max_concurrent_launches if deployment.target == "databricks" else None
    return prepare_instance(deployment.dagster_home, launches=launches)


def prepare_instance(folder: Path, *, launches: int | None = None) -> Path:
    """Create DAGSTER_HOME, with its database, if it does not exist, and limit the pool of launches.

    Dagster creates its SQLite tables on first use, and two processes that do so at the same time leave a database that
    neither can open ("more than one head present"). Here one process creates them while the others wait.

    Args:
        folder: DAGSTER_HOME.
        launches: How many runs may launch steps on Databricks at once; None leaves the limit as it is.

    Raises:
        StorageError: The folder can't be written.
    """
    made = folder / ".made"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            _write_config(folder / "dagster.yaml")
            if launches is not None or not made.exists():
                from dagster import DagsterInstance  # noqa: PLC0415 - takes a second; not always needed

                with DagsterInstance.from_config(str(folder)) as instance:
                    made.touch()
                    if launches is not None:
                        instance.event_log_storage.set_concurrency_slots(LAUNCH_POOL, launches)
    except OSError as error:
        raise StorageError.not_writable(folder, error) from None
    return folder


def _write_config(config: Path) -> None:
    """Write `dagster.yaml` if there is none; in an existing one, only update a run launcher whose module was moved."""
    there = config.exists()
    text = _FORMER_LAUNCHER.sub(rb"\1mlops_assets.instance.run_launcher", config.read_bytes()) if there else None
    if there and text == config.read_bytes():
        return
    target = config.resolve()  # the user may have made it a symbolic link
    draft = target.with_suffix(".draft")
    draft.write_bytes(_DAGSTER_YAML.encode() if text is None else text)
    if there:
        shutil.copymode(target, draft)
    draft.replace(target)
