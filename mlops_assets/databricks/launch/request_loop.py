"""Runs the requests that one process on the cluster gets: the first one, and those that it waits for.

What belongs here: running a request, how long to wait for the next, and when to take it. What does not: what must work
before the code is unpacked, and checking files (`cluster_main`); writing the next request (`warm`).

A cluster takes minutes to start, so a process may stay for the next step of the same Dagster run. That step's request
is verified like the first. Where the first one's SHA-256 and key came as parameters of the task, those of the next come
in a ticket: a file beside the main script, in a folder that only the launching identity can write to. Tickets are
numbered and written once, so two launchers can't both get the cluster.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlops_assets.databricks.launch.cluster_main import ChangedFileError, verified
from mlops_assets.databricks.launch.reports import Channel, described, reporting

TAKEN = "taken"
_TICKET = re.compile(r"(?P<sha256>[0-9a-f]{64}) (?P<key>[0-9a-f]{64}) (?P<folder>/[^\n]+)\n")
_LOOK_S = 1.0
_GRACE_S = 10.0


class StepFailedError(Exception):
    """The step has failed and reported it; raised at the end so that the run fails too."""


class Ticket(NamedTuple):
    """What a launcher tells a waiting process.

    Attributes:
        sha256: Hash of the request, in hexadecimal.
        key: The launch's key, hexadecimal.
        folder: The launch's folder on the cluster, which holds the request.
    """

    sha256: str
    key: str
    folder: str

    def encode(self) -> bytes:
        """Return the content of its file."""
        return f"{self.sha256} {self.key} {self.folder}\n".encode()

    @classmethod
    def decode(cls, content: bytes) -> Ticket | None:
        """Return the ticket of a file, None if the file is incomplete."""
        match = _TICKET.fullmatch(content.decode("utf-8", "replace"))
        return None if match is None else cls(match["sha256"], match["key"], match["folder"])


def run_requests(
    folder: Path, request: Mapping[str, Any], key: str, set_up: Callable[[Channel], object], *, started: float
) -> None:
    """Run a request, and others as long as a launcher has more for this process.

    Args:
        folder: The folder of the first launch.
        request: Its verified request.
        key: Its key, hexadecimal, with which its reports are signed.
        set_up: Prepares this process before the first step runs.
        started: When this process started, on the clock of `time.monotonic`.

    Raises:
        ChangedFileError: A request is not what its launcher wrote.
        Exception: Whatever ended a step, so that the run fails.
    """
    code, tickets, number = request["code_sha256"], (request["reuse"] or {}).get("tickets"), 0
    while True:
        with reporting(folder, key, request, described) as channel:
            if number == 0:
                set_up(channel)
            # It imports Dagster, whose version was compared just now.
            step_on_cluster = importlib.import_module("mlops_assets.databricks.launch.step_on_cluster")
            succeeded = step_on_cluster.run_step(request["step"], channel.put)
            seconds = waiting_seconds(request["reuse"], time.monotonic() - started)
            channel.stays = succeeded and seconds > 0
        if not succeeded:
            raise StepFailedError(f"step {request['step_key']} failed; Dagster has its error")
        number += 1
        ticket = await_ticket(Path(f"{tickets}-{number}.txt"), seconds) if seconds > 0 else None
        if ticket is None:
            return
        folder, key = Path(ticket.folder), ticket.key
        request = json.loads(verified(folder / "request.json", ticket.sha256))
        if request["code_sha256"] != code:
            raise ChangedFileError(
                f"{folder} asks for other code than this process runs. Nothing of it was run. "
                "Fix: launch again; if it happens twice, set `reuse_minutes: 0` in the profile."
            )
        (folder / TAKEN).write_bytes(b"\n")


def waiting_seconds(reuse: Mapping[str, Any] | None, age_s: float) -> float:
    """Return how long a process waits for another request, 0 if it does not.

    The workspace ends the run at its time limit, whatever it does then. So that a later step has at least half of the
    limit, none is taken in the second half.

    Args:
        reuse: `reuse` of the request: `seconds` to wait and `limit_seconds` of the whole run; None to end.
        age_s: Seconds since the process started.
    """
    return 0.0 if reuse is None else max(0.0, min(reuse["seconds"], reuse["limit_seconds"] / 2 - age_s))


def await_ticket(path: Path, seconds: float) -> Ticket | None:
    """Return the ticket once it is there, None if it does not come in time.

    Nobody watches this process while it waits. Storage that hangs must not keep a cluster running, so a thread ends the
    process shortly after the time is up.
    """
    hard_end = threading.Timer(seconds + _GRACE_S, os._exit, (os.EX_TEMPFAIL,))
    hard_end.daemon = True
    hard_end.start()
    try:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(OSError):  # not there yet, or storage is unavailable
                if ticket := Ticket.decode(path.read_bytes()):
                    return ticket
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(_LOOK_S, left))
    finally:
        hard_end.cancel()
