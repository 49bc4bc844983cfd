"""The processes of an installation: a code server and a daemon, as `dagster dev` has them, and the runs they start.

What belongs here: starting processes, killing them by id, and finding the process of a run. What does not: when that
happens (`soaking`), what is in the tables (`state`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._api.list_repositories import sync_list_repositories_grpc
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from mlops_assets.instance.home import prepare_instance
from mlops_assets.instance.run_launcher import process_of
from mlops_assets.settings import Settings
from mlops_assets_tests.browser.dagster_dev import free_port, living
from mlops_assets_tests.processes.control import CHECKOUT, environment

LOCATION = "mlops_assets_tests.soak.location"
_SERVING_SECONDS = 180.0  # the machine may be busy with something else
_MONITOR_SECONDS = 5
_SENSOR_DAEMON = "SENSOR"


@dataclass
class Installation:
    """A home with a code server and a daemon; see `start`.

    Attributes:
        home: MLOPS_HOME.
        landing: The folder that is watched.
        variables: What its processes have in their environment besides MLOPS_HOME and MLOPS_SOURCE.
        location: Module of the code location.
        instance: Its Dagster instance.
        code_server: The code server, leader of the process group of its runs and their JVMs.
        port: Port of the code server.
        daemon: `dagster-daemon`.
    """

    home: Path
    landing: Path
    variables: Mapping[str, str]
    instance: dg.DagsterInstance
    port: int
    location: str = LOCATION
    code_server: subprocess.Popen[bytes] | None = None
    daemon: subprocess.Popen[bytes] | None = None
    _daemon_began: float = 0.0

    @classmethod
    def prepare(cls, home: Path, jars: Path, *, has_key: bool) -> Installation:
        """Make the folders; this starts nothing.

        Args:
            home: Empty folder for everything.
            jars: Folder with the Delta jars.
            has_key: Whether the contract names a key.
        """
        contract = home / "soak.yaml"
        document = yaml.safe_load((Path(__file__).parent / "contract.yaml").read_text("utf-8"))
        if not has_key:
            del document["key"]
        contract.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
        return cls.of(home, jars, LOCATION, {"MLOPS_CONTRACT": str(contract), "MLOPS_DATABASE": "soak"})

    @classmethod
    def of(cls, home: Path, jars: Path, location: str, variables: Mapping[str, str]) -> Installation:
        """Make the folders for a code location; this starts nothing.

        Args:
            home: Folder for everything.
            jars: Folder with the Delta jars.
            location: Its module.
            variables: More of its environment.
        """
        landing = home / "landing"
        landing.mkdir()
        (home / "jars").symlink_to(jars)
        settings = Settings(home=home)
        folder = prepare_instance(settings.dagster_home)
        _poll_often(folder / "dagster.yaml")
        workspace = home / "workspace.yaml"
        port = free_port()
        server = {"host": "127.0.0.1", "port": port, "location_name": "soak"}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), "utf-8")
        return cls(home, landing, variables, dg.DagsterInstance.from_config(str(folder)), port, location)

    @property
    def database(self) -> Path:
        """Folder of the tables."""
        return self.home / "lakehouse" / "soak"

    def start_code_server(self) -> None:
        """Start the code server and wait until it responds.

        Raises:
            RuntimeError: It ended, or did not respond in time.
        """
        arguments = ["dagster", "code-server", "start", "-m", self.location, "-h", "127.0.0.1", "-p", str(self.port)]
        self.code_server = self._start(arguments, "code-server")
        until = time.monotonic() + _SERVING_SECONDS
        client = DagsterGrpcClient(host="127.0.0.1", port=self.port)
        while self.code_server.poll() is None and time.monotonic() < until:
            with suppress(DagsterUserCodeUnreachableError):
                sync_list_repositories_grpc(client)  # an error in the code is raised
                return
            time.sleep(0.1)
        raise RuntimeError(f"the code server does not respond:\n{self.log_of('code-server')}")

    def start_daemon(self) -> None:
        """Start the daemon."""
        arguments = ["dagster._daemon", "run", "-w", str(self.home / "workspace.yaml")]
        self._daemon_began = time.time()
        self.daemon = self._start(arguments, "daemon")

    def daemon_works(self) -> bool:
        """Return whether the daemon has begun to evaluate sensors."""
        beat = self.instance.get_daemon_heartbeats().get(_SENSOR_DAEMON)
        return self.daemon is not None and beat is not None and beat.timestamp > self._daemon_began

    def kill_daemon(self) -> None:
        """Kill the daemon as the kernel does when memory runs out."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def kill_everything(self) -> None:
        """Kill all processes at once, like a power cut."""
        groups = [process for process in (self.daemon, self.code_server) if process is not None]
        for process in groups:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in groups:
            process.wait()
        self.daemon = self.code_server = None

    def kill_run(self, run: dg.DagsterRun) -> bool:
        """Kill the process of a run (its JVM notices by itself); return whether there was one to kill."""
        process = process_of(self.instance, run.run_id)
        if process is None or self.code_server is None:
            return False
        try:
            if os.getpgid(process) != self.code_server.pid:  # it was started by an earlier code server
                return False
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        """Return the runs, of these statuses if any are given, newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None))

    def close(self) -> None:
        """Kill everything and close the instance."""
        self.kill_everything()
        self.instance.dispose()

    def left(self) -> list[str]:
        """Return the command lines of processes that are still there."""
        return living(self.home)

    def log_of(self, name: str) -> str:
        """Return the end of what a process has written."""
        path = self.home / f"{name}.log"
        return path.read_text("utf-8", errors="replace")[-4_000:] if path.exists() else ""

    def _start(self, arguments: list[str], name: str) -> subprocess.Popen[bytes]:
        variables: dict[str, Any] = {
            "DAGSTER_HOME": str(self.home / "dagster"),
            "MLOPS_HOME": str(self.home),
            "MLOPS_SOURCE": str(self.landing),
            "MLOPS_SPARK_MASTER": "local[2]",
            "MLOPS_DRIVER_MEMORY": "1g",
            **self.variables,
        }
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=CHECKOUT,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _poll_often(config: Path) -> None:
    """Have Dagster look every few seconds for runs whose process is gone; by default it takes minutes."""
    document = yaml.safe_load(config.read_text("utf-8"))
    document["run_monitoring"] |= {"poll_interval_seconds": _MONITOR_SECONDS, "start_timeout_seconds": 60}
    config.write_text(yaml.safe_dump(document), "utf-8")
