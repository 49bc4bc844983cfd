"""`make demo TARGET=databricks-local`: the demo through step launchers, on a loopback workspace of its own.

What belongs here: the workspace around the demo, and the facts about a launch that only the workspace has. What does
not: the demo itself (`mlops_assets.cli.demo`), which is the same for every target.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mlops_assets.cli.demo import run_demo
from mlops_assets.cli.exit_codes import INTERRUPTED, REFUSED
from mlops_assets.cli.location import choose
from mlops_assets.cli.loopback_installation import FOLDER, installation
from mlops_assets.cli.run_job import print_line
from mlops_assets.data.sources.locations import has_wildcard, split_list
from mlops_assets.errors import PlatformError, StorageError
from mlops_assets.processes import keep_files_private
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.resources.java import require_java
from mlops_assets.settings import Settings
from mlops_assets.spec import source_kind

if TYPE_CHECKING:
    from databricks_loopback import Workspace

# Variables that would point the demo at another workspace.
_ELSEWHERE = ("DATABRICKS_", "MLOPS_DATABRICKS_", "MLOPS_TARGET", "MLOPS_TRACKING_URI")


class Launches:
    """Facts about the runs that were launched on a workspace.

    Args:
        workspace: The workspace.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._counted = 0

    def about(self, page: str) -> dict[str, Any]:
        """Return run and cluster; for a finished run also its result, its seconds and its number of API calls."""
        (run,) = (run for run in self._workspace.runs if page.endswith(f"/{run.id}"))
        facts: dict[str, Any] = {"run": run.id}
        if run.end is not None:
            calls, before = len(self._workspace.calls), self._counted
            self._counted = calls
            seconds = round((run.ended_at - run.started_at) / 1000, 1)
            facts |= {"result": run.end.result, "seconds": seconds, "api_calls": calls - before}
        cluster = run.tasks[0].cluster
        if cluster is not None:
            workers = cluster.spec["num_workers"]
            machines = f"{workers} workers" if workers else "single machine"
            facts["cluster"] = f"{cluster.id} ({cluster.spec['spark_version']}, {machines})"
        return facts


def demonstrate(settings: Settings, model: str | None, trials: int | None) -> int:
    """Start a workspace, run the demo on it, stop the workspace.

    Args:
        settings: The user's settings; only folder, source and contract are used.
        model: The model, as in `choose`.
        trials: Number of trials; None means the model's own default.

    Returns:
        The exit status of the demo.

    Raises:
        PlatformError: databricks-loopback is not installed, this machine can't isolate a cluster's processes, or
            another demo is running.
    """
    require_java(settings.java_home)
    jars = ensure_delta_jars(settings.home / "jars")
    java_home = Path(settings.java_home) if settings.java_home else None
    with folder_of_its_own(settings.home) as home:
        (home / "jars").symlink_to(settings.home / "jars")  # for `make ui` with this folder as MLOPS_HOME
        print_line("starting a loopback workspace and an MLflow server ...")
        with installation(home, delta_jars=jars, cores=max(2, os.cpu_count() or 2), java_home=java_home) as installed:
            print_line(f"workspace {installed.workspace.host}, MLflow {installed.mlflow}, profile {installed.profile}")
            source = upload(settings.source, installed.workspace)
            os.environ |= installed.variables | {"MLOPS_HOME": str(home), "MLOPS_SOURCE": source}
            about = Launches(installed.workspace).about
            there = Settings.from_environment()
            status = run_demo(there, choose(there, model), trials, about, ui=f"MLOPS_HOME={home} make ui")
            calls, runs = len(installed.workspace.calls), list(installed.workspace.runs)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # stopping takes a moment and must not be interrupted
            ended = "all finished" if not any(run.is_active for run in runs) else "active ones were cancelled"
        print_line(f"{len(runs)} runs, {ended}; {calls} API calls. Workspace and MLflow server were stopped.")
    return status


def upload(source: str, workspace: Workspace) -> str:
    """Return the source's location for a cluster: local files are copied into the volume, as on a real workspace."""
    if source_kind(source) != "files":
        return source
    locations = []
    for number, item in enumerate(split_list(source)):
        path = Path(item.removeprefix("file://")).expanduser()
        files = [Path(name) for name in sorted(glob(str(path)))] if has_wildcard(item) else [path]  # noqa: PTH207 - Path.glob takes no absolute pattern
        if "://" in str(path) or not all(file.exists() for file in files):
            locations.append(item)  # the cluster can read it, or reports why not
            continue
        inbox = f"{FOLDER}/inbox/{number}"
        target = workspace.storage.in_volumes(inbox)
        target.mkdir(parents=True)
        for file in files:
            if file.is_dir():
                shutil.copytree(file, target, dirs_exist_ok=True)
            else:
                shutil.copy(file, target)
        locations.append(inbox)
    return ",".join(locations)


@contextmanager
def folder_of_its_own(home: Path) -> Iterator[Path]:
    """Create the demo's folder in `home`, after removing the last demo's.

    Raises:
        StorageError: Another demo is using it.
    """
    folder = home / "databricks-local"
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / "databricks-local.lock", timeout=0):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            yield folder
    except Timeout as error:
        fix = "wait until it has finished, or set MLOPS_HOME to another folder"
        raise StorageError("another demo is running in this folder", where=str(folder), fix=fix) from error


def main() -> int:
    """Parse the command line and run."""
    keep_files_private()
    parser = argparse.ArgumentParser(prog="mlops_assets.cli.demo_databricks", description=__doc__)
    parser.add_argument("--model", help="the model, if there are several")
    parser.add_argument("--trials", type=int, help="number of trials")
    arguments = parser.parse_args()
    # Even if the shell ignores SIGINT or a supervisor sends SIGTERM, no process of a cluster may outlive the demo.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith(_ELSEWHERE)]:
        del os.environ[name]
    try:
        return demonstrate(Settings.from_environment(), arguments.model, arguments.trials)
    except KeyboardInterrupt:
        print_line("\nInterrupted; workspace and MLflow server were stopped.")
        return INTERRUPTED
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
