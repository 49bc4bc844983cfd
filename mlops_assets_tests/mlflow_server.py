"""A real MLflow server on this machine, and a door before it that throttles, counts, or is shut.

What belongs here: starting, forwarding, stopping. What does not: judging what the platform makes of it.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from mlops_assets_tests.processes.control import ANSWER_SECONDS, eventually, started

API = "/api/2.0/mlflow"
_LEFT_OUT = ("connection", "keep-alive", "transfer-encoding", "host", "content-length")


@dataclass(frozen=True)
class Server:
    """An MLflow server on this machine."""

    uri: str
    store: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End it and its workers without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_server(folder: Path, artifacts: str = "") -> Iterator[Server]:
    """Start a server that keeps everything in a folder, for the length of a block.

    Args:
        folder: The folder.
        artifacts: Root of the artifacts, which clients then read and write themselves; by default they ask the server.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    store = f"sqlite:///{folder / 'server.db'}"
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    kept = ["--backend-store-uri", store]
    if artifacts:
        kept += ["--no-serve-artifacts", "--default-artifact-root", artifacts]
    else:
        kept += ["--artifacts-destination", str(folder / "artifacts")]
    # Without its runner of evaluation jobs, which is ten more processes and seconds of start-up.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", *address, *kept]
    with started(command, folder / "server.log", variables=variables) as process:
        server = Server(f"http://127.0.0.1:{port}", store, process)
        eventually(lambda: _answers(server), ANSWER_SECONDS, "the server answers")
        yield server


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, "the server has ended"
    try:
        return requests.get(f"{server.uri}/health", timeout=2).ok
    except requests.RequestException:
        return False


@dataclass
class Door:
    """Stands before a server and forwards requests, but a share of those to its API is answered 429.

    Attributes:
        uri: Its own address.
        share: How many of the API's requests are throttled, 0 to 1; drawn by a seeded generator.
        retry_after: Seconds in the Retry-After header; None sends none.
        forwarded: Number of forwarded requests to the API, by method and path.
        throttled: Number of throttled requests.
    """

    uri: str
    target: str
    share: float = 0.0
    retry_after: int | None = 1
    forwarded: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - a share, not a secret
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admits(self, name: str, path: str) -> bool:
        """Count a request and say whether it is let through."""
        if not path.startswith(API):
            return True
        with self._lock:
            if self._random.random() < self.share:
                self.throttled += 1
                return False
            self.forwarded[name] += 1
            return True


@contextmanager
def door_before(target: str) -> Iterator[Door]:
    """Open a door before a server for the length of a block; after the block its port is closed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as listening:
        listening.daemon_threads = True
        door = Door(f"http://127.0.0.1:{listening.server_address[1]}", target)
        vars(listening)["door"] = door
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            listening.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _serve(self) -> None:
        door: Door = vars(self.server)["door"]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if door.admits(f"{self.command} {path.removeprefix(API)}", path):
            self._answer(*_forwarded(door.target, self.command, self.path, body, dict(self.headers)))
        else:
            wait = {} if door.retry_after is None else {"Retry-After": str(door.retry_after)}
            self._answer(429, wait, b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}')

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _forwarded(
    target: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    kept = {name: value for name, value in headers.items() if name.lower() not in _LEFT_OUT}
    connection = http.client.HTTPConnection(target.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body, kept)
        answer = connection.getresponse()
        content = answer.read()
        found = {name: value for name, value in answer.getheaders() if name.lower() not in _LEFT_OUT}
        return answer.status, found, content
    finally:
        connection.close()
