"""The three sets: cut right, pinned, and never of two cuts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.assets.splits import SplitConfig, Strategy
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.testing.invoking import Outcome, plain
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.assets.conftest import Loaded
from mlops_assets_tests.assets.harness import load, split, transactions, write_csv


def by_table(outcome: Outcome) -> dict[str, dict[str, object]]:
    return {
        dg.AssetKey.from_coercible(result.asset_key or "").to_user_string(): plain(result) for result in outcome.results
    }


@pytest.fixture(scope="module")
def loaded_once(new_lakehouse: Callable[[], Lakehouse], tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    lakehouse = new_lakehouse()
    table = transactions(rows=2_000, days=6)
    twins = pa.concat_tables([table.slice(0, 100), table.slice(0, 100)]).sort_by("time")  # exact duplicates
    rows = pa.concat_tables([twins, table.slice(100)])
    load(lakehouse, write_csv(rows, tmp_path_factory.mktemp("twins") / "t.csv"))
    return lakehouse


@pytest.fixture(scope="module")
def cut_once(loaded_once: Lakehouse, new_lakehouse: Callable[[], Lakehouse]) -> Loaded:
    """Tables with the default cut; they are only read or copied."""
    lakehouse = copy_tables(loaded_once, new_lakehouse())
    return Loaded(lakehouse, split(lakehouse))


@pytest.fixture
def loaded(loaded_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """The loaded tables, the test's own."""
    return copy_tables(loaded_once, lakehouse)


@pytest.fixture
def cut(cut_once: Loaded, lakehouse: Lakehouse) -> Lakehouse:
    """The tables with the default cut, the test's own."""
    return copy_tables(cut_once.lakehouse, lakehouse)


def frames(lakehouse: Lakehouse) -> dict[str, pa.Table]:
    sets = pinned_sets(lakehouse)
    return {name: lakehouse.read(table.name, table.version).toArrow() for name, table in sets.items()}


def test_sets_are_cut_in_time_and_pinned_to_the_raw_version(cut_once: Loaded):
    outcome = cut_once.outcome

    assert outcome.failure is None
    assert outcome.failed_checks == []
    described = by_table(outcome)
    assert list(described) == ["train_set", "validation_set", "test_set"]
    sets = frames(cut_once.lakehouse)
    assert sum(len(table) for table in sets.values()) == 2_100
    days = {name: {int(time // 86_400) for time in table.column("time").to_pylist()} for name, table in sets.items()}
    assert {name: len(found) for name, found in days.items()} == {"train": 4, "validation": 1, "test": 1}
    assert len(set.union(*days.values())) == 6, "no day is in two sets"
    times = {name: table.column("time").to_pylist() for name, table in sets.items()}
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])
    train = described["train_set"]
    assert (train["raw_version"], train["delta_version"], train["strategy"]) == (0, 0, "time")
    assert train["dagster/row_count"] == len(sets["train"])
    assert train["last_event"] == max(times["train"])


@pytest.mark.proof  # two cuts; `data/splits` tests the rule
def test_the_gap_leaves_out_rows_before_each_cut_and_counts_them_in_a_past_version(loaded: Lakehouse, tmp_path: Path):
    load(loaded, write_csv(transactions(seed=77), tmp_path / "more.csv"))

    outcome = split(loaded, SplitConfig(gap_days=0.5, raw_version=0))

    sets = frames(loaded)
    times = {name: table.column("time").to_pylist() for name, table in sets.items()}
    assert min(times["validation"]) - max(times["train"]) >= 43_200
    assert min(times["test"]) - max(times["validation"]) >= 43_200
    gap = plain(outcome.results[0])["gap_rows"]
    assert gap > 0
    assert gap + sum(len(table) for table in sets.values()) == 2_100


@pytest.mark.proof  # two cuts; `data/splits` tests the rule
def test_stratified_sets_share_no_row_and_no_duplicate(loaded: Lakehouse):
    outcome = split(loaded, SplitConfig(strategy=Strategy.stratified, seed=7))

    assert outcome.failed_checks == []
    sets = frames(loaded)
    content = {
        name: {tuple(row.values()) for row in table.select(["time", "v1", "v2", "amount", "class"]).to_pylist()}
        for name, table in sets.items()
    }
    assert not content["train"] & content["validation"]
    assert not content["train"] & content["test"]
    assert not content["validation"] & content["test"]
    assert sum(len(table) for table in sets.values()) == 2_100
    rates = [sum(table.column("class").to_pylist()) / len(table) for table in sets.values()]
    assert max(rates) - min(rates) < 0.01


def test_the_same_cut_is_not_written_again_and_another_one_is(cut: Lakehouse):
    first = pinned_sets(cut)

    split(cut)
    assert pinned_sets(cut) == first

    split(cut, SplitConfig(test_fraction=0.3))
    assert {table.version for table in pinned_sets(cut).values()} == {1}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SplitConfig(min_rows=1_000), "fewer than 1,000 rows in: validation"),
        (
            SplitConfig(gap_days=30),
            "the shortest span that can be cut is 63 days, two gaps of 30 days and a day for each set",
        ),
        (SplitConfig(test_fraction=0.9), "fractions"),
        (SplitConfig(raw_version=8), "version 8 can't be read"),
        (SplitConfig(strategy=Strategy.stratified, gap_days=1), "a gap in time means nothing"),
    ],
    ids=["volume", "gap", "fractions", "no such version", "stratified gap"],
)
def test_a_cut_that_cannot_be_made_is_refused_and_nothing_is_written(loaded: Lakehouse, config: SplitConfig, said: str):
    outcome = split(loaded, config)

    assert said in outcome.message
    assert loaded.current("train_set") is None


def test_a_set_without_frauds_is_refused(lakehouse: Lakehouse, tmp_path: Path):
    table = transactions(rows=2_000, days=6)
    early = pa.compute.less(table.column("time"), 2 * 86_400.0)
    kept = table.filter(pa.compute.or_(early, pa.compute.equal(table.column("class"), 0)))  # frauds stop after day 2
    load(lakehouse, write_csv(kept, tmp_path / "t.csv"))

    outcome = split(lakehouse)

    assert outcome.failed_checks == ["set_classes"]
    assert "only one class in: validation, test" in outcome.message
    assert lakehouse.current("test_set") is None


def test_without_a_raw_table_the_error_says_what_to_materialize(lakehouse: Lakehouse):
    assert "materialize `raw_transactions` first" in split(lakehouse).message


def test_sets_of_two_cuts_are_refused_downstream(cut: Lakehouse):
    test = cut.require("test_set", made_by="test")
    rows = cut.read("test_set", test.version)
    cut.replace("test_set", rows, base=test, metadata={**test.metadata, "split_id": "another"})

    with pytest.raises(StorageError, match="different splits"):
        pinned_sets(cut)


def test_a_row_in_two_sets_is_found(cut: Lakehouse):
    """The check reads the tables as they are: a table that was changed by someone else does not pass on reuse."""
    test = cut.require("test_set", made_by="test")
    train = cut.read("train_set", 0).orderBy("time", "_row_number").dropDuplicates(["time", "v1"]).limit(7)
    cut.append("test_set", train, base=test, metadata=test.metadata)

    outcome = split(cut)

    assert set(outcome.failed_checks) == {"disjoint", "complete", "sets_in_time_order"}
    assert outcome.checks["disjoint"].description == "7 rows are in more than one set"
