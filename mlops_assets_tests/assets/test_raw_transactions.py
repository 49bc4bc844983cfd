"""raw_transactions and its quarantine: what gets in, what is set aside or refused, and that nothing gets in twice."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.assets.raw_transactions import build_raw_transactions
from mlops_assets.assets.reporting import REFUSED_INPUT
from mlops_assets.assets.sources import (
    DeltaTransactions,
    FileTransactions,
    OpenMLTransactions,
    SourceConfig,
    SyntheticTransactions,
)
from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.data.ingest.table_checks import TABLE_CHECKS
from mlops_assets.data.ingest.validation import INPUT_CHECKS
from mlops_assets.data.sources.arrivals import Arrivals
from mlops_assets.data.sources.base import SourceBatch, TransactionSource
from mlops_assets.data.sources.download import HttpPolicy
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.openml import OpenMLSource
from mlops_assets.definitions import build_defs
from mlops_assets.errors import UnreachableError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import quarantined_rows
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.settings import Settings
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.assets.conftest import Loaded
from mlops_assets_tests.assets.harness import SMALL, Databases, load, replaced, replay, spec_of, transactions, write_csv


def quarantined(lakehouse: Lakehouse) -> list[dict[str, Any]]:
    """Return what a reader sees of the quarantine."""
    store = TransactionStore(lakehouse, load_contract("creditcard"))
    return quarantined_rows(lakehouse, store.snapshot(), 1_000).sort_by("_row_number").to_pylist()


def rows_of(lakehouse: Lakehouse) -> int:
    current = lakehouse.current("raw_transactions")
    return 0 if current is None else lakehouse.read("raw_transactions", current.version).count()


def test_a_load_materializes_with_version_counts_fraud_rate_preview_and_schema(small_loaded: Loaded):
    outcome, rows = small_loaded.outcome, rows_of(small_loaded.lakehouse)

    assert outcome.failure is None
    assert outcome.metadata["delta_version"] == 0
    assert outcome.metadata["rows_added"] == outcome.metadata["dagster/row_count"] == rows == 4_000
    assert outcome.metadata["fraud_rate"] == pytest.approx(0.03, abs=0.005)
    assert outcome.metadata["preview"].startswith("| time | v1 |")
    assert [column.name for column in outcome.metadata["dagster/column_schema"].columns][:2] == ["time", "v1"]
    assert list(outcome.checks) == list(TABLE_CHECKS)
    assert outcome.failed_checks == []
    assert list(outcome.findings) == list(INPUT_CHECKS)
    assert outcome.failed_inputs == []


def test_loading_the_same_input_twice_adds_nothing(known: Lakehouse, tmp_path: Path):
    table = transactions()

    again = load(known, write_csv(table, tmp_path / "renamed.csv"))

    assert again.metadata["rows_added"] == 0
    assert again.metadata["delta_version"] == 0
    assert again.metadata["inputs_already_known"] == [str(tmp_path / "renamed.csv")]
    assert rows_of(known) == len(table)


def test_a_folder_brings_its_new_files_only_and_the_first_version_stays_readable(known: Lakehouse, tmp_path: Path):
    """The new one has a bad row; of neither of its kinds of rows anything is left in staging."""
    folder = tmp_path / "landing"
    write_csv(transactions(), folder / "1.csv")
    write_csv(replaced(transactions(seed=2), "v1", ["x"]), folder / "2.csv")

    outcome = load(known, FileTransactions(location=str(folder)))

    assert (outcome.metadata["delta_version"], outcome.metadata["rows_added"]) == (1, 599)
    assert outcome.metadata["inputs_added"] == [str(folder / "2.csv")]
    assert outcome.metadata["inputs_already_known"] == [str(folder / "1.csv")]
    assert rows_of(known) == 1_199
    assert known.read("raw_transactions", 0).count() == 600
    assert list(Path(known.root).glob("_staging/*/*")) == []


def test_parquet_and_csv_give_the_same_rows(known: Lakehouse, tmp_path: Path):
    pq.write_table(transactions(), tmp_path / "t.parquet")  # other bytes than the CSV file's, so another batch
    load(known, FileTransactions(location=str(tmp_path / "t.parquet")))

    by_source = known.read("raw_transactions", 1).drop("_ingested_at", "_source", "_batch_id")

    assert by_source.count() == 2 * by_source.distinct().count()


BAD_VALUES = {
    "contract_types": ("v3", ["oops", "1,5"], "v3 (2 rows), such as 'oops'", ["unreadable:v3", "unreadable:v3"]),
    "no_nulls": ("amount", ["", "nan", "nan"], "amount (3 rows)", ["null:amount"] * 3),
    "no_infinities": ("v28", ["inf"], "v28 (1 rows)", ["infinite:v28"]),
    "ranges": ("amount", ["-1.00"], "amount (1 rows)", ["out_of_range:amount"]),
    "binary_target": ("class", ["2", "3"], "class holds 2 (1 rows), 3 (1 rows)", ["not_binary:class"] * 2),
}


# The first bad row of each kind comes before the second ones, so that the preview of five rows shows every kind.
BAD_ROWS = {
    (check, turn): turn * len(BAD_VALUES) + place
    for turn in range(3)
    for place, (check, (_, values, _, _)) in enumerate(BAD_VALUES.items())
    if turn < len(values)
}


@pytest.fixture(scope="module")
def spoilt(new_lakehouse: Callable[[], Lakehouse], tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Tables after a load of 1,200 rows, a few of which have one bad value each, of every kind."""
    table = transactions(1_200)
    for check, (column, values, _, _) in BAD_VALUES.items():
        texts = [str(value) for value in table.column(column).to_pylist()]
        for turn, value in enumerate(values):
            texts[BAD_ROWS[check, turn]] = value
        table = replaced(table, column, texts)
    lakehouse = new_lakehouse()
    return Loaded(lakehouse, load(lakehouse, write_csv(table, tmp_path_factory.mktemp("spoilt") / "few.csv")))


@pytest.mark.parametrize("check", BAD_VALUES)
def test_rows_with_a_bad_value_are_set_aside(spoilt: Loaded, check: str):
    column, values, said, reasons = BAD_VALUES[check]
    outcome = spoilt.outcome

    assert outcome.failure is None
    assert (outcome.failed_checks, outcome.failed_inputs) == ([], [])
    assert said in outcome.findings[check][1]
    assert outcome.metadata["rows_in"] == 1_200
    assert outcome.metadata["rows_added"] == rows_of(spoilt.lakehouse) == 1_200 - len(BAD_ROWS)
    assert outcome.metadata["rows_quarantined"] == outcome.quarantine["dagster/row_count"] == len(BAD_ROWS)
    rows = {row["_row_number"]: row for row in quarantined(spoilt.lakehouse)}
    assert sorted(rows) == sorted(BAD_ROWS.values())
    ours = [rows[BAD_ROWS[check, turn]] for turn in range(len(values))]
    assert [row["reasons"] for row in ours] == [[reason] for reason in reasons]
    assert [dict(row["original"])[column] for row in ours] == [value or None for value in values]
    assert {Path(row["_source"]).name for row in ours} == {"few.csv"}
    assert reasons[0] in outcome.quarantine["preview"]


@pytest.mark.parametrize("check", BAD_VALUES)
def test_more_bad_rows_than_the_contract_allows_refuse_the_input(lakehouse: Lakehouse, tmp_path: Path, check: str):
    """600 rows, of which one in a hundred may be bad."""
    column, values, _, _ = BAD_VALUES[check]
    source = write_csv(replaced(transactions(), column, [values[0]] * 7), tmp_path / "bad.csv")

    outcome = load(lakehouse, source)

    assert outcome.failed_inputs == [check]
    assert "7 of 600 rows are bad); at most 1.00% may be set aside" in outcome.findings[check][1]
    assert outcome.checks == {}, "nothing was written, so the table's checks had nothing to judge"
    assert "bad.csv" in outcome.message
    assert outcome.results == []
    assert lakehouse.current("raw_transactions") is None
    assert lakehouse.current("quarantined_transactions") is None


def test_time_that_goes_back_refuses_the_input(lakehouse: Lakehouse, tmp_path: Path):
    outcome = load(lakehouse, write_csv(replaced(transactions(), "time", ["999999"]), tmp_path / "bad.csv"))

    assert outcome.failed_inputs == ["time_ordered"]
    assert "time goes back in" in outcome.message
    assert lakehouse.current("raw_transactions") is None


def test_a_bad_input_is_named_and_does_not_keep_the_others_out(lakehouse: Lakehouse, tmp_path: Path):
    """A file that someone has to look at must not stop the landing place for all."""
    landing = tmp_path / "landing"
    write_csv(transactions(seed=1), landing / "1.csv")
    write_csv(replaced(transactions(seed=2), "v1", ["x"] * 50), landing / "2.csv")
    packed = gzip.compress((landing / "1.csv").read_bytes())
    (landing / "3.csv.gz").write_bytes(packed[: len(packed) // 2])
    (landing / "4.csv").write_bytes("time,v1\n1,\xe4\n".encode("latin-1"))
    write_csv(transactions(seed=5).drop_columns(["v7"]), landing / "5.csv")
    write_csv(transactions(seed=6), landing / "6.csv")

    outcome = load(lakehouse, FileTransactions(location=str(landing)))

    assert outcome.failed_inputs == ["inputs_readable", "contract_types"]
    assert list(outcome.checks) == list(TABLE_CHECKS)
    assert outcome.failed_checks == [], "the table is what it would be without the bad files"
    assert outcome.metadata["inputs_added"] == [str(landing / "1.csv"), str(landing / "6.csv")]
    assert outcome.metadata["inputs_refused"] == [
        str(landing / name) for name in ("2.csv", "3.csv.gz", "4.csv", "5.csv")
    ]
    refused, _, loaded = outcome.message.partition("; none of their rows were written; loaded: ")
    assert [f"{number}.csv" in refused for number in range(1, 7)] == [False, True, True, True, True, False]
    assert loaded.startswith(f"{landing / '1.csv'}, {landing / '6.csv'}: inputs_readable: ")
    assert "3.csv.gz: not a complete gzip file" in loaded
    assert "4.csv: not UTF-8 text: line 2 holds the byte 0xe4" in loaded
    assert "5.csv: missing columns: v7" in loaded
    assert rows_of(lakehouse) == 1_200
    for name in ("2.csv", "3.csv.gz", "4.csv", "5.csv"):
        (landing / name).unlink()
    assert load(lakehouse, FileTransactions(location=str(landing))).failure is None
    assert rows_of(lakehouse) == 1_200


def test_a_bad_load_leaves_an_existing_table_as_it_was(known: Lakehouse, tmp_path: Path):
    outcome = load(known, write_csv(replaced(transactions(seed=9), "v1", ["x"] * 9), tmp_path / "bad.csv"))

    assert outcome.failure is not None
    assert known.require("raw_transactions", made_by="test").version == 0
    assert rows_of(known) == 600


def test_one_class_only_is_refused_until_the_table_knows_the_other(
    lakehouse: Lakehouse, file_loaded: Lakehouse, tmp_path: Path
):
    table = transactions(seed=1)
    genuine = table.filter(pa.compute.equal(table.column("class"), 0))
    refused = load(lakehouse, write_csv(genuine, tmp_path / "genuine.csv"))
    assert refused.failed_inputs == ["load_classes"]
    assert "0 frauds" in refused.message

    copy_tables(file_loaded, lakehouse)  # both classes
    accepted = load(lakehouse, write_csv(genuine, tmp_path / "genuine.csv"))

    assert accepted.metadata["rows_added"] == len(genuine)


def test_too_few_rows_are_refused(lakehouse: Lakehouse, tmp_path: Path, creditcard: Contract):
    strict = creditcard.model_copy(update={"min_rows": 601})

    outcome = load(lakehouse, write_csv(transactions(), tmp_path / "short.csv"), strict)

    assert outcome.failed_inputs == ["volume"]
    assert "600 rows, at least 601 expected" in outcome.message


def test_wrong_columns_are_refused_by_name(lakehouse: Lakehouse, tmp_path: Path):
    table = transactions().drop_columns(["v7"]).append_column("colour", pa.array(["red"] * 600))

    outcome = load(lakehouse, write_csv(table, tmp_path / "wrong.csv"))

    assert "missing columns: v7; unknown columns: colour" in outcome.message
    assert "wrong.csv" in outcome.message
    assert outcome.failure is not None
    assert outcome.failure.metadata["differences"].value == (
        "| column | problem | creditcard v1 | input |\n|---|---|---|---|\n"
        "| v7 | missing | double |  |\n| colour | unknown |  | string |"
    )
    assert lakehouse.current("raw_transactions") is None


class TriedOnce(OpenMLTransactions):
    """OpenML without the pauses between tries, which take 15 s."""

    def open(self) -> OpenMLSource:
        return OpenMLSource(base_url=self.base_url, cache_dir=Path(self.cache_dir), http=HttpPolicy(tries=1))


@pytest.mark.parametrize(
    ("source", "said", "transient"),
    [
        (FileTransactions(location="/nowhere/at/all.csv"), "/nowhere/at/all.csv", False),
        (TriedOnce(base_url="http://127.0.0.1:9", cache_dir="/tmp/never-written"), "127.0.0.1:9", True),  # noqa: S108
        (SyntheticTransactions(rows=3), "rows", False),
    ],
    ids=["no such file", "OpenML down", "synthetic parameters"],
)
def test_a_source_that_cannot_be_read_gives_one_clear_error(
    lakehouse: Lakehouse, source: FileTransactions, said: str, transient: bool
):
    outcome = load(lakehouse, source)

    assert said in outcome.message
    assert "Fix:" in outcome.message
    assert outcome.failure is not None
    assert outcome.failure.allow_retries is transient


def test_an_empty_file_is_refused(lakehouse: Lakehouse, tmp_path: Path):
    (tmp_path / "empty.csv").write_text("")

    assert "empty.csv" in load(lakehouse, FileTransactions(location=str(tmp_path / "empty.csv"))).message


def test_only_checks_of_the_table_are_checks_and_they_block():
    asset = build_raw_transactions(spec_of(), SMALL)

    assert {spec.name: spec.blocking for spec in asset.check_specs} == dict.fromkeys(TABLE_CHECKS, True)


def fixed(contract: Contract, version: int = 2) -> Contract:
    """Return the contract in which amounts may be below zero, since they are no longer the money at stake."""
    columns = tuple(c.model_copy(update={"min": -5.0}) if c.name == "amount" else c for c in contract.columns)
    return contract.model_copy(update={"version": version, "columns": columns, "amount": None})


@pytest.fixture(scope="module")
def waiting_once(new_lakehouse: Callable[[], Lakehouse], tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Tables with three rows in quarantine: the first has two bad values, the others only an amount below zero."""
    lakehouse = new_lakehouse()
    table = replaced(replaced(transactions(), "amount", ["-1.00"] * 3), "v3", ["oops"])
    load(lakehouse, write_csv(table, tmp_path_factory.mktemp("waiting") / "a.csv"))
    return lakehouse


@pytest.fixture
def waiting(waiting_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    return copy_tables(waiting_once, lakehouse)


@pytest.mark.proof  # three loads; `lakehouse/test_transactions` replays as well
def test_a_replay_brings_in_what_the_mended_contract_accepts(waiting: Lakehouse, creditcard: Contract):
    outcome = replay(waiting, fixed(creditcard))

    assert outcome.failure is None
    assert list(outcome.checks) == list(TABLE_CHECKS)
    assert outcome.findings == {}, "no input was read"
    assert outcome.checks["rows_accounted"].description == "3 rows in = 2 accepted + 1 quarantined + 0 already known"
    assert (outcome.metadata["rows_added"], outcome.quarantine["dagster/row_count"]) == (2, 1)
    assert rows_of(waiting) == 599
    assert "unreadable:v3" in outcome.quarantine["preview"]


@pytest.mark.proof  # two runs of a job
def test_the_job_replays_with_the_contract_of_the_settings(waiting: Lakehouse, tmp_path: Path, creditcard: Contract):
    (tmp_path / "fixed.yaml").write_text(fixed(creditcard).to_yaml())
    settings = Settings(home=tmp_path, contract=str(tmp_path / "fixed.yaml"))

    result = (
        build_defs(settings, lakehouse=Databases(waiting)).resolve_job_def("replay_quarantine").execute_in_process()
    )

    assert result.success
    assert {event.step_key for event in result.get_asset_materialization_events()} == {"raw_transactions"}
    assert rows_of(waiting) == 599


def test_a_changed_contract_under_the_same_version_is_refused_with_a_table_of_the_changes(
    known: Lakehouse, tmp_path: Path, creditcard: Contract
):
    outcome = load(known, write_csv(transactions(seed=2), tmp_path / "b.csv"), fixed(creditcard, version=1))

    assert "its version is still 1: amount: changed min (0.0 -> -5.0)" in outcome.message
    assert outcome.failure is not None
    assert "| amount | changed min | 0.0 | -5.0 |" in str(outcome.failure.metadata["differences"].value)
    assert rows_of(known) == 600


@pytest.mark.proof  # several loads; `lakehouse/test_transactions` tests the rule
def test_a_table_with_a_key_takes_corrections_and_overlaps(lakehouse: Lakehouse, tmp_path: Path, creditcard: Contract):
    features = tuple(name for name in creditcard.features if name != "v1")
    keyed = creditcard.model_copy(update={"key": "v1", "features": features})
    table = transactions()
    distinct = pc.count_distinct(table.column("v1")).as_py()
    load(lakehouse, write_csv(table, tmp_path / "a.csv"), keyed)
    corrected = table.slice(100, 50).set_column(
        table.column_names.index("class"), "class", pc.subtract(1, table.slice(100, 50).column("class"))
    )

    outcome = load(lakehouse, write_csv(pa.concat_tables([table.slice(50, 50), corrected]), tmp_path / "b.csv"), keyed)

    assert outcome.failed_checks == []
    assert outcome.metadata["rows_in"] == 100
    assert outcome.metadata["rows_added"] == pc.count_distinct(corrected.column("v1")).as_py()
    assert rows_of(lakehouse) == distinct


def test_both_assets_come_from_one_step():
    asset = build_raw_transactions(spec_of(), SMALL)

    assert asset.keys == {dg.AssetKey("raw_transactions"), dg.AssetKey("quarantined_transactions")}
    assert asset.can_subset is False


# What the sensor of new files reads of a failure: whether the input is to blame.


class WithOneAway(SourceConfig):
    """Files of a place, after one that can't be reached now."""

    location: str = ""

    def open(self) -> TransactionSource:
        return AwayFirst(self.location)

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals.FILES


@dataclass
class AwayFirst:
    location: str

    def batches(self) -> Iterator[SourceBatch]:
        return map(_only_batch, ["", *filter(None, [self.location])])


def _only_batch(location: str) -> SourceBatch:
    if not location:
        raise UnreachableError("no answer", where="away.csv", fix="wait")
    (batch,) = FilesSource(location).batches()
    return batch


def _garbled(path: Path) -> str:
    path.write_bytes("time,v1\n1,\xe4\n".encode("latin-1"))
    return str(path)


def _refused_inputs(folder: Path) -> dict[str, str]:
    """Return an input for each way of refusing one."""
    table = transactions(seed=2)
    return {
        "wrong schema": write_csv(table.drop_columns(["v7"]), folder / "schema.csv").location,
        "too many bad rows": write_csv(replaced(table, "v1", ["x"] * 50), folder / "bad.csv").location,
        "unreadable": _garbled(folder / "garbled.csv"),
        "time goes back": write_csv(replaced(table, "time", ["999999"]), folder / "time.csv").location,
    }


REFUSED = ("wrong schema", "too many bad rows", "unreadable", "time goes back")


ALONE, GOOD, AWAY = "alone", "beside a good file", "beside one that is away"


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        *itertools.product(REFUSED, [ALONE, AWAY]),
        (REFUSED[0], GOOD),
        # How an input is refused does not change what is committed of another one.
        *(pytest.param(kind, GOOD, marks=pytest.mark.proof) for kind in REFUSED[1:]),
    ],
)
def test_a_refused_input_is_blamed_however_it_is_refused(lakehouse: Lakehouse, tmp_path: Path, kind: str, beside: str):
    bad = _refused_inputs(tmp_path)[kind]
    good = write_csv(transactions(), tmp_path / "good.csv").location
    sources: dict[str, SourceConfig] = {
        ALONE: FileTransactions(location=bad),
        GOOD: FileTransactions(location=f"{good},{bad}"),
        AWAY: WithOneAway(location=bad),
    }

    outcome = load(lakehouse, sources[beside])

    assert outcome.failure is not None
    assert REFUSED_INPUT in outcome.failure.metadata
    assert rows_of(lakehouse) == (600 if beside == GOOD else 0)


def test_a_load_that_is_refused_as_a_whole_blames_its_input(lakehouse: Lakehouse, tmp_path: Path, creditcard: Contract):
    strict = creditcard.model_copy(update={"min_rows": 601})
    source = write_csv(transactions(), tmp_path / "short.csv")

    whole, partly = load(lakehouse, source, strict), load(lakehouse, WithOneAway(location=source.location), strict)

    assert whole.failure is not None
    assert partly.failure is not None
    assert REFUSED_INPUT in whole.failure.metadata
    # The rows that are missing may be those that can't be reached.
    assert REFUSED_INPUT not in partly.failure.metadata


@pytest.mark.parametrize("beside", ["alone", "beside a good file", "beside a known file"])
def test_an_input_that_is_away_is_not_blamed(lakehouse: Lakehouse, file_loaded: Lakehouse, tmp_path: Path, beside: str):
    good = write_csv(transactions(), tmp_path / "good.csv")
    if beside == "beside a known file":
        copy_tables(file_loaded, lakehouse)

    outcome = load(lakehouse, WithOneAway(location="" if beside == "alone" else good.location))

    assert "no answer" in outcome.message
    assert outcome.failure is not None
    assert REFUSED_INPUT not in outcome.failure.metadata
    assert rows_of(lakehouse) == (0 if beside == "alone" else 600)


def test_a_version_of_a_watched_table_that_adds_nothing_is_a_load_of_nothing_new(lakehouse: Lakehouse, tmp_path: Path):
    """OPTIMIZE writes a version without a new row; refused, it would keep the sensor from what comes after it."""
    watched = str(tmp_path / "watched")
    for seed in (1, 2):
        write_deltalake(watched, transactions(seed=seed), mode="append")
    first = load(lakehouse, DeltaTransactions(location=watched))
    DeltaTable(watched).optimize.compact()

    again = load(lakehouse, DeltaTransactions(location=watched, after_version=1))

    assert first.failure is None
    assert again.failure is None
    assert again.failed_checks == []
    assert again.metadata["rows_in"] == 0
    assert again.metadata["delta_version"] == first.metadata["delta_version"]
    assert again.metadata["dagster/row_count"] == 1_200
