"""From a source to staged Parquet files: what is new is written once, good and bad rows apart, what is known is not."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import (
    BATCH_ID,
    INGESTED_AT,
    QUARANTINE_COLUMNS,
    QUARANTINE_SCHEMA,
    ROW_NUMBER,
    SOURCE,
    TECHNICAL_COLUMNS,
)
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.staged_files import BAD, GOOD
from mlops_assets.data.ingest.staging import StagedLoad, first_staged, stage_load
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.synthetic import SyntheticSource
from mlops_assets.errors import SourceError

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="time", type="timestamp"),
        Column(name="amount", type="double", min=0),
        Column(name="card", type="string"),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount",),
    target="fraud",
    event_time="time",
)


@dataclass
class Listed:
    """A source whose batches are given."""

    tables: list[tuple[str, str, dict[str, Any]]]

    def batches(self) -> Iterator[SourceBatch]:
        for origin, content, columns in self.tables:
            yield SourceBatch(origin, content, pa.table(columns))


def day(rows: int = 3, **columns: Any) -> dict[str, Any]:
    whole = {
        "time": [f"2018-04-01 00:00:{second:02}" for second in range(rows)],
        "amount": [f"{row}.50" for row in range(rows)],
        "card": [f"c{row}" for row in range(rows)],
        "fraud": [str(row % 2) for row in range(rows)],
    }
    return {name: pa.array(columns.get(name, values), pa.string()) for name, values in whole.items()}


def csv(path: Path, **columns: Any) -> Path:
    table = pa.table(day(**columns))
    pa_csv.write_csv(table.rename_columns([name.title() for name in table.column_names]), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    staging = tmp_path / "staging"
    staging.mkdir()
    return staging


def staged(folder: Path, kind: str = GOOD) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted((folder / kind).iterdir())]


def new(load: StagedLoad) -> dict[str, str]:
    return {record.batch_id: record.source for record in load.records}


def test_each_new_batch_becomes_one_file_with_its_origin(folder: Path):
    source = Listed([("a.csv", "hash-a", day(3)), ("b.csv", "hash-b", day(2))])

    load = stage_load(source, CARDS, folder, known=[])

    assert (new(load), load.known, load.staged_rows) == ({"hash-a": "a.csv", "hash-b": "b.csv"}, [], 5)
    first, second = staged(folder)
    assert first.column_names == [*CARDS.column_names, ROW_NUMBER, BATCH_ID, SOURCE, INGESTED_AT]
    assert first.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert first.column("amount").to_pylist() == [0.5, 1.5, 2.5]
    assert second.select([ROW_NUMBER, BATCH_ID, SOURCE]).to_pylist() == [
        {ROW_NUMBER: 0, BATCH_ID: "hash-b", SOURCE: "b.csv"},
        {ROW_NUMBER: 1, BATCH_ID: "hash-b", SOURCE: "b.csv"},
    ]
    assert set(first.column_names) - set(CARDS.column_names) == set(TECHNICAL_COLUMNS)
    assert staged(folder, BAD) == []


def test_the_first_staged_rows_are_at_hand_for_a_preview(folder: Path):
    source = Listed([("a.csv", "hash-a", day(4, amount=["1", "no", "3", "4"])), ("b.csv", "hash-b", day(2))])

    stage_load(source, CARDS.model_copy(update={"max_bad_share": 0.5}), folder, known=[])

    good, bad = first_staged(folder / GOOD, 2), first_staged(folder / BAD, 2)
    assert good is not None
    assert good.select([ROW_NUMBER, SOURCE]).to_pylist() == [
        {ROW_NUMBER: 0, SOURCE: "a.csv"},
        {ROW_NUMBER: 2, SOURCE: "a.csv"},
    ]
    assert bad is not None
    assert bad.column(ROW_NUMBER).to_pylist() == [1]
    assert first_staged(folder, 2) is None


def test_a_large_batch_is_staged_as_files_of_equal_size_that_are_written_at_once(folder: Path):
    rows = 300_000
    many = {name: pa.array(values.to_pylist()[:1] * rows) for name, values in day(1).items()}
    many["amount"] = pa.array(["no", *map(str, range(1, rows))])

    load = stage_load(Listed([("a.csv", "hash-a", many)]), CARDS, folder, known=[])

    parts = [pq.ParquetFile(path) for path in sorted((folder / GOOD).iterdir())]
    sizes = [part.metadata.num_rows for part in parts]
    assert load.staged_rows == sum(sizes) == rows - 1
    assert len(parts) == min(pa.cpu_count(), 3)
    assert max(sizes) - min(sizes) <= len(parts)
    assert all(part.metadata.row_group(0).num_rows <= 131_072 for part in parts)
    numbers = pa.concat_arrays([part.read().column(ROW_NUMBER).combine_chunks() for part in parts])
    assert numbers.to_pylist() == list(range(1, rows))


def test_rows_that_are_all_bad_leave_no_file_of_their_part(folder: Path):
    """A part without rows would be a file that the preview opens in vain."""
    rows = 300_000
    many = {name: pa.array(values.to_pylist()[:1] * rows) for name, values in day(1).items()}
    many["amount"] = pa.array(["no"] * 200_000 + ["1"] * (rows - 200_000))

    load = stage_load(Listed([("a.csv", "hash-a", many)]), HALF.model_copy(update={"max_bad_share": 0.9}), folder, [])

    first = first_staged(folder / GOOD, 1)
    assert (load.staged_rows, load.bad_rows) == (rows - 200_000, 200_000)
    assert first is not None
    assert first.column(ROW_NUMBER).to_pylist() == [200_000]


def test_each_batch_has_an_instant_of_its_own_even_if_the_clock_stands_still(folder: Path):
    """Arrival decides between two writes of one key at one event time."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    stage_load(Listed([(f"{n}.csv", f"hash-{n}", day(1)) for n in range(3)]), CARDS, folder, [], now=lambda: noon)

    arrived = [table.column(INGESTED_AT).to_pylist()[0] for table in staged(folder)]
    assert arrived == [noon + timedelta(microseconds=number) for number in range(3)]


def test_what_the_table_knows_is_counted_but_not_written(folder: Path):
    source = Listed([("a.csv", "hash-a", day(3)), ("b.csv", "hash-b", day(2))])

    load = stage_load(source, CARDS, folder, known={"hash-a"})

    assert (new(load), load.known, load.staged_rows, load.known_rows) == ({"hash-b": "b.csv"}, ["a.csv"], 2, 3)
    assert [table.num_rows for table in staged(folder)] == [2]
    assert load.findings.rows == 2


def test_the_same_content_under_two_names_is_written_once(folder: Path, tmp_path: Path):
    first = csv(tmp_path / "1.csv")
    (tmp_path / "2.csv").write_bytes(first.read_bytes())

    load = stage_load(FilesSource(str(tmp_path / "*.csv")), CARDS, folder, known=[])

    assert list(new(load).values()) == [str(first)]
    assert load.known == [str(tmp_path / "2.csv")]
    assert [table.num_rows for table in staged(folder)] == [3]


def test_nothing_new_writes_nothing(folder: Path):
    load = stage_load(Listed([("a.csv", "hash-a", day())]), CARDS, folder, known=["hash-a"])

    assert (new(load), load.staged_rows, staged(folder), staged(folder, BAD)) == ({}, 0, [], [])


def test_a_source_without_batches_gives_an_empty_load(folder: Path):
    assert stage_load(Listed([]), CARDS, folder, known=[]) == StagedLoad()


def test_a_batch_without_rows_is_on_record_and_stages_nothing(folder: Path):
    load = stage_load(Listed([("a.csv", "hash-a", day(0)), ("b.csv", "hash-b", day(1))]), CARDS, folder, known=[])

    assert [(record.source, record.rows) for record in load.records] == [("a.csv", 0), ("b.csv", 1)]
    assert [table.num_rows for table in staged(folder)] == [1]


HALF = CARDS.model_copy(update={"max_bad_share": 0.5})


def test_bad_rows_are_staged_apart_with_all_that_is_known_of_them(folder: Path):
    bad = {**day(4, amount=["x", "1", None, "2"]), "fraud": pa.array(["7", "1", "0", "0"])}

    load = stage_load(Listed([("a.csv", "hash-a", bad)]), HALF, folder, known=[])

    (record,) = load.records
    assert (record.rows, record.accepted, record.quarantined, record.already_known) == (4, 2, 2, 0)
    assert load.reasons == {"not_binary:fraud": 1, "null:amount": 1, "unreadable:amount": 1}
    (good,), (aside,) = staged(folder), staged(folder, BAD)
    assert good.column(ROW_NUMBER).to_pylist() == [1, 3]
    assert aside.column_names == list(QUARANTINE_COLUMNS)
    assert aside.cast(QUARANTINE_SCHEMA).drop_columns([INGESTED_AT]).to_pylist() == [
        {
            ROW_NUMBER: number,
            "reasons": reasons,
            "original": [
                ("time", f"2018-04-01 00:00:0{number}"),
                ("amount", amount),
                ("card", f"c{number}"),
                ("fraud", fraud),
            ],
            BATCH_ID: "hash-a",
            SOURCE: "a.csv",
            "_contract": "cards v1",
            "_replay": None,
        }
        for number, reasons, amount, fraud in [
            (0, ["unreadable:amount", "not_binary:fraud"], "x", "7"),
            (2, ["null:amount"], None, "0"),
        ]
    ]


def test_an_input_that_is_refused_stages_nothing_and_stops_no_other(folder: Path):
    wrong = {name: values for name, values in day().items() if name != "card"}
    source = Listed(
        [
            ("bad.csv", "hash-1", day(3, amount=["x", "y", "1"])),
            ("late.csv", "hash-2", day(2, time=["2018-04-02", "2018-04-01"])),
            ("wrong.csv", "hash-3", {**wrong, "colour": ["red"] * 3}),
            ("good.csv", "hash-4", day(2)),
        ]
    )

    load = stage_load(source, HALF, folder, known=[])

    assert new(load) == {"hash-4": "good.csv"}
    assert [found.origin for found in load.findings.inputs if found.refused(HALF)] == ["bad.csv", "late.csv"]
    assert [error.where for error in load.errors] == ["wrong.csv"]
    assert "missing columns: card; unknown columns: colour" in load.errors[0].what
    assert "| card | missing | string |  |" in load.errors[0].diff
    assert ([t.num_rows for t in staged(folder)], staged(folder, BAD)) == ([2], [])


def test_a_file_that_cannot_be_read_stops_no_other(folder: Path, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    whole = csv(landing / "1.csv").read_bytes()
    (landing / "2.csv.gz").write_bytes(gzip.compress(whole)[:-9])
    pq.write_table(pa.table(day()), landing / "3.parquet")
    (landing / "3.parquet").write_bytes((landing / "3.parquet").read_bytes()[:-30])
    (landing / "4.csv").write_bytes(whole.replace(b"c1", "\xe9".encode("latin-1")))
    (landing / "5.csv").write_bytes(whole + b"2018,1")
    (landing / "6.csv").write_bytes(b"")
    csv(landing / "7.csv", rows=2)

    load = stage_load(FilesSource(str(landing)), CARDS, folder, known=[])

    assert [Path(source).name for source in new(load).values()] == ["1.csv", "7.csv"]
    assert {Path(error.where).name: error.what.partition(":")[0] for error in load.errors} == {
        "2.csv.gz": "not a complete gzip file",
        "3.parquet": "not a complete Parquet file",
        "4.csv": "not UTF-8 text",
        "5.csv": "row 5 has 2 fields, the header (row 1) has 4; 1 such row(s), blank lines not counted",
        "6.csv": "the file is empty (0 bytes)",
    }


def test_files_of_a_folder_are_read_from_disk_with_lower_cased_names(folder: Path, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    csv(landing / "1.csv", rows=3)
    pq.write_table(pa.table({name.upper(): values for name, values in day(2).items()}), landing / "2.parquet")

    load = stage_load(FilesSource(str(landing)), CARDS, folder, known=[])

    assert load.staged_rows == 5
    assert load.bad_rows == 0
    assert pa.concat_tables(staged(folder)).column("card").to_pylist() == ["c0", "c1", "c2", "c0", "c1"]


def test_synthetic_rows_keep_the_contract_and_their_identity(folder: Path, creditcard: Contract):
    load = stage_load(SyntheticSource(rows=500, days=2, fraud_rate=0.1), creditcard, folder, known=[])
    (folder / "again").mkdir()
    again = stage_load(SyntheticSource(rows=500, days=2, fraud_rate=0.1), creditcard, folder / "again", known=new(load))

    assert (load.staged_rows, load.bad_rows) == (500, 0)
    assert (again.staged_rows, again.known) == (0, list(new(load).values()))


def test_a_source_that_cannot_be_read_stops_the_load(folder: Path, tmp_path: Path):
    with pytest.raises(SourceError, match="nothing"):
        stage_load(FilesSource(str(tmp_path / "nothing.csv")), CARDS, folder, known=[])
    assert (staged(folder), staged(folder, BAD)) == ([], [])


# Every row in one place.

AMOUNTS = st.sampled_from(["1", "2.5", "x", "", "-1", "inf", "1e400"])
KEYED = HALF.model_copy(
    update={
        "columns": (*CARDS.columns, Column(name="id", type="long")),
        "key": "id",
        "ordered": False,
        "max_bad_share": 1.0,
    }
)
KEYED_ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), AMOUNTS, st.sampled_from(["0", "1", "2"])), max_size=8
)


def keyed(rows: list[tuple[int, int, str, str]]) -> dict[str, Any]:
    return {
        "id": pa.array([str(row[0]) for row in rows], pa.string()),
        "time": pa.array([f"2018-04-01 00:00:0{row[1]}" for row in rows], pa.string()),
        "amount": pa.array([row[2] or None for row in rows], pa.string()),
        "card": pa.array(["c"] * len(rows), pa.string()),
        "fraud": pa.array([row[3] for row in rows], pa.string()),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYED_ROWS, max_size=4), st.lists(st.integers(0, 3), max_size=6), st.booleans())
def test_each_row_that_comes_in_is_in_one_place(
    batches: list[list[tuple[int, int, str, str]]], deliveries: list[int], with_key: bool
):
    """Batches with bad rows and doubled keys, delivered in any order, some of them again under another name."""
    contract = KEYED if with_key else KEYED.model_copy(update={"key": None})
    sent = [
        (f"{n}.csv", f"hash-{batch}", keyed(batches[batch]))
        for n, batch in enumerate(deliveries)
        if batch < len(batches)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = stage_load(Listed(sent), contract, folder, known=["hash-0"])
        good = {tuple(row.values()) for t in staged(folder) for row in t.select([BATCH_ID, ROW_NUMBER]).to_pylist()}
        bad = {tuple(row.values()) for t in staged(folder, BAD) for row in t.select([BATCH_ID, ROW_NUMBER]).to_pylist()}

    arrived = {content: columns for _, content, columns in sent if content != "hash-0"}
    rows = {(content, number): None for content, columns in arrived.items() for number in range(len(columns["id"]))}
    assert set(new(load)) == set(arrived)
    assert not good & bad
    assert good | bad <= set(rows)
    for record in load.records:
        assert record.rows == record.accepted + record.quarantined + record.already_known
        assert record.accepted == sum(batch == record.batch_id for batch, _ in good)
        assert record.quarantined == sum(batch == record.batch_id for batch, _ in bad)
        assert with_key or record.already_known == 0
    assert load.known_rows + sum(record.rows for record in load.records) == sum(len(c["id"]) for _, _, c in sent)
    for content, number in rows:
        number_of, cells = int(content[-1]), batches[int(content[-1])]
        wrong = cells[number][2] not in ("1", "2.5") or cells[number][3] == "2"
        later = any(
            cells[other][0] == cells[number][0] and (cells[other][1], other) > (cells[number][1], number)
            for other in range(len(cells))
            if (f"hash-{number_of}", other) not in bad
        )
        assert ((content, number) in bad) is wrong
        assert ((content, number) in good) is (not wrong and not (with_key and later))
