"""`mlops ui` of its own: started as `make ui` starts it, stopped by its process id, with nothing left behind.

What belongs here: the server's life - folders, environment, start, readiness, stop, and what is still alive. What does
not: what is shown in it (`web_ui`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from mlops_assets_tests.processes.control import LISTENING

CHECKOUT = Path(__file__).resolve().parents[2]
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0


@dataclass
class DagsterDev:
    """A running `dagster dev` in a process group of its own, with MLflow's UI beside it.

    Attributes:
        home: Its MLOPS_HOME; every process it starts carries it in its environment.
        url: Where the UI is.
        mlflow: Where MLflow's UI is, if the store is embedded.
        process: The `dagster dev` process, leader of the group.
        log: What all of its processes print.
    """

    home: Path
    url: str
    mlflow: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, home: Path, jars: Path, *, source: str, variables: Mapping[str, str] | None = None) -> DagsterDev:
        """Start it and wait until it serves.

        Args:
            home: Folder for all that it writes; created if it is not there.
            jars: Folder with the Delta jars, so that they are not resolved anew, and the archive of classes.
            source: What MLOPS_SOURCE is set to.
            variables: More of its environment.

        Raises:
            RuntimeError: It ended, or did not serve in time; the text ends with its log.
        """
        home.mkdir(parents=True, exist_ok=True)
        (home / "jars").symlink_to(jars)
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("MLOPS_", "DAGSTER_"))}
        environment |= {"MLOPS_HOME": str(home), "MLOPS_SOURCE": source, "MLOPS_SPARK_MASTER": "local[2]"}
        mlflow = f"http://127.0.0.1:{free_port()}"
        environment |= {"MLOPS_MLFLOW_UI": mlflow, **(variables or {})}
        port = free_port()
        command = [sys.executable, "-c", LISTENING, "ui", "--port", str(port)]
        log = home / "dagster-dev.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = cls(home, f"http://127.0.0.1:{port}", mlflow, process, log)
        try:
            server._wait_until_it_serves()
        except BaseException:
            server.stop()
            raise
        return server

    def _wait_until_it_serves(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/server_info", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"dagster dev does not serve:\n{self.log.read_text('utf-8', errors='replace')[-4000:]}")

    def stop(self) -> bool:
        """Interrupt it as Ctrl-C does; what has not ended in time is killed, the whole group.

        Returns:
            Whether it ended by itself, and all that it had started with it.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
        by_itself = self.process.poll() is not None and self._ended(seconds=15)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_STOP_SECONDS)
        return by_itself

    def _ended(self, *, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        return not self.processes()

    def processes(self) -> list[str]:
        """Return the command lines of all living processes that were started from here, whatever their group."""
        return living(self.home)


def living(home: Path) -> list[str]:
    """Return the command lines of all living processes of a home.

    They are known by MLOPS_HOME in their environment, which /proc shows; without /proc (macOS) the list is empty.
    """
    mark = f"MLOPS_HOME={home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # Processes of others can't be read, and some end while this looks; a zombie has no environment.
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def left_behind(home: Path, within_seconds: float = 30.0) -> list[str]:
    """Return the command lines of a home's processes that don't end by themselves.

    A process that is being started when its parent is killed notices that only once it has begun.
    """
    until = time.monotonic() + within_seconds
    while (found := living(home)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
