"""Decisions by event id: the same event gets the same answer, also from another worker and after a restart.

What belongs here: keeping and finding answers. What does not: making them (`service`).

One SQLite file for all workers, in the mode in which readers don't wait (WAL) and without a sync per commit: a killed
process loses nothing, a power cut may lose the last answers. An answer is kept before its row is logged, with the row:
whoever finds a decision that another process made logs the row again, in case that process died in between; rows with
the same ids are one row.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BUSY_SECONDS: Final = 1.0
_AT_A_TIME: Final = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision that was made before.

    Attributes:
        digest: Digest of the event's content.
        answer: The answer's bytes.
        row: The row of the log.
        writer: The process that made it.
    """

    digest: bytes
    answer: bytes
    row: bytes
    writer: str


class Decisions:
    """Answers by event id. For one thread.

    Args:
        path: The file.
        writer: Name of this process.
        seconds: How long an answer is kept.
    """

    def __init__(self, path: Path, writer: str, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._writer, self._seconds = path, writer, seconds
        self._connection = _connect(path)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS decisions (event TEXT PRIMARY KEY, at REAL NOT NULL, digest BLOB NOT NULL, "
            "answer BLOB NOT NULL, row BLOB NOT NULL, writer TEXT NOT NULL)"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS decisions_by_age ON decisions (at)")

    def find(self, event: str) -> Kept | None:
        """Return the decision about an event, if it is still kept."""
        found = self._connection.execute(
            "SELECT digest, answer, row, writer, at FROM decisions WHERE event = ?", (event,)
        ).fetchone()
        if found is None or found[4] < time.time() - self._seconds:
            return None
        return Kept(*found[:4])

    def keep(self, event: str, digest: bytes, answer: bytes, row: bytes) -> Kept | None:
        """Keep a decision; return the one that another worker kept first, if there is one."""
        now = time.time()
        written = self._connection.execute(
            "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (event) DO UPDATE SET at = excluded.at, "
            "digest = excluded.digest, answer = excluded.answer, row = excluded.row, writer = excluded.writer "
            "WHERE at < ?",
            (event, now, digest, answer, row, self._writer, now - self._seconds),
        ).rowcount
        return None if written else self.find(event)

    def forget(self, event: str) -> None:
        """Drop a decision whose row could not be logged: its answer never went out."""
        self._connection.execute("DELETE FROM decisions WHERE event = ? AND writer = ?", (event, self._writer))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def remove_old(path: Path, seconds: float) -> int:
    """Remove decisions that are older, a few at a time, and return how many; for a thread or process of its own."""
    removed = 0
    with closing(_connect(path)) as connection:
        while True:
            count = connection.execute(
                "DELETE FROM decisions WHERE event IN (SELECT event FROM decisions WHERE at < ? LIMIT ?)",
                (time.time() - seconds, _AT_A_TIME),
            ).rowcount
            removed += count
            if count < _AT_A_TIME:
                return removed
            time.sleep(0.01)  # let the workers write in between


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection
