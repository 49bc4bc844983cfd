"""The ledger as a table: what is written is read, what was changed is noticed, and who was champion when."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.errors import LedgerError
from mlops_assets.registry.ledger import DeltaLedger, Entry, Event, champion_at, following, head_of, require_head

MODEL = "fraud_ledger"


def written(table: DeltaLedger, before: int, after: int, event: Event = "promoted", model: str = MODEL) -> Entry:
    entry = following(table.read(model), Entry(0, "", model, before, after, event, "why"))
    table.append(entry)
    return entry


@pytest.fixture
def table(tmp_path: Path) -> DeltaLedger:
    ledger = DeltaLedger(str(tmp_path / "ledger"))
    for number in (1, 2, 3):
        written(ledger, number - 1, number)
    return ledger


def test_what_is_written_is_read_and_each_model_has_its_own_chain(table: DeltaLedger):
    written(table, 0, 9, model="another")

    assert [(entry.number, entry.from_version, entry.to_version) for entry in table.read(MODEL)] == [
        (1, 0, 1),
        (2, 1, 2),
        (3, 2, 3),
    ]
    assert [entry.to_version for entry in table.read("another")] == [9]
    assert DeltaLedger(f"{table.folder}_of_nobody").read(MODEL) == []


def test_entries_can_only_be_added(table: DeltaLedger):
    with pytest.raises(Exception, match=r"(?i)append"):
        DeltaTable(table.folder).delete("number = 2")
    assert len(table.read(MODEL)) == 3


def test_of_two_writers_that_read_the_same_one_writes(table: DeltaLedger):
    entries = table.read(MODEL)
    mine, theirs = (following(entries, Entry(0, "", MODEL, 3, to, "promoted", "why")) for to in (4, 5))
    table.append(theirs)

    with pytest.raises(LedgerError, match="at the same time") as caught:
        table.append(mine)
    assert caught.value.transient
    assert [entry.to_version for entry in table.read(MODEL)] == [1, 2, 3, 5]


def rewritten(folder: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Put another table in the ledger's place, as someone who can write to its folder could."""
    rows = DeltaTable(folder).to_pyarrow_table()
    changed = change(sorted(rows.to_pylist(), key=lambda row: row["number"]))
    shutil.rmtree(folder)
    write_deltalake(folder, pa.Table.from_pylist(changed, schema=rows.schema))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [rows[0], rows[1] | {"to_version": 7}, rows[2]], "entry 2 was changed"),
        (lambda rows: [rows[0] | {"reason": "better"}, *rows[1:]], "entry 1 was changed"),
        (lambda rows: [rows[0], rows[2]], "entry 2 is missing"),
        (lambda rows: [*rows, rows[2]], "entry 4 is missing or there twice"),
        (lambda rows: [rows[0], rows[1] | {"number": 3}, rows[2] | {"number": 2}], "entry 2 was changed"),
    ],
)
def test_a_changed_ledger_is_refused(
    table: DeltaLedger, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], said: str
):
    rewritten(table.folder, change)

    with pytest.raises(LedgerError, match=said):
        table.read(MODEL)


def test_a_chain_that_was_made_anew_or_cut_does_not_have_the_head_that_the_registry_knows(table: DeltaLedger):
    entries = table.read(MODEL)
    head = head_of(entries[-1])

    assert require_head(entries, head, where="x")
    for fewer in (entries[:-1], []):
        with pytest.raises(LedgerError, match="the registry knows entry 3"):
            require_head(fewer, head, where="x")
    forged: list[Entry] = []
    for entry in entries:
        forged.append(following(forged, Entry(0, "", MODEL, entry.from_version, 7, "promoted", "forged")))
    with pytest.raises(LedgerError, match="the registry knows entry 3"):
        require_head(forged, head, where="x")


def test_one_entry_may_be_unconfirmed_and_not_more(table: DeltaLedger):
    entries = table.read(MODEL)

    assert not require_head(entries, head_of(entries[1]), where="x")
    with pytest.raises(LedgerError, match="does not know the last 2 entries"):
        require_head(entries, head_of(entries[0]), where="x")
    with pytest.raises(LedgerError, match="does not know the last 3 entries"):
        require_head(entries, "", where="x")
    with pytest.raises(LedgerError, match="which is not there as it was written"):
        require_head(entries, "three:abc", where="x")


def test_a_ledger_that_can_t_be_read_is_one_error(table: DeltaLedger):
    for file in Path(table.folder).glob("*.parquet"):
        file.write_bytes(b"no Parquet")

    with pytest.raises(LedgerError, match="can't be read or written"):
        table.read(MODEL)


def test_who_was_champion_at_a_moment():
    start = datetime(2026, 11, 1, tzinfo=UTC)
    moves: list[tuple[int, int, Event]] = [
        (0, 1, "promoted"),
        (1, 2, "promoted"),
        (2, 1, "not carried out"),
        (1, 3, "moved outside"),
        (3, 1, "rolled back"),
    ]
    entries = [
        Entry(number, (start + timedelta(days=number)).isoformat(), MODEL, before, after, event, "why")
        for number, (before, after, event) in enumerate(moves, 1)
    ]

    def found(days: float) -> int | None:
        entry = champion_at(entries, start + timedelta(days=days))
        return None if entry is None else entry.to_version

    assert [found(days) for days in (0.5, 1, 2, 3, 4, 4.5, 5, 9)] == [None, 1, 1, 1, 3, 3, 1, 1]
