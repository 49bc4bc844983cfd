"""Late labels from file to set: brought, merged, matured; with what a user sees of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from mlops_assets.assets.reporting import REFUSED_INPUT
from mlops_assets.assets.splits import SplitConfig, Strategy
from mlops_assets.data.contract.contract import Column, Contract, LabelColumns
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import pinned_sets
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import bring_labels, load, plain, split, write_csv
from mlops_assets_tests.installation import copy_tables

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="timestamp"),
        Column(name="amount", type="double"),
        Column(name="fraud", type="long", nullable=True),
    ),
    features=("amount",),
    key="id",
    target="fraud",
    event_time="at",
    label_delay_days=5,
    labels=LabelColumns(key="id", label="is_fraud", known_at="known_at"),
    max_bad_share=0.2,
)
# One transaction an hour; the last five days are too young for a label of their own.
HOURS, YOUNG = 1_200, 120
NO_GAP = SplitConfig(gap_days=0)


def hours_ago(hours: float) -> str:
    return (NOW - dt.timedelta(hours=hours)).isoformat()


def transactions(*, unlabelled: int = 0) -> pa.Table:
    """Return transactions up to now, every seventh a fraud; the first have no label yet."""
    fraud = [None if number < unlabelled else int(number % 7 == 0) for number in range(HOURS)]
    return pa.table(
        {
            "id": range(HOURS),
            # Half an hour aside, so that the days between are clearly so many.
            "at": [hours_ago(HOURS - number - 0.5) for number in range(HOURS)],
            "amount": [float(number % 10) for number in range(HOURS)],
            "fraud": pa.array(fraud, pa.int64()),
        }
    )


def labels(path: Path, *rows: tuple[Any, Any, Any]) -> Path:
    columns = zip(*rows, strict=True)
    table = pa.table(
        {name: [str(v) for v in column] for name, column in zip(("id", "is_fraud", "known_at"), columns, strict=True)}
    )
    pa_csv.write_csv(table, path)
    return path


@pytest.fixture(scope="module")
def labelled_once(new_lakehouse: Callable[[], Lakehouse], tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Tables with all transactions, each with a label of its own."""
    lakehouse = new_lakehouse()
    assert load(lakehouse, write_csv(transactions(), tmp_path_factory.mktemp("cards") / "t.csv"), CARDS).failure is None
    return lakehouse


@pytest.fixture
def labelled(labelled_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    return copy_tables(labelled_once, lakehouse)


def test_labels_mature_rows_and_what_has_none_is_left_out_and_counted(catalog: Lakehouse, tmp_path: Path):
    """In tables by name, as on Databricks; the others here are in folders."""
    loaded = load(catalog, write_csv(transactions(unlabelled=30), tmp_path / "t.csv"), CARDS)
    assert loaded.failure is None
    assert loaded.metadata["unlabelled_rows"] == 30
    before = split(catalog, NO_GAP, CARDS)
    assert before.failure is None, before.message
    assert before.checks["complete"].description == (
        "1,050 rows in sets + 0 in the gap + 120 immature + 30 unlabelled of 1,200 raw rows"
    )

    # Ten of those without a label get one, ten young ones as well, one says that it is known in the future.
    rows = [(number, number % 2, hours_ago(1)) for number in (*range(10), *range(HOURS - 10, HOURS))]
    brought = bring_labels(catalog, labels(tmp_path / "l.csv", *rows, (15, 1, hours_ago(-48))), CARDS)
    assert brought.failure is None
    assert (brought.metadata["rows_added"], brought.metadata["rows_quarantined"]) == (20, 1)
    assert (brought.metadata["labels_in_force"], brought.metadata["labels_waiting"]) == (20, 0)
    assert "from_the_future:known_at" in brought.metadata["reasons_of_this_load"]
    merged = load(catalog, contract=CARDS, labels_only=True)
    assert merged.failure is None
    assert merged.failed_checks == []
    assert (merged.metadata["labels_merged"], merged.metadata["late_labels"]) == (20, 20)
    assert merged.metadata["unlabelled_rows"] == 20

    after = split(catalog, NO_GAP, CARDS)
    assert after.failure is None, after.message
    complete = after.checks["complete"]
    assert complete.description == "1,070 rows in sets + 0 in the gap + 110 immature + 20 unlabelled of 1,200 raw rows"
    assert (complete.metadata["immature_rows"].value, complete.metadata["unlabelled_rows"].value) == (110, 20)
    by_set = [plain(result) for result in after.results]
    assert [found["late_labels"] for found in by_set] == [10, 0, 10]
    assert by_set[0]["label_delay_days"] == 5.0
    assert 0 < by_set[2]["youngest_label_days"] < 1 < by_set[1]["youngest_label_days"] < by_set[1]["label_age_days"]
    for table in pinned_sets(catalog).values():
        assert catalog.read(table.name, table.version).where("fraud IS NULL").count() == 0


def test_from_an_earlier_moment_younger_labels_are_not_used(labelled: Lakehouse, tmp_path: Path):
    bring_labels(labelled, labels(tmp_path / "l.csv", *((n, 1, hours_ago(24)) for n in range(20))), CARDS)
    load(labelled, contract=CARDS, labels_only=True)

    outcome = split(labelled, SplitConfig(gap_days=0, as_of=hours_ago(240), strategy=Strategy.stratified), CARDS)

    assert outcome.failure is None, outcome.message
    # Ten days and the delay of five are 360 hours; the twenty early rows have a label from yesterday.
    assert plain(outcome.results[0])["immature_rows"] == 360 + 20
    later = split(labelled, SplitConfig(gap_days=0, strategy=Strategy.stratified), CARDS)
    assert plain(later.results[0])["immature_rows"] == YOUNG
    assert plain(later.results[0])["delta_version"] == 1, "another cut of the same version"
    assert "is not a valid" in split(labelled, SplitConfig(as_of="soon"), CARDS).message


def test_where_no_label_is_mature_the_error_says_so(lakehouse: Lakehouse, tmp_path: Path):
    load(lakehouse, write_csv(transactions(unlabelled=HOURS), tmp_path / "t.csv"), CARDS)

    outcome = split(lakehouse, NO_GAP, CARDS)

    assert "0 rows with 0 distinct keys can't fill three sets; 1,200 more rows have no mature label" in outcome.message
    assert lakehouse.current("train_set") is None


def test_a_bad_file_is_refused_as_input_and_good_ones_beside_it_are_in(lakehouse: Lakehouse, tmp_path: Path):
    folder = tmp_path / "labels"
    folder.mkdir()
    nothing = bring_labels(lakehouse, folder, CARDS)
    assert nothing.failure is None
    assert (nothing.metadata["delta_version"], nothing.metadata["rows_in"]) == (-1, 0)

    labels(folder / "bad.csv", (1, 7, hours_ago(2)), (2, 1, hours_ago(2)))
    labels(folder / "good.csv", (1, 1, hours_ago(2)))
    outcome = bring_labels(lakehouse, folder, CARDS)

    assert outcome.failed_checks == ["label_files_readable"]
    assert "1 of 2 label rows are bad: not_binary:is_fraud (1 rows)" in outcome.message
    assert outcome.failure is not None
    assert REFUSED_INPUT in outcome.failure.metadata
    assert (outcome.metadata["delta_version"], outcome.metadata["rows_added"]) == (0, 1)
    assert outcome.metadata["labels_waiting"] == 1
    again = bring_labels(lakehouse, folder / "good.csv", CARDS)
    assert again.failure is None
    assert (again.metadata["delta_version"], again.metadata["rows_already_known"]) == (0, 1)
    only_bad = bring_labels(lakehouse, folder / "bad.csv", CARDS)
    assert only_bad.results == []
    assert "none of their rows were written" in only_bad.message
    assert "no such folder" in bring_labels(lakehouse, tmp_path / "none", CARDS).message.replace("file or ", "")


def test_one_run_brings_labels_and_merges_them_without_looking_at_the_source(labelled: Lakehouse, tmp_path: Path):
    """The job as Dagster runs it, from the definitions: labels first, then the transactions' table."""
    contract = tmp_path / "cards.yaml"
    contract.write_text(CARDS.to_yaml())
    place = labels(tmp_path / "l.csv", (1, 1, hours_ago(3)))
    settings = Settings(home=tmp_path, contract=str(contract), source="/nowhere", labels=str(place))
    job = build_defs(settings, lakehouse=labelled).resolve_job_def("merge_labels")

    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(instance=instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("raw_transactions"))

    assert done.success
    assert event is not None
    assert event.asset_materialization is not None
    found = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (found["labels_merged"], found["rows_added"], found["delta_version"]) == (1, 0, 2)


def test_labels_without_transactions_say_what_to_materialize(lakehouse: Lakehouse):
    assert "materialize `raw_transactions` first" in load(lakehouse, contract=CARDS, labels_only=True).message
