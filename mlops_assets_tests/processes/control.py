"""The test's side of a process: start it, send it commands, wait with a limit, end it.

What belongs here: processes and homes. What does not: the contents of a home (`state`).
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_assets_tests.processes.points import Point, Then

CHECKOUT = Path(__file__).resolve().parents[2]
ASSETS = ("raw_transactions", "train_set", "validation_set", "test_set", "tuned_model", "registered_model")
SETS = ASSETS[1:4]
# Assets of one step; they are materialized together or not at all.
ALONGSIDE = {"raw_transactions": "quarantined_transactions"}
# An answer takes seconds; the limit allows for a busy machine.
ANSWER_SECONDS = 150.0
# The program `mlops`, as what follows `python -c`. A shell that starts pytest in the background has it ignore SIGINT,
# all its children inherit that, and nothing could be asked to stop; so it is started by a Python that listens again.
LISTENING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mlops_assets.cli.main import main; sys.exit(main(sys.argv[1:]))"
)

SPACE = {
    "max_depth": {"low": 2, "high": 3},
    "n_estimators": {"low": 5, "high": 12},
    "learning_rate": {"low": 0.1, "high": 0.5},
}
TUNING: dict[str, Any] = {
    "space": SPACE,
    "trials": 3,
    "parallelism": 1,
    "alerts_per_day": 20,
    "replicates": 50,
    "production_refit": False,
}
CONFIG: dict[str, Any] = {"tuned_model": {"config": TUNING}, "registered_model": {"config": {"min_lift": 2.0}}}


@dataclass(frozen=True)
class Answer:
    """The outcome of a command."""

    success: bool
    failures: dict[str, str]
    metadata: dict[str, dict[str, Any]]
    run_id: str


@dataclass
class Worker:
    """A running worker process."""

    process: subprocess.Popen[str]
    log: Path
    _lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def begin(
        self,
        home: Path,
        source: Path,
        *assets: str,
        stop_at: Point = Point.NOWHERE,
        then: Then = Then.WAIT,
        locks: Path | None = None,
        config: Mapping[str, Any] = CONFIG,
        contract: Path | None = None,
        replay: bool = False,
    ) -> None:
        """Send a command."""
        given = {name: wanted for name, wanted in config.items() if name in assets}
        if replay:
            given["raw_transactions"] = {"config": {"replay": True}}
        self._write(
            json.dumps(
                {
                    "home": str(home),
                    "source": str(source),
                    "assets": [*assets, *(ALONGSIDE[name] for name in assets if name in ALONGSIDE)],
                    "config": given,
                    "stop_at": stop_at,
                    "then": then,
                    "locks": str(locks) if locks else "",
                    "contract": str(contract) if contract else "creditcard",
                }
            )
        )

    def answer(self) -> Answer:
        """Wait for the end of the command."""
        return Answer(**self._receive())

    def run(self, home: Path, source: Path, *assets: str) -> Answer:
        """Send a command and wait for its end."""
        self.begin(home, source, *assets)
        return self.answer()

    def wait_at(self, point: Point) -> None:
        """Wait until the worker has reached the point."""
        assert self._receive() == {"reached": point}

    def go_on(self) -> None:
        """Let a worker that waits at a point continue."""
        self._write("go")

    def is_answering(self, seconds: float) -> bool:
        """Return whether an answer came within that time; the answer itself is dropped."""
        try:
            self._lines.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def wait_killed(self) -> None:
        """Wait until the process was killed."""
        assert self.process.wait(ANSWER_SECONDS) == -signal.SIGKILL, self._tail()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no answer in {ANSWER_SECONDS:.0f} s:\n{self._tail()}") from None
        assert line, f"the process has ended:\n{self._tail()}"
        message: dict[str, Any] = json.loads(line)
        return message

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


@contextmanager
def worker(log: Path) -> Iterator[Worker]:
    """Run a worker for the duration of a block."""
    command = [sys.executable, "-m", "mlops_assets_tests.processes.worker"]
    with started(command, log, pipe=subprocess.PIPE) as process:
        yield Worker(process, log)


@contextmanager
def started(
    command: list[str], log: Path, *, pipe: int | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a process in the checkout as leader of its own group; the whole group is killed afterwards.

    Args:
        command: Program and arguments.
        log: File for what it writes.
        pipe: Used for stdin and stdout; by default stdin is empty and stdout goes to the log.
        variables: Environment variables in addition to those of `environment`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment(**(variables or {})),
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdin is not None:  # which makes a worker end
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without the platform's variables, and with the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "DAGSTER_"))}
    return {**kept, **variables}


def processes_of(home: Path) -> list[str]:
    """Return the processes that name the home in their command line, above all its JVMs."""
    if Path("/proc/self/cmdline").is_file():
        running = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    else:
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)  # noqa: S607 - the system's own
        running = listed.stdout.splitlines()
    return [line for line in running if str(home) in line]


def _command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has ended in the meantime


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true value of a condition; AssertionError if none comes in time."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return value
