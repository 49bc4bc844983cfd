"""The report of a load, without Dagster: what went in, what did not, and whose fault it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.ingest.table_checks import TABLE_CHECKS
from mlops_assets.data.ingest.validation import INPUT_CHECKS
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SourceError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.loading import load, merge_labels, replay
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.assets.harness import replaced, transactions, write_csv


@pytest.fixture
def store(lakehouse: Lakehouse) -> TransactionStore:
    return TransactionStore(lakehouse, load_contract("creditcard"), "a run")


def test_a_report_says_what_became_of_every_input_and_row(store: TransactionStore, tmp_path: Path):
    good, broken = tmp_path / "a.csv", tmp_path / "b.csv"
    write_csv(replaced(transactions(), "amount", ["-1.00"]), good)
    broken.write_text("time,amount\n1,2\n")

    first = load(store, FilesSource(f"{good},{broken}"))
    second = load(store, FilesSource(str(good)))
    again = replay(store)

    assert [outcome.name for outcome in first.of_table] == list(TABLE_CHECKS)
    assert all(outcome.passed for outcome in first.of_table)
    assert [outcome.name for outcome in first.of_inputs] == list(INPUT_CHECKS)
    assert [outcome.name for outcome in first.outcomes if not outcome.passed] == ["inputs_readable"]
    assert (first.rows, first.accepted, first.quarantined, first.known) == (600, 599, 1, 0)
    assert (first.inputs_added, first.inputs_refused) == ([str(good)], [str(broken)])
    assert first.reasons == {"out_of_range:amount": 1}
    assert first.blames_input
    assert first.refusal == f"refused {broken}; none of their rows were written; loaded: {good}"
    assert first.tables is not None
    assert (first.tables.totals.rows, first.tables.totals.quarantined) == (599, 1)
    assert first.tables.first_rows.column_names == list(store.contract.column_names)

    assert (second.rows, second.accepted, second.known, second.inputs_known) == (600, 0, 600, [str(good)])
    assert second.summary == f"nothing new; already loaded: {good}"
    assert (again.rows, again.accepted, again.quarantined, again.set_aside) == (1, 0, 1, 0)
    assert again.tables is not None
    assert again.tables.raw == first.tables.raw


def test_a_load_that_is_refused_whole_reports_no_tables(store: TransactionStore, tmp_path: Path):
    bad = tmp_path / "bad.csv"
    write_csv(replaced(transactions(), "amount", ["-1.00"] * 300), bad)

    report = load(store, FilesSource(str(bad)))

    assert report.tables is None
    assert report.refusal == f"refused {bad}; nothing was written"
    assert report.blames_input
    assert report.of_table == (), "nothing was written, so there is nothing to judge"
    assert [outcome.name for outcome in report.outcomes if not outcome.passed] == ["ranges"]
    assert store.snapshot().raw is None


def test_nothing_but_errors_is_the_error_itself(store: TransactionStore, tmp_path: Path):
    (tmp_path / "empty.csv").write_text("")

    with pytest.raises(SourceError):
        load(store, FilesSource(str(tmp_path / "empty.csv")))


def test_labels_alone_want_a_raw_table(store: TransactionStore, tmp_path: Path):
    write_csv(transactions(), tmp_path / "a.csv")
    load(store, FilesSource(str(tmp_path / "a.csv")))

    report = merge_labels(store)

    assert (report.rows, report.labels_merged) == (0, 0)
    assert report.summary == "0 rows got a late label"
    assert report.of_inputs == (), "no input was read"
    accounted, classes = report.of_table
    assert accounted.passed
    assert accounted.description == "600 rows before late labels were merged, 600 afterwards"
    assert classes.passed
    assert sum(int(rows) for rows in classes.details.values()) == 600
