"""Late labels from file to set: brought, merged, matured; with what a user sees of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pytest
from pyspark.sql import DataFrame

from mlops_assets.assets.reporting import REFUSED_INPUT
from mlops_assets.assets.splits import SplitConfig, Strategy
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.mature_rows import mature_rows
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import plain
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.assets.harness import Databases, bring_labels, load, split, write_csv

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


@pytest.mark.proof  # several cuts; `data/labels` tests the rule
def test_labels_mature_rows_and_what_has_none_is_left_out_and_counted(catalog: Lakehouse, tmp_path: Path):
    """In tables by name, as on Databricks; the others here are in folders."""
    loaded = load(catalog, write_csv(transactions(unlabelled=30), tmp_path / "t.csv"), CARDS)
    assert loaded.failure is None
    assert loaded.metadata["unlabelled_rows"] == 30
    before = split(catalog, NO_GAP, CARDS)
    assert before.failure is None, before.message
    assert before.checks["complete"].description == (
        "1,050 rows in sets + 0 in the gap + 120 immature (17 frauds) + 30 unlabelled of 1,200 raw rows"
    )

    # Ten of those without a label got one soon, five more only now, as did ten young ones and a fraud that was missed;
    # one says that it is known in the future.
    soon = [(number, number % 2, hours_ago(1_000)) for number in range(10)]
    now = [(number, 1, hours_ago(1)) for number in (*range(10, 15), 31, *range(HOURS - 10, HOURS))]
    brought = bring_labels(catalog, labels(tmp_path / "l.csv", *soon, *now, (15, 1, hours_ago(-48))), CARDS)
    assert brought.failure is None
    assert (brought.metadata["rows_added"], brought.metadata["rows_quarantined"]) == (26, 1)
    assert (brought.metadata["labels_in_force"], brought.metadata["labels_waiting"]) == (26, 0)
    assert "from_the_future:known_at" in brought.metadata["reasons_of_this_load"]
    merged = load(catalog, contract=CARDS, labels_only=True)
    assert merged.failure is None
    assert merged.failed_checks == []
    assert (merged.metadata["labels_merged"], merged.metadata["late_labels"]) == (26, 26)
    assert merged.metadata["unlabelled_rows"] == 15

    after = split(catalog, NO_GAP, CARDS)
    assert after.failure is None, after.message
    complete = after.checks["complete"]
    young = sum(number % 7 == 0 for number in range(HOURS - YOUNG, HOURS - 10)) + 10
    assert complete.description == (
        f"1,060 rows in sets + 0 in the gap + 120 immature ({young} frauds) + 20 unlabelled of 1,200 raw rows"
    )
    assert (complete.metadata["immature_rows"].value, complete.metadata["unlabelled_rows"].value) == (120, 20)
    by_set = [plain(result) for result in after.results]
    assert [found["immature_frauds"] for found in by_set] == [young] * 3
    assert [found["frauds_known_later"] for found in by_set] == [6, 0, 0], "a split in time does not know them yet"
    assert [found["late_labels"] for found in by_set] == [10, 0, 0]
    assert by_set[0]["label_delay_days"] == 5.0
    assert 5 < by_set[2]["youngest_label_days"] < 6 < by_set[1]["youngest_label_days"] < by_set[1]["label_age_days"]
    sets = {name: catalog.read(table.name, table.version) for name, table in pinned_sets(catalog).items()}
    assert all(rows.where("fraud IS NULL").isEmpty() for rows in sets.values())
    assert not {"_own_label", "_label_history"} & set(sets["train"].columns)
    assert [row["fraud"] for row in sets["train"].where("id = 31").collect()] == [0]


@pytest.mark.proof  # a search; `lakehouse/mature_rows` chooses the rows
def test_a_model_for_production_learns_from_every_mature_row_and_every_label(labelled: Lakehouse, tmp_path: Path):
    """A rehearsal of it knows neither the labels nor the rows of later: the control is the same question of `now`."""
    bring_labels(labelled, labels(tmp_path / "l.csv", *((n, 1, hours_ago(1)) for n in range(20))), CARDS)
    load(labelled, contract=CARDS, labels_only=True)
    assert split(labelled, None, CARDS).failure is None
    sets = pinned_sets(labelled)

    found = mature_rows(labelled, CARDS, sets)

    def ids(rows: DataFrame) -> set[int]:
        return {row["id"] for row in rows.select("id").collect()}

    def frauds(rows: DataFrame) -> int:
        return rows.where("id < 20 AND fraud = 1").count()

    by_set = {name: ids(labelled.read(table.name, table.version)) for name, table in sets.items()}
    assert ids(found.now) == set(range(HOURS - YOUNG)) > set.union(*by_set.values())
    assert found.gap is not None
    assert ids(found.gap) == set(range(max(by_set["train"]) + 1, min(by_set["validation"])))
    assert len(ids(found.gap)) == 5 * 24
    assert ids(found.before_test) == set(range(max(by_set["validation"]) + 1))
    assert (frauds(found.before_test), frauds(found.now)) == (3, 20)


@pytest.mark.proof  # two cuts; `data/splits` tests the rule
def test_sets_that_overlap_in_time_have_no_gap_between_them(labelled: Lakehouse):
    assert split(labelled, SplitConfig(gap_days=0, strategy=Strategy.stratified), CARDS).failure is None
    sets = pinned_sets(labelled)

    found = mature_rows(labelled, CARDS, sets)

    searched = sum(labelled.read(sets[name].name, sets[name].version).count() for name in ("train", "validation"))
    assert (found.gap, found.before_test.count(), found.now.count()) == (None, searched, HOURS - YOUNG)


@pytest.mark.proof  # several loads and cuts; `data/labels` tests the rule
def test_from_an_earlier_moment_rows_have_the_labels_they_had_then(labelled: Lakehouse, tmp_path: Path):
    bring_labels(labelled, labels(tmp_path / "l.csv", *((n, 1, hours_ago(24)) for n in range(20))), CARDS)
    load(labelled, contract=CARDS, labels_only=True)

    outcome = split(labelled, SplitConfig(gap_days=0, as_of=hours_ago(240), strategy=Strategy.stratified), CARDS)

    assert outcome.failure is None, outcome.message
    by_set = [plain(result) for result in outcome.results]
    assert by_set[0]["immature_rows"] == 360, "ten days and the delay of five"
    assert sum(found["frauds"] for found in by_set) == sum(n % 7 == 0 for n in range(HOURS - 360))
    later = split(labelled, SplitConfig(gap_days=0, strategy=Strategy.stratified), CARDS)
    by_set = [plain(result) for result in later.results]
    assert by_set[0]["immature_rows"] == YOUNG
    assert sum(found["frauds"] for found in by_set) == 20 + sum(n % 7 == 0 for n in range(20, HOURS - YOUNG))
    assert by_set[0]["delta_version"] == 1, "another cut of the same version"
    assert "is not a valid" in split(labelled, SplitConfig(as_of="soon"), CARDS).message


@pytest.mark.proof  # several loads and cuts; `data/labels` tests the rule
def test_from_before_a_delivery_neither_its_rows_nor_its_corrections_count(lakehouse: Lakehouse, tmp_path: Path):
    every = transactions()
    late = (pc.field("id") >= 100) & (pc.field("id") < 150)
    load(lakehouse, write_csv(every.filter(~late), tmp_path / "first.csv"), CARDS)
    moment = dt.datetime.now(dt.UTC).isoformat()
    corrected = every.slice(7, 1).set_column(2, "amount", pa.array([99.0])).set_column(3, "fraud", pa.array([0]))
    second = write_csv(pa.concat_tables([corrected, every.filter(late)]), tmp_path / "second.csv")
    assert load(lakehouse, second, CARDS).metadata["rows_added"] == 51

    def of(config: SplitConfig) -> tuple[dict[str, Any], list[tuple[float, int]]]:
        outcome = split(lakehouse, config, CARDS)
        assert outcome.failure is None, outcome.message
        train = pinned_sets(lakehouse)["train"]
        rows = lakehouse.read(train.name, train.version).where("id = 7").collect()
        return plain(outcome.results[0]), [(row["amount"], row["fraud"]) for row in rows]

    then, seven = of(SplitConfig(gap_days=0, as_of=moment))
    assert (then["not_arrived_rows"], then["not_arrived_frauds"]) == (50, 7)
    assert (then["immature_rows"], seven) == (YOUNG, [(7.0, 1)])
    now, seven = of(NO_GAP)
    assert (now["not_arrived_rows"], now["immature_rows"], seven) == (0, YOUNG, [(99.0, 0)])


def test_where_no_label_is_mature_the_error_says_so(lakehouse: Lakehouse, tmp_path: Path):
    load(lakehouse, write_csv(transactions(unlabelled=HOURS), tmp_path / "t.csv"), CARDS)

    outcome = split(lakehouse, NO_GAP, CARDS)

    assert "0 rows can't fill three sets; 1,200 more rows have no mature label" in outcome.message
    assert lakehouse.current("train_set") is None


def test_a_bad_file_is_refused_as_input_and_good_ones_beside_it_are_in(lakehouse: Lakehouse, tmp_path: Path):
    folder = tmp_path / "labels"
    folder.mkdir()
    nothing = bring_labels(lakehouse, folder, CARDS)
    assert nothing.failure is None
    assert ("delta_version" in nothing.metadata, nothing.metadata["rows_in"]) == (False, 0)

    labels(folder / "bad.csv", (1, 7, hours_ago(2)), (2, 1, hours_ago(2)))
    labels(folder / "good.csv", (1, 1, hours_ago(2)))
    outcome = bring_labels(lakehouse, folder, CARDS)

    assert (outcome.failed_checks, outcome.failed_inputs) == ([], ["label_files_readable"])
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
    job = build_defs(settings, lakehouse=Databases(labelled)).resolve_job_def("merge_labels")

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
