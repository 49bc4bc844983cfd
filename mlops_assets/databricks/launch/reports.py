"""What a process on the cluster reports while it works: numbered chunks of records, written until its launcher is gone.

What belongs here: the format of the chunks, which `watch` reads on the other side, writing them, and noticing that
nobody watches any more. What does not: what is reported (`request_loop`, `pipes_main`), and what must work before the
code is unpacked (`cluster_main`). Only the standard library is imported: versions are compared before anything else is.

The chunks `chunk-<n>` lie in the launch's folder. Files of a volume can't be appended to, so each is written once, and
its first line has the length of the rest, by which a reader recognizes an incomplete file, and its HMAC (RFC 2104): who
else can write to the folder must not be able to speak for the step. The key is the launch's own, and comes with the
task, never by the folder. The rest is JSON, never pickle.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

_MARK = "mlops-chunk-2"
_HEAD = re.compile(_MARK.encode() + rb" (?P<length>\d{1,15}) (?P<signature>[0-9a-f]{64})\n")
_LONGEST_HEAD = 100
_CHUNK_BYTES = 1024 * 1024
_PRINTED_PER_CHUNK = 256 * 1024
_FIRST_FLUSH_S = 0.5
_WRITE_ATTEMPTS = 5
_GRACE_S = 10.0


class ForgedChunkError(Exception):
    """A chunk that whoever has the launch's key did not write."""


class OrphanedError(Exception):
    """No launcher watches this run any more."""


def encode_chunk(number: int, records: list[dict[str, Any]], key: str) -> bytes:
    """Return the bytes of a chunk, signed with the launch's key."""
    payload = json.dumps(records).encode()
    return f"{_MARK} {len(payload)} {_signature(number, payload, key)}\n".encode() + payload


def decode_chunk(number: int, data: bytes, key: str) -> list[dict[str, Any]] | None:
    """Return the records of a chunk, or None if it is incomplete.

    Raises:
        ForgedChunkError: It is complete, and not what the step wrote as its chunk of this number.
    """
    head = _HEAD.match(data)
    if head is None and b"\n" not in data and len(data) < _LONGEST_HEAD:
        return None
    payload = b"" if head is None else data[head.end() :]
    if head is not None and len(payload) < int(head["length"]):
        return None
    signed = head is not None and hmac.compare_digest(head["signature"], _signature(number, payload, key).encode())
    if head is None or len(payload) > int(head["length"]) or not signed:
        raise ForgedChunkError(chunk_name(number))
    return list(json.loads(payload))


def _signature(number: int, payload: bytes, key: str) -> str:
    return hmac.digest(bytes.fromhex(key), b"%d\n%b" % (number, payload), "sha256").hex()


def chunk_name(number: int) -> str:
    """Return the file name of a chunk; the first is 1."""
    return f"chunk-{number:06d}"


class Channel:
    """Writes records to numbered chunks from a thread of its own, so that the step never waits for storage.

    Args:
        folder: The folder for the chunks.
        key: The launch's key, hexadecimal.
        longest_s: Longest time that a record waits; shortly after the start it is less.

    Attributes:
        stays: Whether this process waits for another request after its last record.
    """

    def __init__(self, folder: Path, key: str, longest_s: float) -> None:
        self._folder, self._key, self._longest_s = folder, key, longest_s
        self.stays = False
        self._records: list[dict[str, Any]] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._started, self._written, self._printed = time.monotonic(), 0, 0
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def put(self, kind: str, **fields: Any) -> None:
        """Report a record of a kind."""
        with self._lock:
            self._records.append({"kind": kind, **fields})

    def put_text(self, kind: str, text: str) -> None:
        """Report printed text; what does not fit into one chunk is only in the driver's log."""
        with self._lock:
            room = _PRINTED_PER_CHUNK - self._printed
            self._printed += len(text)
            kept = text[: max(room, 0)]
            if 0 < room < len(text):
                kept += "\n[... the rest of the output is in the driver's log]\n"
            last = self._records[-1] if self._records else {}
            if last.get("kind") == kind:
                last["text"] += kept
            elif kept:
                self._records.append({"kind": kind, "text": kept})

    def close(self) -> None:
        """Write the remaining records.

        Raises:
            OSError: It could not be written.
        """
        self._closing.set()
        self._thread.join()
        self._flush(_WRITE_ATTEMPTS)

    def _run(self) -> None:
        while not self._closing.wait(self._pause()):
            try:
                self._flush(1)
            except OSError as error:  # they are kept: storage may be back at the next flush
                print(f"reports can't be written: {error}", file=sys.__stderr__)

    def _pause(self) -> float:
        age = time.monotonic() - self._started
        return min(self._longest_s, max(_FIRST_FLUSH_S, age / 10))

    def _flush(self, attempts: int) -> None:
        with self._lock:
            records, self._records, self._printed = self._records, [], 0
        try:
            while records:
                batch, size = 0, 0
                while batch < len(records) and size < _CHUNK_BYTES:
                    size += len(json.dumps(records[batch]))
                    batch += 1
                self._write(encode_chunk(self._written + 1, records[:batch], self._key), attempts)
                self._written += 1
                records = records[batch:]
        finally:  # what could not be written goes back
            with self._lock:
                self._records = records + self._records

    def _write(self, data: bytes, attempts: int) -> None:
        path = self._folder / chunk_name(self._written + 1)
        for attempt in range(1, attempts):
            with suppress(OSError):
                path.write_bytes(data)
                return
            time.sleep(attempt)
        path.write_bytes(data)


class Tee:
    """A text stream that prints to another one and reports what it prints."""

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
    """Ends the task when its launcher is silent; a live one keeps changing the content of `heartbeat`.

    Only this machine's clock is used, so it does not matter if the two clocks differ.

    Args:
        heartbeat: The file.
        limit_s: How long its content may stay the same.
    """

    def __init__(self, heartbeat: Path, limit_s: float) -> None:
        self._heartbeat, self._limit_s = heartbeat, limit_s
        self._done, self.fired = threading.Event(), False
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """The task is over."""
        self._done.set()

    def _run(self) -> None:
        seen, since = b"", time.monotonic()
        while not self._done.wait(min(self._limit_s / 5, 10.0)):
            with suppress(OSError):  # not written yet, or storage is unavailable: the time limit covers both
                content = self._heartbeat.read_bytes()
                if content and content != seen:
                    seen, since = content, time.monotonic()
            if time.monotonic() - since > self._limit_s:
                self.fired = True
                print(f"no heartbeat from the launcher for {self._limit_s:g} s: ending", file=sys.__stderr__)
                # A signal to the main thread interrupts a system call that waits. Code that never returns to Python
                # does not notice it.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                if not self._done.wait(_GRACE_S):
                    os._exit(os.EX_TEMPFAIL)
                return


@contextmanager
def reporting(
    folder: Path, key: str, limits: Mapping[str, Any], describe: Callable[[BaseException], dict[str, Any]]
) -> Iterator[Channel]:
    """Report what is printed and the error that ends the block; end the block when the launcher is silent.

    Args:
        folder: The launch's own folder.
        key: The launch's key, hexadecimal.
        limits: `flush_seconds` and `orphan_seconds` of the launch.
        describe: Turns an error into the fields of a `failure` record.

    Raises:
        OrphanedError: The launcher is gone.
    """
    channel = Channel(folder, key, limits["flush_seconds"])
    watchdog = Watchdog(folder / "heartbeat", limits["orphan_seconds"])
    printed = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Tee(printed[0], channel, "stdout"), Tee(printed[1], channel, "stderr")
    try:
        yield channel
    except BaseException as error:
        failure = OrphanedError("the launcher is gone") if watchdog.fired else error
        channel.put("failure", **describe(failure))
        if failure is not error:
            raise failure from None
        raise
    finally:
        watchdog.stop()
        sys.stdout, sys.stderr = printed
        channel.put("end", stays=channel.stays)
        channel.close()


def described(error: BaseException) -> dict[str, Any]:
    """Return an error as the fields of a `failure` record."""
    # The platform's own errors are complete without a traceback.
    readable = any(kind.__name__ in ("PlatformError", "ChangedFileError") for kind in type(error).__mro__)
    lines = traceback.format_exception(error)
    return {"type": type(error).__name__, "text": str(error), "trace": "" if readable else "".join(lines)}
