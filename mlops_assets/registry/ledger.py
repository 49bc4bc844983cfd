"""Who was champion when, and why: an append-only table in which each row holds the hash of the row before.

What belongs here: entries, their chain, the table that holds them, and what it says of a moment. What does not: moving
an alias (`alias_moves`), the decision (`gate`).

MLflow keeps no record of an alias. Each move of ours is therefore written down, with what it rests on. A row that was
changed, left out or cut off the end is noticed: each hashes the one before, and the newest one's hash is also kept in
the registry, as a tag of the registered model.

The table is written by delta-rs, without a JVM. It needs a folder; for tables of Unity Catalog, which can't be written
that way, see `warehouse_ledger`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, get_type_hints

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from mlops_assets.errors import LedgerError
from mlops_assets.lineage import LEDGER_HEAD_TAG

CHAMPION_LEDGER: Final = "champion_ledger"
NOBODY: Final = 0

Event = Literal[
    "promoted", "rolled back", "approved", "retired", "brought back", "moved outside", "moved back", "not carried out"
]


@dataclass(frozen=True)
class Entry:
    """One change of the alias `champion`.

    Attributes:
        number: Its place in the chain of its model, from 1.
        at: When it was written, ISO 8601 in UTC; never before the entry before it.
        model: Name of the registered model.
        from_version: Champion until then; NOBODY if there was none.
        to_version: Champion from then on; NOBODY if there is none.
        event: What happened. `moved outside`: another client moved the alias, noticed at this moment. `not carried
            out`: the process of the entry before ended before it moved the alias.
        reason: One line.
        verdict: The gate's verdict as JSON; empty where the gate had no say.
        dagster_run: Id of the run; empty outside of Dagster.
        actor: Who did it, as far as the operating system knows; local users are not authenticated.
        code: Commit of the code that did it.
        previous: Hash of the entry before; empty in the first.
        digest: SHA-256 of all of this.
    """

    number: int
    at: str
    model: str
    from_version: int
    to_version: int
    event: Event
    reason: str
    verdict: str = ""
    dagster_run: str = ""
    actor: str = ""
    code: str = ""
    previous: str = ""
    digest: str = ""

    def sealed(self) -> Entry:
        """Return the entry with its digest."""
        return replace(self, digest=self._computed())

    @property
    def intact(self) -> bool:
        """Whether the digest is that of the content."""
        return self.digest == self._computed()

    def _computed(self) -> str:
        content = {name: value for name, value in asdict(self).items() if name != "digest"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# The fields of an entry in their order, and whether each is a whole number or text.
FIELDS: Final = {name: int if kind is int else str for name, kind in get_type_hints(Entry).items()}


class LedgerTable(Protocol):
    """Where entries are kept."""

    def read(self, model: str) -> list[Entry]:
        """Return a model's entries in order, whole and unchanged, or raise LedgerError."""
        ...

    def append(self, entry: Entry) -> None:
        """Add the entry that follows the newest one, or raise LedgerError if another process has added one."""
        ...


@dataclass(frozen=True)
class DeltaLedger:
    """Entries in a Delta table in a folder.

    Attributes:
        folder: The table's folder; it is created with the first entry.
    """

    folder: str

    def read(self, model: str) -> list[Entry]:
        """Return a model's entries in order.

        Raises:
            LedgerError: The table can't be read, or an entry was changed, left out or added by someone else.
        """
        table = self._table()
        if table is None:
            return []
        try:
            rows = table.to_pyarrow_table(filters=[("model", "=", model)]).to_pylist()
            entries = sorted((Entry(**row) for row in rows), key=lambda entry: entry.number)
        except (DeltaError, OSError, TypeError, pa.ArrowException) as error:
            raise self._unreadable(error) from None
        require_chain(entries, where=self.folder)
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry, if nobody else has since the newest one.

        Raises:
            LedgerError: Another process has added an entry, or the table can't be written.
        """
        table, properties = self._table(), CommitProperties(max_commit_retries=0)
        if len(self.read(entry.model)) != entry.number - 1:
            raise overtaken(self.folder)
        row = pa.Table.from_pylist([asdict(entry)], schema=_SCHEMA)
        try:
            if table is None:
                # Without retries a table that someone else has just created is an error.
                properties_of_table = {"delta.appendOnly": "true"}
                write_deltalake(self.folder, row, configuration=properties_of_table, commit_properties=properties)
            else:
                write_deltalake(table, row, mode="append", commit_properties=properties)
        except CommitFailedError:
            raise overtaken(self.folder) from None
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from None

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.folder)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"the ledger of champions can't be read or written: {str(error).splitlines()[0]}",
            where=self.folder,
            fix="restore the folder from a backup; nothing is promoted or rolled back until then",
        )


_SCHEMA: Final = pa.schema(
    [pa.field(name, pa.int64() if kind is int else pa.string(), nullable=False) for name, kind in FIELDS.items()]
)


def overtaken(where: str) -> LedgerError:
    """Return the error of whoever was not the one to write the next entry of a table."""
    return LedgerError(
        "another process has written an entry at the same time", where=where, fix="run it again", transient=True
    )


def require_chain(entries: Sequence[Entry], *, where: str) -> None:
    """Check that entries are numbered without a gap, unchanged, and each follows the one before.

    Raises:
        LedgerError: They are not.
    """
    previous = ""
    for number, entry in enumerate(entries, 1):
        if entry.number != number:
            raise _tampered(f"entry {number} is missing or there twice", where)
        if not entry.intact or entry.previous != previous:
            raise _tampered(f"entry {number} was changed after it was written", where)
        previous = entry.digest


def require_head(entries: Sequence[Entry], head: str, *, where: str) -> bool:
    """Check a chain against what the registry says of its newest entry; return whether the newest one is confirmed.

    Args:
        entries: The whole chain.
        head: The registry's tag, `number:digest`; empty if there is none.
        where: The table.

    Raises:
        LedgerError: Entries were cut off, replaced, or added by someone else.
    """
    number, _, digest = head.partition(":")
    confirmed = int(number) if number.isdecimal() else 0
    if head and (confirmed == 0 or confirmed > len(entries) or entries[confirmed - 1].digest != digest):
        raise _tampered(f"the registry knows entry {number}, which is not there as it was written", where)
    if len(entries) - confirmed > 1:  # a process that ended in between leaves one
        raise _tampered(f"the registry does not know the last {len(entries) - confirmed} entries", where)
    return len(entries) == confirmed


def head_of(entry: Entry) -> str:
    """Return what the registry says of the newest entry."""
    return f"{entry.number}:{entry.digest}"


def carried_out(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that moved the alias, or found it moved."""
    undone = {entry.number - 1 for entry in entries if entry.event == "not carried out"}
    return [entry for entry in entries if entry.event != "not carried out" and entry.number not in undone]


def champion_at(entries: Sequence[Entry], moment: datetime) -> Entry | None:
    """Return the entry that says who was champion at a moment; None before the first.

    Args:
        entries: The whole chain.
        moment: With a time zone.
    """
    before = [entry for entry in carried_out(entries) if datetime.fromisoformat(entry.at) <= moment]
    return before[-1] if before else None


def following(entries: Sequence[Entry], entry: Entry) -> Entry:
    """Return an entry with its number, moment and chain, as the one that follows others."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    last = entries[-1] if entries else None
    return replace(
        entry,
        number=len(entries) + 1,
        at=now if last is None else max(now, last.at),
        previous="" if last is None else last.digest,
    ).sealed()


def _tampered(what: str, where: str) -> LedgerError:
    return LedgerError(
        f"the ledger of champions is not what was written: {what}",
        where=where,
        fix="restore the folder from a backup; to begin a new ledger instead, move the folder away and remove the tag "
        f"{LEDGER_HEAD_TAG} of the registered model",
    )
