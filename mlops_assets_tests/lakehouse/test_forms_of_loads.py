"""One load in all its forms: files read whole in this process, by executors, and piece by piece; tables are the same.

Random files of all types of a contract, with values that break it in every way that `conform` knows, keys that come
twice within a file, across files and across loads, files out of order, files that are refused, and late labels.
"""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import INGESTED_AT, LABEL_HISTORY, REASONS, ROW_NUMBER
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.sources import large_files
from mlops_assets.data.sources.delta import DeltaSource
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.lakehouse import catalog_source, label_loading, loading
from mlops_assets.lakehouse.catalog_source import CatalogSource
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.transaction_tables import LABELS, MANIFEST, QUARANTINED, RAW
from mlops_assets.lakehouse.transactions import TransactionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.load_report import LoadReport

# Each example loads two sets of files three times.
pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]

ALL_TYPES = Contract(
    name="all_types",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="time", type="timestamp"),
        Column(name="amount", type="double", min=0, max=1_000),
        Column(name="score", type="double", nullable=True),
        Column(name="count", type="long", min=0, max=10),
        Column(name="flag", type="boolean"),
        Column(name="card", type="string"),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount", "score", "count"),
    target="fraud",
    event_time="time",
    max_bad_share=0.7,
    max_changed_share=1,
    ordered=False,
)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = {
    "amount": ["0", "1.5", "999.25", "1e2", " 7 "],
    "score": ["", "-1.25", "nan", "3"],
    "count": ["0", "10", "3.0"],
    "flag": ["true", "No", "1"],
    "card": ["c1", "card, two", 'the "third"', "a\nb"],
}
WRONG = {
    "id": ["", "x", "1.5"],
    "time": ["", "yesterday", "0000-00-00"],
    "amount": ["", "-1", "1001", "inf", "1e39", "a lot"],
    "score": ["inf", "?", "1e39"],
    "count": ["", "11", "-1", "2.5", "inf"],
    "flag": ["", "maybe"],
    "card": [""],
    "fraud": ["", "2", "-1", "no"],
}


def table_of(seed: int, rows: int, wrong: float, *, with_key: bool) -> list[dict[str, str]]:
    """Return rows of text; the share of wrong values is that of rows that have one."""
    random, made = Random(seed), []  # noqa: S311 - no secret
    for number in range(rows):
        row = {name: random.choice(values) for name, values in GOOD.items()}
        row["id"] = str(random.randrange(rows) if with_key else number)
        moment = _BEGIN + timedelta(minutes=random.randrange(20) if with_key else number, seconds=random.randrange(59))
        row["time"] = moment.isoformat()
        row["fraud"] = str(int(random.random() < 0.3))
        if random.random() < wrong:
            name = random.choice(list(WRONG))
            row[name] = random.choice(WRONG[name])
        made.append({name: row[name] for name in ALL_TYPES.column_names})
    return made


def csv_of(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ALL_TYPES.column_names))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_of(rows: list[dict[str, str]]) -> bytes:
    """Return rows as Parquet: numbers and times as such where the whole column can be read as such."""
    strings = pa_csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    table = pa_csv.read_csv(
        io.BytesIO(csv_of(rows)), parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=strings
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=7)
    return sink.getvalue().to_pybytes()


FORMS = ("whole", "executors", "pieces")


@contextmanager
def form(name: str) -> Iterator[None]:
    """Have loads done in one form."""
    with pytest.MonkeyPatch.context() as patch:
        if name != "whole":
            patch.setattr(loading, "stage_load", None)  # it would be noticed if it were used
        if name == "executors":
            patch.setattr(loading, "MANY_INPUTS", 1)
        if name == "pieces":
            patch.setattr(large_files, "LARGE_BYTES", 1)
            patch.setattr(large_files, "PIECE_BYTES", 400)
        yield


def content(lakehouse: Lakehouse, leave_out: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return all rows of the tables that a load writes, without the time at which they came."""
    found = {}
    for name in (RAW, QUARANTINED, MANIFEST):
        version = lakehouse.current(name)
        if version is not None:
            rows = lakehouse.read(name, version.version).drop(INGESTED_AT, "recorded_at", *leave_out).collect()
            texts = [row.asDict(recursive=True) for row in rows]
            for text in texts:
                if REASONS in text:
                    text[REASONS] = sorted(text[REASONS])
                for label in text.get(LABEL_HISTORY) or ():
                    label.pop("arrived")
            found[name] = sorted(map(str, texts))
    return found


def said(report: LoadReport) -> dict[str, Any]:
    """Return what a report says, but for where it looked for previews, and times."""
    names = ("rows", "accepted", "quarantined", "known", "set_aside", "frauds_set_aside", "reasons", "labels_merged")
    told = {name: getattr(report, name) for name in (*names, "blames_input", "transient", "refusal", "summary")}
    return told | {
        "inputs": [report.inputs_added, report.inputs_known, report.inputs_refused],
        "verdicts": [(outcome.name, outcome.passed, outcome.description) for outcome in report.outcomes],
    }


@settings(
    max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    with_key=st.booleans(),
    ordered=st.booleans(),
    with_labels=st.booleans(),
    kind=st.sampled_from(["csv", "parquet"]),
)
def test_all_forms_of_a_load_make_the_same_tables(
    new_lakehouse: Callable[[], Lakehouse],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    *,
    with_key: bool,
    ordered: bool,
    with_labels: bool,
    kind: str,
):
    labels = LabelColumns(key="id", label="fraud", known_at="known_at") if with_labels and with_key else None
    contract = ALL_TYPES.model_copy(
        update={"key": "id" if with_key else None, "ordered": ordered and not with_key, "labels": labels}
    )
    folder = tmp_path_factory.mktemp("in")
    write = csv_of if kind == "csv" else parquet_of
    files: list[list[Path]] = []
    for load, shares in enumerate(([0.0, 0.3, 1.0], [0.2, 0.2])):
        paths = [folder / f"{load}-{number}.{kind}" for number in range(len(shares))]
        for number, (path, wrong) in enumerate(zip(paths, shares, strict=True)):
            path.write_bytes(write(table_of(seed + 10 * load + number, 40, wrong, with_key=with_key)))
        files.append(paths)
    # The second load brings a file again, one that is cut off, and one whose content came under another name.
    again, cut = folder / f"1-again.{kind}", folder / f"1-cut.{kind}"
    again.write_bytes(files[0][0].read_bytes())
    cut.write_bytes(files[0][1].read_bytes()[:-20] + b'"')
    files[1] += [again, cut, files[1][0]]
    if labels is not None:
        (folder / "labels.csv").write_text(
            "id,fraud,known_at\n3,1,2026-02-01\n5,0,2026-02-01\n7,1,2026-02-02\n77,1,2026-02-02\n"
        )

    results = {}
    for name in FORMS:
        lakehouse = new_lakehouse()
        store = TransactionStore(lakehouse, contract)
        if labels is not None:
            with lakehouse.exclusive(LABELS):
                label_loading.load_labels(LabelStore(lakehouse, contract), FilesSource(str(folder / "labels.csv")))
        with form(name), lakehouse.exclusive(RAW):
            reports = [loading.load(store, FilesSource(",".join(map(str, paths)))) for paths in files]
        results[name] = ([said(report) for report in reports], content(lakehouse))

    expected_reports, expected_tables = results["whole"]
    assert expected_tables[RAW], "rows came in"
    for name in FORMS[1:]:
        found_reports, tables = results[name]
        assert tables == expected_tables, name
        for found, expected in zip(found_reports, expected_reports, strict=True):
            assert found == expected, name


def rows_without_files() -> pa.Table:
    """Return rows of which some are bad and some come twice, as a table of somebody else has them."""
    return pa_csv.read_csv(
        io.BytesIO(csv_of(table_of(5, 60, 0.3, with_key=True))),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(ALL_TYPES.column_names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )


def test_a_large_commit_of_a_delta_table_is_read_file_by_file(
    new_lakehouse: Callable[[], Lakehouse], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place, rows = str(tmp_path / "theirs"), rows_without_files()
    write_deltalake(place, rows, partition_by=["flag"])
    write_deltalake(place, rows.slice(3, 20), mode="append", partition_by=["flag"])
    source = DeltaSource(place, has_key=True)

    def loaded() -> tuple[dict[str, Any], dict[str, list[str]]]:
        lakehouse = new_lakehouse()
        store = TransactionStore(lakehouse, ALL_TYPES.model_copy(update={"key": "id"}))
        with lakehouse.exclusive(RAW):
            return said(loading.load(store, source)), content(lakehouse)

    expected = loaded()
    assert expected[0]["quarantined"] > 5
    monkeypatch.setattr(large_files, "LARGE_BYTES", 1)
    monkeypatch.setattr(loading, "stage_load", None)
    assert loaded() == expected


def test_a_large_commit_of_a_catalog_table_never_comes_to_the_driver(
    new_lakehouse: Callable[[], Lakehouse], spark: SparkSession, schema: str, monkeypatch: pytest.MonkeyPatch
):
    """Positions are left out of the comparison: rows of a table have none."""
    name = f"spark_catalog.{schema}.theirs"
    columns = ", ".join(f"{column} STRING" for column in ALL_TYPES.column_names)
    spark.sql(f"CREATE TABLE {name} ({columns}) USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    # By event time the last write does not depend on positions, unless times are equal: those of a key all differ.
    rows = rows_without_files()
    distinct = pa.table(
        {**{c: rows[c] for c in rows.column_names}, "time": [f"2026-01-01 00:{n:02}" for n in range(60)]}
    )
    frame = spark.createDataFrame(distinct)
    for _ in range(2):
        frame.write.format("delta").mode("append").saveAsTable(name)
    source = CatalogSource(name, lambda: spark, has_key=True)

    def loaded() -> tuple[dict[str, Any], dict[str, list[str]]]:
        lakehouse = new_lakehouse()
        store = TransactionStore(lakehouse, ALL_TYPES.model_copy(update={"key": "id"}))
        with lakehouse.exclusive(RAW):
            report = said(loading.load(store, source))
            again = loading.load(store, source)
        assert again.accepted == 0
        return report, content(lakehouse, leave_out=[ROW_NUMBER])

    expected = loaded()
    assert expected[0]["quarantined"] > 5
    monkeypatch.setattr(catalog_source, "LARGE_ROWS", 0)
    monkeypatch.setattr(catalog_source, "_FILE_ROWS", 9)
    monkeypatch.setattr(catalog_source._Commit, "collected", None)
    assert loaded() == expected
