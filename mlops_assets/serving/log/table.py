"""The Delta table of the log, for whoever adds rows that were captured elsewhere: each row once.

What belongs here: the rows that are there already, the commit with its transaction numbers. What does not: where rows
come from (`from_kafka`, `captured`), the sink that a server writes by itself (`sinks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

WINDOW_DAYS: Final = 7
KEY: Final = ("request_id", "row", "arm")


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes:
        rows: Rows that were added.
        doubled: Rows that were there already, or twice in what was read.
        unreadable: Messages, or captured requests, that are no rows of the log.
        lag: Messages, versions or files that are still to be read.
    """

    rows: int
    doubled: int
    unreadable: int
    lag: int


class LogTable:
    """The table, opened once for a load.

    Args:
        location: Folder or URL; the table is made with the first rows.

    Attributes:
        there: The table; None while there is none.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        try:
            self.there: DeltaTable | None = DeltaTable(location)
        except TableNotFoundError:
            self.there = None

    def number(self, source: str) -> int | None:
        """Return the transaction number that the table has for a source: where reading goes on."""
        return None if self.there is None else self.there.transaction_version(source)

    def add(self, rows: pa.Table, numbers: Mapping[str, int]) -> int:
        """Add the rows whose ids are neither in the table nor earlier among them, in one commit; return how many.

        Rows are compared with those of the table from `WINDOW_DAYS` before the first of them on.

        Args:
            rows: As in `sinks.SCHEMA`.
            numbers: Where reading goes on, by source.
        """
        new = rows.filter(self._is_new(rows))
        noted = [Transaction(source, number) for source, number in numbers.items()]
        write_deltalake(self._location, new, mode="append", commit_properties=CommitProperties(app_transactions=noted))
        return int(new.num_rows)

    def _is_new(self, rows: pa.Table) -> pa.Array:
        keys = list(zip(*(rows.column(name).to_pylist() for name in KEY), strict=True))
        known: set[tuple[Any, ...]] = set()
        if self.there is not None and rows.num_rows:
            first = pc.min(rows.column("at")).as_py() - timedelta(days=WINDOW_DAYS)
            found = self.there.to_pyarrow_table(columns=[*KEY], filters=[("at", ">=", first)])
            known = set(zip(*(found.column(name).to_pylist() for name in KEY), strict=True))
        kept = []
        for key in keys:
            kept.append(key not in known)
            known.add(key)
        return pa.array(kept, pa.bool_())
