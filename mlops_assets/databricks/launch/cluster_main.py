"""The script that runs on the cluster: checks the surroundings, runs the step, reports while it does.

What belongs here: everything that must work before the step's code can be imported, so the standard library and nothing
else at the top, and the form of the reports, which `watch` reads on the other side. What does not: the launching side.

It is uploaded as a file of its own and executed in `__main__` with the globals `spark`, `sc` and `dbutils`; it finds
`request.json` in the folder that is its only argument. What it reports goes into that folder as `chunk-<n>`: files of a
volume can't be appended to, so each is written once, and its first line tells the length and hash of the rest, so that
a reader knows whether it has seen all of it. Both directions are JSON in Dagster's own serialization, never pickle:
who can write to the staging folder must not be able to run code with it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

_MARK = "mlops-chunk-1"
_CHUNK_BYTES = 1024 * 1024
_PRINTED_PER_CHUNK = 256 * 1024
_FIRST_FLUSH_S = 0.5
_WRITE_ATTEMPTS = 5
_GRACE_S = 10.0
_ORPHANED = 75  # EX_TEMPFAIL


class StepFailedError(Exception):
    """The step has failed and said so: raised at the end, so that the run fails too."""


class OrphanedError(Exception):
    """Nobody watches this run any more."""


# --- the form of the reports ------------------------------------------------------------------------------------------


def encode_chunk(number: int, records: list[dict[str, Any]]) -> bytes:
    """Return the bytes of a chunk."""
    payload = json.dumps(records).encode()
    return f"{_MARK} {number} {len(payload)} {hashlib.sha256(payload).hexdigest()}\n".encode() + payload


def decode_chunk(number: int, data: bytes) -> list[dict[str, Any]] | None:
    """Return the records of a chunk, or None if it is not (yet) there as a whole."""
    head, newline, payload = data.partition(b"\n")
    expected = f"{_MARK} {number} {len(payload)} {hashlib.sha256(payload).hexdigest()}".encode()
    if not newline or head != expected:
        return None
    records: list[dict[str, Any]] = json.loads(payload)
    return records


def chunk_name(number: int) -> str:
    """Return the file name of a chunk; the first is 1."""
    return f"chunk-{number:06d}"


class Channel:
    """Writes records to numbered chunks from a thread of its own, so that the step never waits for storage.

    Args:
        folder: Where to.
        longest_s: Longest time that a record waits; a young channel writes more often.
    """

    def __init__(self, folder: Path, longest_s: float) -> None:
        self._folder, self._longest_s = folder, longest_s
        self._records: list[dict[str, Any]] = []
        self._lock, self._wake, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self._started, self._written, self._printed = time.monotonic(), 0, 0
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def put(self, kind: str, **fields: Any) -> None:
        """Report something."""
        with self._lock:
            self._records.append({"kind": kind, **fields})
        self._wake.set()

    def put_text(self, kind: str, text: str) -> None:
        """Report printed text; what is too much for one chunk is left to the driver's log."""
        with self._lock:
            room = _PRINTED_PER_CHUNK - self._printed
            self._printed += len(text)
            kept = text[: max(room, 0)]
            if 0 < room < len(text):
                kept += "\n[... more was printed than is sent along; the rest is in the driver's log]\n"
            last = self._records[-1] if self._records else {}
            if last.get("kind") == kind:
                last["text"] += kept
            elif kept:
                self._records.append({"kind": kind, "text": kept})
        self._wake.set()

    def close(self) -> None:
        """Write what is left.

        Raises:
            OSError: It could not be written.
        """
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._flush(_WRITE_ATTEMPTS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            age = time.monotonic() - self._started
            self._closing.wait(min(self._longest_s, max(_FIRST_FLUSH_S, age / 10)))
            if not self._closing.is_set():
                self._wake.clear()
                try:
                    self._flush(1)
                except OSError as error:  # storage may be back for the next one, which has these records too
                    print(f"reports can't be written: {error}", file=sys.__stderr__)

    def _flush(self, attempts: int) -> None:
        with self._lock:
            records, self._records, self._printed = self._records, [], 0
        while records:
            batch, size = 0, 0
            while batch < len(records) and (batch == 0 or size < _CHUNK_BYTES):
                size += len(json.dumps(records[batch]))
                batch += 1
            try:
                self._write(encode_chunk(self._written + 1, records[:batch]), attempts)
            except OSError:
                with self._lock:
                    self._records = records + self._records
                raise
            self._written += 1
            records = records[batch:]

    def _write(self, data: bytes, attempts: int) -> None:
        path = self._folder / chunk_name(self._written + 1)
        for attempt in range(1, attempts + 1):
            try:
                path.write_bytes(data)
            except OSError:
                if attempt == attempts:
                    raise
                time.sleep(attempt)
            else:
                return


class Tee:
    """A text stream that prints as before and reports what it printed."""

    def __init__(self, stream: TextIO, channel: Channel, kind: str) -> None:
        self._stream, self._channel, self._kind = stream, channel, kind

    def write(self, text: str) -> int:
        """Print and report."""
        self._channel.put_text(self._kind, text)
        return self._stream.write(text)

    def writelines(self, lines: list[str]) -> None:
        """Print and report each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Watchdog:
    """Ends the task when its launcher gives no sign of life: the content of `heartbeat` changes as long as it does.

    Only this machine's clock is used, so a difference between the clocks plays no part.

    Args:
        heartbeat: The file.
        limit_s: How long it may stay the same.
    """

    def __init__(self, heartbeat: Path, limit_s: float) -> None:
        self._heartbeat, self._limit_s = heartbeat, limit_s
        self._done = threading.Event()
        self.barked = False
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """The task is over."""
        self._done.set()

    def _run(self) -> None:
        seen, since = b"", time.monotonic()
        while not self._done.wait(min(self._limit_s / 5, 10.0)):
            try:
                content = self._heartbeat.read_bytes()
            except OSError:
                content = b""  # it is written some time after the start, or storage is away: both end by the clock
            if content and content != seen:
                seen, since = content, time.monotonic()
            if time.monotonic() - since > self._limit_s:
                self.barked = True
                print(f"no sign of life of the launcher for {self._limit_s:g} s: ending", file=sys.__stderr__)
                # A signal, and to the main thread: what waits in a system call wakes up. Code that never comes back
                # to Python does not see it.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                if not self._done.wait(_GRACE_S):
                    os._exit(_ORPHANED)
                return


# --- the order of events ----------------------------------------------------------------------------------------------


def main(folder: Path, surroundings: Mapping[str, Any]) -> None:
    """Run the step that `folder/request.json` describes.

    Args:
        folder: The launch's own folder.
        surroundings: The globals of the task: `dbutils` and `sc` are used.

    Raises:
        Exception: Whatever ended the step, so that the run fails.
    """
    request: dict[str, Any] = json.loads((folder / "request.json").read_bytes())
    channel = Channel(folder, request["flush_seconds"])
    watchdog = Watchdog(folder / "heartbeat", request["orphan_seconds"])
    printed = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Tee(printed[0], channel, "stdout"), Tee(printed[1], channel, "stderr")
    failure: BaseException | None = None
    try:
        with tempfile.TemporaryDirectory() as code:
            with zipfile.ZipFile(request["code"]) as archive:
                archive.extractall(code)
            # Not the first entry: Dagster takes that one for the script's folder and imports without it.
            sys.path.insert(1, code)
            check_versions(request["versions"], channel.put)
            set_environment(request, surroundings)
            if request["python_on_workers"]:
                # The driver's sys.path is not theirs: functions that Spark runs there import the package too.
                surroundings["sc"].addPyFile(request["code"])
            ended_well = _run_step(request["step"], channel.put)
        if not ended_well:
            failure = StepFailedError(f"step {request['step_key']} failed; Dagster has its error")
    except BaseException as error:  # noqa: BLE001 - it is reported, and raised at the end
        failure = OrphanedError("the launcher is gone") if watchdog.barked else error
        channel.put("failure", **described(error))
    finally:
        watchdog.stop()
        sys.stdout, sys.stderr = printed
        channel.put("end")
        channel.close()
    if failure is not None:
        raise failure


def check_versions(versions: dict[str, Any], report: Callable[..., None]) -> None:
    """Compare this machine with the launching side, before anything of Dagster is imported."""
    if not versions:
        return
    preflight = importlib.import_module("mlops_assets.databricks.preflight")
    here = preflight.local_versions(["dagster", "pydantic", *versions["packages"]], spark=_spark_version())
    for finding in preflight.require_compatible(preflight.Versions(**versions), here):
        report("warning", text=f"{finding.subject}: {finding.text}")


def _spark_version() -> str:
    """Return Spark's version without starting it; Databricks' own pyspark is no installed distribution."""
    from importlib import metadata

    try:
        return metadata.version("pyspark")
    except metadata.PackageNotFoundError:
        return str(importlib.import_module("pyspark").__version__)


def set_environment(request: dict[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Set what an existing cluster can't be given when it starts; a new one has it from its `spark_env_vars`."""
    os.environ.update(request["env"])
    for name, reference in request["secrets"].items():
        scope, _, key = reference.partition("/")
        os.environ[name] = surroundings["dbutils"].secrets.get(scope=scope, key=key)


def _run_step(step: dict[str, str], report: Callable[..., None]) -> bool:
    """Run the step and report its events; whether it succeeded."""
    import dagster as dg

    fields: dict[str, Any] = {name: dg.deserialize_value(text) for name, text in step.items()}
    reference = dg.StepRunRef(**fields)
    instance = dg.external_instance_from_step_run_ref(
        reference, event_listener_fn=lambda entry: report("event", entry=dg.serialize_value(entry))
    )
    with instance:
        events = list(dg.run_step_from_ref(reference, instance))
    return not any(event.is_step_failure or event.is_step_up_for_retry for event in events)


def described(error: BaseException) -> dict[str, Any]:
    """Return an error as the fields of a `failure` record."""
    # A user of the platform is meant to read its own errors without a traceback.
    readable = any(kind.__name__ == "PlatformError" for kind in type(error).__mro__)
    lines = traceback.format_exception(error)
    return {"type": type(error).__name__, "text": str(error), "trace": "" if readable else "".join(lines)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), globals())
