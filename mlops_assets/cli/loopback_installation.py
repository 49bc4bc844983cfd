"""A loopback workspace prepared the way a user prepares a real one, with a profile and an MLflow server.

What belongs here: everything `MLOPS_TARGET=databricks` needs. What does not: running anything on it, and the workspace
itself (the package databricks-loopback, which `make setup` installs).

MLflow runs as a separate server because the workspace does not emulate Databricks' tracking. Tables are stored by path
because the clusters share no metastore.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import yaml

from mlops_assets.databricks.profile import load_profile
from mlops_assets.errors import PlatformError, TrackingError

if TYPE_CHECKING:
    from databricks_loopback import Workspace

CATALOG, SCHEMA, VOLUME = "main", "mlops_assets_dev", "staging"
FOLDER = f"/Volumes/{CATALOG}/{SCHEMA}/{VOLUME}"
TABLES = "mlops_assets/tables"  # in DBFS: volumes can't hold tables
_START_SECONDS, _STOP_SECONDS = 120.0, 10.0
_HEAD = "# The shipped profile `dev` for a loopback workspace: tables by path, and an MLflow server.\n"


@dataclass(frozen=True)
class Installation:
    """A running workspace with what `MLOPS_TARGET=databricks` needs.

    Attributes:
        workspace: The workspace.
        mlflow: Address of the MLflow server.
        profile: File of the profile.
    """

    workspace: Workspace
    mlflow: str
    profile: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a process that launches steps: target, profile, token."""
        return {
            "MLOPS_TARGET": "databricks",
            "MLOPS_DATABRICKS_PROFILE": str(self.profile),
            "DATABRICKS_TOKEN": self.workspace.token,
        }


@contextmanager
def installation(
    folder: Path, *, delta_jars: Sequence[Path], cores: int = 2, java_home: Path | None = None
) -> Iterator[Installation]:
    """Run a prepared workspace for the length of a block.

    Args:
        folder: Empty folder for all files.
        delta_jars: Jars of Delta for the clusters.
        cores: Spark's local cores on a cluster, and so the number of trials that run at a time.
        java_home: JAVA_HOME of the clusters; the default belongs to the `java` on the PATH.

    Raises:
        PlatformError: databricks-loopback is not installed, this machine can't isolate a cluster's processes, or the
            MLflow server does not start.
    """
    with (
        _workspace(folder / "workspace", delta_jars=delta_jars, cores=cores, java_home=java_home) as workspace,
        _mlflow_server(folder / "mlflow") as mlflow,
    ):
        workspace.catalog.add_schema(f"{CATALOG}.{SCHEMA}")
        workspace.catalog.add_volume(f"{CATALOG}.{SCHEMA}.{VOLUME}")
        profile = load_profile(
            "dev",
            {
                "MLOPS_DATABRICKS_HOST": workspace.host,
                "MLOPS_DATABRICKS_CATALOG": CATALOG,
                "MLOPS_DATABRICKS_SCHEMA": SCHEMA,
                "MLOPS_DATABRICKS_TABLES": "path",
                "MLOPS_DATABRICKS_TABLE_ROOT": f"dbfs:/{TABLES}",
                "MLOPS_DATABRICKS_TRACKING_URI": mlflow,
                "MLOPS_DATABRICKS_REGISTRY_URI": mlflow,
                "MLOPS_DATABRICKS_CLUSTERS__TRIALS__TASK_CPUS": "1",  # all cores belong to this one machine
                "MLOPS_DATABRICKS_REAP_AFTER_MINUTES": "1",  # in case this process is killed
            },
        )
        file = folder / "profile.yaml"
        document = profile.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        file.write_text(_HEAD + yaml.safe_dump(document, sort_keys=False), "utf-8")
        yield Installation(workspace, mlflow, file)


@contextmanager
def _workspace(folder: Path, **options: Any) -> Iterator[Workspace]:
    try:
        from databricks_loopback import LoopbackError, Workspace
    except ModuleNotFoundError as error:
        fix = "run `make setup`, or install packages/databricks-loopback of the checkout into this environment"
        raise PlatformError("the package databricks-loopback is not installed", where=sys.prefix, fix=fix) from error
    try:
        with Workspace(folder, **options) as workspace:
            yield workspace
    except LoopbackError as error:
        raise PlatformError(error.what, where=error.where, fix=error.fix) from error


@contextmanager
def _mlflow_server(folder: Path) -> Iterator[str]:
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    # Without its runner of evaluation jobs, which is eight more processes and seconds of start-up.
    lean = ["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *lean,
                sys.executable,
                "-m",
                "mlops_assets.instance.guarded_mlflow",
                "server",
                *address,
                *store,
                *artifacts,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _await(server, f"http://127.0.0.1:{port}", Path(log.name))
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(server)


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=2).ok:
                return
        time.sleep(0.2)
    tail = log.read_text("utf-8", errors="replace")[-1_000:]
    raise TrackingError(f"the MLflow server did not start: {tail}", where=str(log), fix="read its log")


def _end(server: subprocess.Popen[bytes]) -> None:
    """Terminate the server and its workers, and kill them if they do not exit in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
