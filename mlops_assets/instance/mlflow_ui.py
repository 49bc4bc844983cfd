"""MLflow's UI beside Dagster's, for an embedded store: where it is served, and that it ends with what it stands beside.

What belongs here: starting MLflow's server and stopping it. What does not: Dagster's own server (`web_server`), writing
to MLflow (`tracking`).

`web_server` becomes another program, which knows nothing of MLflow. So a keeper of its own watches that process: once
it is gone, however it ended, the keeper ends MLflow's server with all of its workers, which are in the keeper's process
group.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment

LOOPBACK: Final = "127.0.0.1"  # neither UI has a login
_GUARDED: Final = "mlops_assets.instance.guarded_mlflow"
_LOG: Final = "ui.log"
_SQLITE: Final = "sqlite:///"
_NICE: Final = 5  # Dagster's processes start at the same time, and are waited for
_LOOK_SECONDS, _START_SECONDS, _STOP_SECONDS = 0.5, 60.0, 10.0


def address_to_serve(deployment: Deployment) -> str | None:
    """Return where to serve MLflow's UI; None where nothing is to be served, because others do it or it can't be.

    An address that the settings name is used if its port is free; otherwise somebody serves it already. Without one the
    default is used, or a free port.
    """
    parts = urlsplit(deployment.mlflow_pages)
    if (
        deployment.target != "local"
        or deployment.mlflow_artifacts is None
        or parts.hostname not in (LOOPBACK, "localhost")
    ):
        return None
    if is_free(parts.port or 80):
        return f"http://{parts.hostname}:{parts.port or 80}"
    return None if deployment.mlflow_ui else f"http://{LOOPBACK}:{_free_port()}"


def start_beside(deployment: Deployment, address: str) -> None:
    """Start MLflow's server, which ends when this process does; its output goes to `ui.log` beside the store.

    Args:
        deployment: Where the store is.
        address: Where to serve, from `address_to_serve`.

    Raises:
        OSError: The folder of the store can't be written.
    """
    folder = deployment.home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    kept = [str(os.getpid()), address, deployment.mlflow_uri, str(deployment.mlflow_artifacts)]
    with (folder / _LOG).open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "mlops_assets.instance.mlflow_ui", *kept],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def keep(parent: int, address: str, store: str, artifacts: str) -> None:
    """Run MLflow's server until it ends or a process is gone.

    Args:
        parent: The process, whose child this one is.
        address: Where to serve.
        store: URI of MLflow's database.
        artifacts: Folder of the artifacts of new experiments.
    """
    parts = urlsplit(address)
    where = ["--host", parts.hostname or LOOPBACK, "--port", str(parts.port), "--workers", "1"]
    what = ["--backend-store-uri", store, "--no-serve-artifacts", "--default-artifact-root", artifacts]
    # `env`, because only the settings read this process's environment. Without the runner of evaluation jobs, which is
    # ten more processes.
    command = ["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", sys.executable, "-m", _GUARDED, "server"]
    os.nice(_NICE)
    with _creating(store):
        server = subprocess.Popen([*command, *where, *what])
        end = time.monotonic() + _START_SECONDS
        while _goes_on(server, parent) and time.monotonic() < end and not _answers(address):
            time.sleep(_LOOK_SECONDS)
    try:
        while _goes_on(server, parent):
            time.sleep(_LOOK_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is in the group as well
        os.killpg(os.getpgrp(), signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _goes_on(server: subprocess.Popen[bytes], parent: int) -> bool:
    return os.getppid() == parent and server.poll() is None


def _creating(store: str) -> FileLock | nullcontext[None]:
    """Let runs wait while the server creates a new SQLite store (`tracking/connection` holds the same lock)."""
    path = Path(store.removeprefix(_SQLITE))
    return FileLock(f"{path}.lock") if store.startswith(_SQLITE) and not path.exists() else nullcontext()


def _answers(address: str) -> bool:
    with suppress(OSError), urlopen(f"{address}/health", timeout=2):  # noqa: S310 - an http address on this machine
        return True
    return False


def is_free(port: int) -> bool:
    """Return whether a port of the loopback address is free."""
    with suppress(OSError), socket.create_server((LOOPBACK, port)):
        return True
    return False


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as found:
        port: int = found.getsockname()[1]
    return port


if __name__ == "__main__":
    keep(int(sys.argv[1]), *sys.argv[2:])
