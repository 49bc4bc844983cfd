"""A real server in processes of its own, started by the command line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from mlops_assets_tests.serving.registry import Registry

START_SECONDS = 120.0


@dataclass
class Running:
    """A server that is ready."""

    url: str
    process: subprocess.Popen[str]
    said: list[str]

    def children(self) -> list[int]:
        """Return the ids of its processes that python started, workers and carriers."""
        found = psutil.Process(self.process.pid).children()
        return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]

    def stop(self) -> int:
        """Let it end by itself."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill all of it at once, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(
    registry: Registry, *arguments: str, environ: Mapping[str, str] | None = None, disk: str = ""
) -> Iterator[Running]:
    """Serve a registry's model for the length of a block.

    Args:
        registry: The registry.
        arguments: Options of `mlops serve`.
        environ: Settings of the server.
        disk: Size of a disk of its own for the folder `serving`, as mount(8) takes it; empty for the machine's.
    """
    home = registry.settings.home
    given = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    variables = {
        **given, "MLOPS_HOME": str(home), "MLOPS_CONTRACT": registry.settings.contract,
        "MLOPS_SERVING_POLL_SECONDS": "0.2",
        **{f"MLOPS_SERVING_{name.upper()}": value for name, value in (environ or {}).items()},
    }  # fmt: skip
    log = (home / "server.log").open("a")
    process = subprocess.Popen(
        [*_on_disk(home / "serving", disk), sys.executable, "-m", "mlops_assets.cli.main", "serve", *arguments],
        stdout=subprocess.PIPE, stderr=log, text=True, env=variables, start_new_session=True, cwd=Path.home(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said: list[str] = []
        url = ""
        while not url and (line := process.stdout.readline()):
            said.append(line)
            if found := re.match(r"serving on (\S+)", line):
                url = found[1]
        assert url, (said, (home / "server.log").read_text())
        until = time.monotonic() + START_SECONDS
        while not is_ready(url):
            assert time.monotonic() < until, (home / "server.log").read_text()
            time.sleep(0.1)
        yield Running(url, process, said)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def _on_disk(folder: Path, size: str) -> list[str]:
    """Return what runs a command in a mount namespace in which a folder is a small disk; nothing without a size."""
    if not size:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(folder))} && exec "
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{mount} "$@"', "sh"]


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/health/ready", timeout=5).status_code == 200
    except requests.RequestException:
        return False
