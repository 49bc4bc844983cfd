"""Segment files: what a worker has accepted is in one before its answer goes out.

What belongs here: the file format, appending, reading what is new, what is left after a kill. What does not: where the
rows go (`carrier`), what is in them (`record`).

A record is its length and the CRC-32 of its payload, four bytes each, little-endian, then the payload. One `write` puts
it into the operating system's cache, which a killed process does not take along; `fdatasync` follows in a thread after
`SYNC_SECONDS` at most, so that a power cut loses no more than that. A reader stops at the first record that is not
whole. In a file that is still written it waits there; in any other the rest is damaged, and counted.

Each worker has a folder of its own, and holds a lock in it as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYNC_SECONDS: Final = 0.5
SEGMENT_BYTES: Final = 8 * 2**20
LOCK: Final = "lock"
WRITER_PREFIX: Final = "w-"
_HEAD: Final = struct.Struct("<II")
_SUFFIX: Final = ".seg"
_OFFSET_BITS: Final = 32
_MOST: Final = 64 * 2**20  # a length above it can't be one


class LogFullError(Exception):
    """A row that could not be written: no space, or the limit of the log is reached."""


class SegmentWriter:
    """Appends records to segment files.

    Args:
        root: Folder of the log; the writer makes its own in it.
        limit: Bytes that all unsent segments of the log may have together; reached, `append` refuses.
        segment_bytes: A file is finished from this size on.

    Attributes:
        folder: The writer's own folder.
    """

    def __init__(self, root: Path, limit: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        name = uuid.uuid4().hex
        # A folder without a locked file is one whose writer is gone: it gets its name once the lock is held.
        self.folder = root / f".new-{name}"
        self.folder.mkdir(parents=True)
        self._root, self._limit, self._segment_bytes = root, limit, segment_bytes
        self._lock = (self.folder / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._number = 0
        self._file, self._size = self._open(), 0
        self.folder = self.folder.rename(root / f"{WRITER_PREFIX}{name}")
        self._others = _size_of(root)
        self._writing = threading.Lock()  # the shadow writes from a thread of its own
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sync, name="log-sync", daemon=True)
        self._thread.start()

    def append(self, *payloads: bytes) -> None:
        """Write records with one call; on return they outlive this process.

        Raises:
            LogFullError: There is no space; nothing of the records is left.
        """
        record = b"".join([_HEAD.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads])
        with self._writing:
            self._append(record)

    def _append(self, record: bytes) -> None:
        if self._others + self._size + len(record) > self._limit:
            self._others = _size_of(self._root) - self._size  # what was sent meanwhile is gone
            if self._others + self._size + len(record) > self._limit:
                raise LogFullError("the limit of the log is reached")
        try:
            written = os.write(self._file, record)
        except OSError as error:
            raise LogFullError(error.strerror or "not writable") from None
        if written < len(record):
            os.ftruncate(self._file, self._size)
            raise LogFullError("no space left on device")
        self._size += len(record)
        if not self._dirty.is_set():
            self._dirty.set()
        if self._size >= self._segment_bytes:
            self._next()

    def close(self) -> None:
        """Write everything to the disk and let the folder go."""
        self._closed.set()
        self._dirty.set()
        self._thread.join()
        os.fdatasync(self._file)
        os.close(self._file)
        self._lock.close()

    def _next(self) -> None:
        finished = self._file
        try:
            self._number += 1
            self._file = self._open()
        except OSError:  # no space for another file: this one goes on
            self._number -= 1
            return
        self._others += self._size
        self._size = 0
        os.fdatasync(finished)
        os.close(finished)

    def _open(self) -> int:
        path = self.folder / f"{self._number:08d}{_SUFFIX}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _sync(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._dirty.clear()
            with suppress(OSError):  # the file was finished, and synced, meanwhile
                os.fdatasync(self._file)
            self._closed.wait(SYNC_SECONDS)


@dataclass(frozen=True, order=True)
class Position:
    """Where reading goes on: the number of a segment and the offset in it."""

    segment: int = 0
    offset: int = 0

    @property
    def number(self) -> int:
        """The position as one number, which grows with it."""
        return (self.segment << _OFFSET_BITS) + self.offset

    @classmethod
    def from_number(cls, number: int) -> Position:
        """Return the position of a `number`."""
        return cls(number >> _OFFSET_BITS, number & ((1 << _OFFSET_BITS) - 1))


@dataclass
class SegmentReader:
    """Reads the records of one writer's folder, in order.

    Attributes:
        folder: The folder.
        position: Where the next record starts.
        damaged: Bytes behind a damaged record of a finished segment, which can't be read.
    """

    folder: Path
    position: Position = Position()
    damaged: int = 0

    def read(self, most: int) -> tuple[list[bytes], Position]:
        """Return up to `most` records from the position on, and the position after them; moves nothing."""
        found: list[bytes] = []
        alive = is_alive(self.folder)
        numbers = segments_of(self.folder)
        at = self.position
        for number in numbers:
            if number < at.segment:
                continue
            if number > at.segment:
                at = Position(number, 0)
            finished = not alive or number != numbers[-1]
            size = _segment(self.folder, number).stat().st_size
            for payload, end in records(_segment(self.folder, number), at.offset):
                found.append(payload)
                at = Position(number, end)
                if len(found) >= most:
                    return found, at
            if not finished:
                break
            if at.offset < size:
                self.damaged += size - at.offset
                at = Position(number, size)
        return found, at

    def forget(self, position: Position) -> None:
        """Go on from a position; remove the segments before it."""
        self.position = position
        for number in segments_of(self.folder):
            if number < position.segment:
                _segment(self.folder, number).unlink(missing_ok=True)

    def is_done(self) -> bool:
        """Return whether the writer is gone and everything has been read."""
        if is_alive(self.folder):
            return False
        rows, _ = self.read(1)
        return not rows


def records(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record of a segment and the offset behind it; stop at the first that is not whole."""
    with path.open("rb") as file:
        file.seek(offset)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, expected = _HEAD.unpack(head)
            if length > _MOST:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != expected:
                return
            offset += _HEAD.size + length
            yield payload, offset


def segments_of(folder: Path) -> list[int]:
    """Return the numbers of a folder's segments, rising."""
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}"))


def is_alive(folder: Path) -> bool:
    """Return whether the writer of a folder still holds its lock."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_SUFFIX}"


def _size_of(root: Path) -> int:
    total = 0
    for path in root.glob(f"{WRITER_PREFIX}*/*{_SUFFIX}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # sent meanwhile
    return total
