"""The carrier: a process that takes what workers have written to the sink, in order, and never loses its place.

What belongs here: following the segments of all workers, also of those that are gone; retrying; the place up to which a
sink has everything. What does not: segments (`segments`), sinks (`sinks`).

It is a process of its own: a sink that is slow or dead costs a request nothing, and what a killed worker left is sent
as well. A batch whose delivery is not known is sent again, so a sink may see a row twice, with the same ids.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mlops_assets.serving.log.segments import WRITER_PREFIX, Position, SegmentReader, is_alive
from mlops_assets.serving.log.sinks import Sink, SinkError, open_sink

BATCH: Final = 1_000
STATE: Final = "carrier.json"
_PLACE: Final = "sent.json"
_LOCK: Final = "carrier.lock"
_FIRST_WAIT, _LONGEST_WAIT, _LOOK_SECONDS = 0.2, 10.0, 0.5

log = logging.getLogger(__name__)


@dataclass
class CarrierState:
    """What the carrier has done since it started; metrics read it.

    Attributes:
        sent: Rows that the sink has confirmed.
        failures: Batches that the sink did not take at a try.
        damaged: Bytes of segments that could not be read.
        at: When this was written, seconds since 1970.
    """

    sent: int = 0
    failures: int = 0
    damaged: int = 0
    at: float = field(default_factory=time.time)


class Carrier:
    """Carries segments to a sink.

    Args:
        root: Folder of the log.
        sink: Where the rows go.
    """

    def __init__(self, root: Path, sink: Sink) -> None:
        self._root, self._sink = root, sink
        self._readers: dict[Path, SegmentReader] = {}
        self._wait = _FIRST_WAIT
        self.state = CarrierState()

    def step(self) -> int:
        """Send one batch of each writer; return the rows of the largest.

        Raises:
            SinkError: The sink did not take a batch; the place in the log is unchanged.
        """
        largest = 0
        for folder in sorted(path for path in self._root.glob(f"{WRITER_PREFIX}*") if path.is_dir()):
            if folder not in self._readers:
                there = self._sink.place(folder.name)
                place = _place(folder) if there is None else max(_place(folder), Position.from_number(there))
                self._readers[folder] = SegmentReader(folder, place)
            reader = self._readers[folder]
            gone = not is_alive(folder)
            damaged = reader.damaged
            rows, position = reader.read(BATCH)
            self.state.damaged += reader.damaged - damaged
            if rows:
                self._sink.write(rows, folder.name, position.number)
                self.state.sent += len(rows)
                largest = max(largest, len(rows))
            if position != reader.position:
                _keep(folder / _PLACE, {"segment": position.segment, "offset": position.offset})
                reader.forget(position)
            elif gone and not rows:
                del self._readers[folder]
                shutil.rmtree(folder, ignore_errors=True)
        return largest

    def run(self, stop: threading.Event, *, drain_seconds: float = 10.0) -> None:
        """Carry until told to stop; then go on until nothing is left, the sink fails, or the time is up."""
        until = float("inf")
        while time.monotonic() < until:
            try:
                largest = self.step()
                self._wait = _FIRST_WAIT
            except SinkError as error:
                self.state.failures += 1
                log.warning("the sink does not take rows, they stay on disk: %s", error)
                if stop.wait(self._wait):
                    break
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
                continue
            finally:
                self.state.at = time.time()
                _keep(self._root / STATE, asdict(self.state))
            if stop.is_set():
                until = min(until, time.monotonic() + drain_seconds)
                if not largest:
                    break
            elif largest < BATCH:
                stop.wait(self._sink.pause)
        self._sink.close()


def unsent(root: Path) -> tuple[int, float]:
    """Return the bytes of the log that are not sent yet, and when the oldest segment among them was begun.

    The time is in seconds since 1970, 0 where everything is sent.
    """
    total, oldest = 0, 0.0
    for folder in root.glob(f"{WRITER_PREFIX}*"):
        sent = _place(folder)
        for path in folder.glob("*.seg"):
            number = int(path.stem)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            left = status.st_size - (sent.offset if number == sent.segment else 0)
            if number < sent.segment or left <= 0:
                continue
            total += left
            began = _place_time(folder) if number == sent.segment and sent.offset else folder.stat().st_ctime
            oldest = began if not oldest else min(oldest, began)
    return total, oldest


def read_state(root: Path) -> CarrierState:
    """Return what the carrier last said; zeros where there is none."""
    try:
        return CarrierState(**json.loads((root / STATE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return CarrierState(at=0.0)


def _place(folder: Path) -> Position:
    try:
        found = json.loads((folder / _PLACE).read_text("utf-8"))
        return Position(int(found["segment"]), int(found["offset"]))
    except (OSError, ValueError, KeyError):
        return Position()


def _place_time(folder: Path) -> float:
    try:
        return (folder / _PLACE).stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _keep(path: Path, document: dict[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    try:
        scratch.write_text(json.dumps(document), "utf-8")
        scratch.replace(path)
    except OSError as error:  # a full disk: the place is known again after the next batch, which is then sent twice
        log.warning("%s can't be written: %s", path.name, error.strerror)


def carry(root: str, address: str, options: dict[str, str]) -> int:
    """Run a carrier until SIGTERM, or until the process that started it is gone; the main function of its process.

    A log has one carrier at a time: a second one waits, since both would send the same rows.

    Args:
        root: Folder of the log.
        address: The sink, as in `sinks.open_sink`.
        options: Further options of the sink, such as a login.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="carrier: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when it ends
    threading.Thread(target=_end_with_parent, args=(os.getppid(), stop), daemon=True).start()
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                stop.wait(_LOOK_SECONDS)
                continue
            Carrier(folder, open_sink(address, options)).run(stop)
            break
    return 0


def _end_with_parent(parent: int, stop: threading.Event) -> None:
    while not stop.wait(_LOOK_SECONDS):
        if os.getppid() != parent:
            stop.set()
