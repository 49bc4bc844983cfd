"""as_of_backtest: trained on what a past day knew, scored on what came after, and never registered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_assets.assets.as_of_backtest import AsOfConfig, build_as_of_backtest
from mlops_assets.assets.days import last_day_of_week
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome, collect
from mlops_assets.testing.stores import copy_tables, open_tracking
from mlops_assets_tests.assets.conftest import Searched
from mlops_assets_tests.assets.harness import HERE, QUICK_SPACE, Databases, load, spec_of, transactions, write_csv
from mlops_assets_tests.lakehouse.delta_ages import committed_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# When the two loads were committed, and the weeks (by their Mondays) that end before, between and after them.
FIRST, SECOND = "2026-05-02", "2026-05-05"
BEFORE, BETWEEN, AFTER = "2026-04-20", "2026-04-27", "2026-05-04"
END_OF_BETWEEN = "2026-05-03"
KNOWN_DAYS, ALL_DAYS = 4, 6
CONFIG = AsOfConfig(
    space=QUICK_SPACE, trials=2, parallelism=1, alerts_per_day=20, replicates=50, days_after=1.5, gap_days=0.1
)
EVERYTHING = transactions(4_000, seed=3, fraud_rate=0.05, days=ALL_DAYS)
LATER = pc.greater_equal(EVERYTHING.column("time"), KNOWN_DAYS * 86_400.0)


def at(moment: str) -> float:
    return datetime.fromisoformat(f"{moment}+00:00").timestamp()


@pytest.fixture(scope="module")
def grown_once(
    new_lakehouse: Callable[[], Lakehouse], spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Lakehouse:
    """A raw table whose first four days of events came in on one day, and whose other two on a later one."""
    lakehouse, folder = new_lakehouse(), tmp_path_factory.mktemp("grown")
    for name, rows in (("first", EVERYTHING.filter(pc.invert(LATER))), ("second", EVERYTHING.filter(LATER))):
        assert load(lakehouse, write_csv(rows, folder / f"{name}.csv")).failure is None
    moments = {0: at(f"{FIRST}T12:00"), 1: at(f"{SECOND}T12:00")}
    committed_at(spark, Path(lakehouse.location(RAW)), moments)
    return lakehouse


@pytest.fixture
def grown(grown_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    return copy_tables(grown_once, lakehouse)


@pytest.fixture(scope="module")
def tested(grown_once: Lakehouse, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Searched:
    """The backtest as of a day between the two."""
    settings = Settings(home=tmp_path_factory.mktemp("tested"))
    tracking = open_tracking(settings.home, empty_mlflow)
    return Searched(grown_once, tracking, settings.home, backtest(grown_once, tracking, BETWEEN))


def backtest(lakehouse: Lakehouse, tracking: Tracking, week: str, config: AsOfConfig = CONFIG) -> Outcome:
    with dg.build_asset_context(partition_key=week) as context:
        return collect(
            build_as_of_backtest(spec_of())(
                context,
                config=config,
                lakehouse=Databases(lakehouse),
                tracking=tracking,
                trials_cluster=HERE,
            )
        )


def poisoned(rows: pa.Table) -> pa.Table:
    """Return other rows of the same days, each with the wrong label."""
    flipped = pc.subtract(1, rows.column("class"))
    return rows.set_column(rows.column_names.index("class"), "class", flipped)


@pytest.mark.proof  # another load and search
def test_what_came_in_later_changes_the_scored_rows_and_not_the_model(
    tested: Searched, grown: Lakehouse, tracking: Tracking, tmp_path: Path
):
    before = tested.outcome
    load(grown, write_csv(poisoned(transactions(600, seed=8, days=ALL_DAYS, fraud_rate=0.45)), tmp_path / "poison.csv"))

    after = backtest(grown, tracking, BETWEEN)

    assert (before.failure, after.failure) == (None, None)
    first, second = before.metadata, after.metadata
    for name in (
        "raw_version",
        "newest_event",
        "model_sha256",
        "threshold",
        "best_point",
        "validation_average_precision",
    ):
        assert first[name] == second[name], name
    assert (first["raw_version"], first["scored_raw_version"], second["scored_raw_version"]) == (0, 1, 2)
    assert second["rows_scored"] > first["rows_scored"]
    assert second["after_average_precision"] != first["after_average_precision"]
    assert before.failed_checks == []


@pytest.mark.proof  # a search and its evaluation; what is refused before them is tested soon
def test_the_days_after_are_those_after_the_newest_known_event(tested: Searched):
    found = tested.outcome.metadata
    newest = pc.max(EVERYTHING.filter(pc.invert(LATER)).column("time")).as_py()
    times = EVERYTHING.column("time")
    window = pc.and_(pc.greater(times, newest), pc.less_equal(times, newest + 1.5 * 86_400))
    assert found["newest_event"] == newest
    assert found["rows_scored"] == pc.sum(window).as_py()
    assert "| day 4 |" in found["days"]
    assert "| day 5 |" in found["days"]
    assert "[days_after.png](http://127.0.0.1:" in found["pictures"]
    store = tested.tracking.connect()
    run = store.client.get_run(found["mlflow_run_id"])
    assert run.data.tags["mlops_assets.as_of"] == END_OF_BETWEEN
    assert {name: run.data.metrics[f"after_{name}"] for name in ("rows", "average_precision")} == {
        "rows": found["rows_scored"],
        "average_precision": found["after_average_precision"],
    }
    assert "after_precision_at_budget_low" in run.data.metrics
    assert "after_recall_at_budget_high" in run.data.metrics
    # It stands beside the main chain.
    assert store.client.search_registered_models() == []
    assert store.latest_search({}) is None, "what is registered is looked for among searches"
    assert [tested.lakehouse.current(table) for table in SET_TABLES.values()] == [None] * 3


@pytest.mark.proof  # a table that grew twice
@pytest.mark.parametrize(
    ("week", "message"),
    [
        (BEFORE, "was not there at the end of 2026-04-26"),
        (AFTER, "no row of version 1 has an event time within 1.5 days after the newest event known then"),
    ],
)
def test_a_day_that_can_not_be_tested_on_is_refused_before_anything_is_paid_for(
    grown_once: Lakehouse, tracking: Tracking, week: str, message: str
):
    outcome = backtest(grown_once, tracking, week)

    assert message in outcome.message
    assert outcome.results == []
    assert tracking.connect().client.search_runs([tracking.connect().experiment_id]) == []


@pytest.mark.proof  # a load of its own
def test_days_after_of_one_class_are_refused_before_the_search(
    lakehouse: Lakehouse, spark: SparkSession, tracking: Tracking, tmp_path: Path
):
    genuine = EVERYTHING.filter(pc.and_(LATER, pc.equal(EVERYTHING.column("class"), 0)))
    for name, rows in (("first", EVERYTHING.filter(pc.invert(LATER))), ("second", genuine)):
        load(lakehouse, write_csv(rows, tmp_path / f"{name}.csv"))
    committed_at(spark, Path(lakehouse.location(RAW)), {0: at(f"{FIRST}T12:00"), 1: at(f"{SECOND}T12:00")})

    outcome = backtest(lakehouse, tracking, BETWEEN)

    assert "rows are genuine: a search and its evaluation need both classes" in outcome.message
    assert "the 1.5 days after, in version 1" in outcome.message
    assert tracking.connect().client.search_runs([tracking.connect().experiment_id]) == []


@pytest.mark.proof  # a table that grew twice
def test_a_version_whose_files_were_vacuumed_is_one_clear_error(grown: Lakehouse, tracking: Tracking):
    for path in grown.read(RAW, 0).inputFiles():
        Path(path.removeprefix("file:")).unlink()

    assert "files of version 0 are gone" in backtest(grown, tracking, BETWEEN).message


def test_the_checks_are_blocking():
    assert [(spec.name, spec.blocking) for spec in build_as_of_backtest(spec_of()).check_specs] == [
        ("refit_reproduces_best_trial", True)
    ]


@pytest.mark.parametrize(("first", "week"), [(date(2026, 4, 27), "2026-04-27"), (date(2026, 5, 3), "2026-04-27")])
def test_weeks_begin_on_mondays_and_with_the_week_of_the_first_day(first: date, week: str):
    partitions = build_as_of_backtest(spec_of(first_day=first)).partitions_def

    assert partitions is not None
    assert partitions.get_first_partition_key() == week
    with dg.build_asset_context(partition_key=week) as context:
        assert last_day_of_week(context) == date(2026, 5, 3)
