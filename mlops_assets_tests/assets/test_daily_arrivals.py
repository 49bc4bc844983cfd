"""daily_arrivals: the files of a past day come in as they would have, and what is in adds nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS, build_daily_arrivals
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.sources import FileTransactions, SourceConfig
from mlops_assets.data.ingest.validation import INPUT_CHECKS
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome, collect
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.assets.harness import HERE, SMALL, Databases, load, replaced, spec_of, transactions, write_csv

FIRST, SECOND, QUIET = "2026-05-01", "2026-05-02", "2026-05-03"


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two days; the first of the second day has a bad row."""
    folder = tmp_path_factory.mktemp("landing")
    for name, seed, at in (("a", 1, f"{FIRST}T08:00"), ("b, c", 2, f"{SECOND}T00:00"), ("d", 3, f"{SECOND}T23:59")):
        rows = transactions(seed=seed)
        path = folder / f"{name}.csv"
        write_csv(replaced(rows, "amount", ["-1.00"]) if seed == 2 else rows, path)
        moment = datetime.fromisoformat(f"{at}+00:00").timestamp()
        os.utime(path, (moment, moment))
    return folder


@pytest.fixture(scope="module")
def first_day_once(new_lakehouse: Callable[[], Lakehouse], landing: Path) -> Lakehouse:
    """Tables that have the file of the first day."""
    lakehouse = new_lakehouse()
    assert load(lakehouse, FileTransactions(location=str(landing / "a.csv"))).failure is None
    return lakehouse


@pytest.fixture
def first_day(first_day_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    return copy_tables(first_day_once, lakehouse)


def deliver(lakehouse: Lakehouse, source: SourceConfig, day: str) -> Outcome:
    with dg.build_asset_context(partition_key=day) as context:
        return collect(
            build_daily_arrivals(spec_of(), source)(context, lakehouse=Databases(lakehouse), loader_cluster=HERE)
        )


def test_a_day_brings_what_the_tables_lack_and_brings_it_once(first_day: Lakehouse, landing: Path):
    everything = FileTransactions(location=str(landing))

    known = deliver(first_day, everything, FIRST)
    new = deliver(first_day, everything, SECOND)
    again = deliver(first_day, everything, SECOND)

    counts = ("day", "files", "rows_in", "rows_added", "rows_already_known", "rows_quarantined", "delta_version")
    assert [[found.metadata[name] for name in counts] for found in (known, new, again)] == [
        [FIRST, 1, 600, 0, 600, 0, 0],
        [SECOND, 2, 1_200, 1_199, 0, 1, 1],
        [SECOND, 2, 1_200, 0, 1_200, 0, 1],
    ]
    assert new.metadata["inputs_added"] == [str(landing / "b, c.csv"), str(landing / "d.csv")]
    assert first_day.read(RAW, 1).count() == 1_799
    for found in (known, new, again):
        (seen,) = found.observations
        assert (seen.asset_key, seen.partition) == (dg.AssetKey(DAILY_ARRIVALS), found.metadata["day"])
        assert (found.checks, found.failed_inputs) == ({}, [])
    assert list(new.findings) == list(INPUT_CHECKS)
    assert list(again.findings) == ["inputs_readable", "load_classes", "volume"], "no row was looked at again"


def test_a_day_without_files_changes_nothing_and_says_so(
    lakehouse: Lakehouse, first_day_once: Lakehouse, landing: Path
):
    before = deliver(lakehouse, FileTransactions(location=str(landing)), QUIET)
    copy_tables(first_day_once, lakehouse)
    after = deliver(lakehouse, FileTransactions(location=str(landing)), QUIET)

    assert (before.metadata["files"], before.metadata["rows_added"]) == (0, 0)
    assert "delta_version" not in before.metadata
    assert after.metadata["delta_version"] == 0
    assert (after.checks, after.findings) == ({}, {}), "nothing was looked at, so nothing passed"


def test_a_file_that_a_load_would_refuse_is_refused(lakehouse: Lakehouse, landing: Path, tmp_path: Path):
    landing = shutil.copytree(landing, tmp_path / "landing")
    bad = transactions().drop_columns(["v1"])
    write_csv(bad, landing / "e.csv")
    moment = datetime.fromisoformat(f"{QUIET}T01:00+00:00").timestamp()
    os.utime(landing / "e.csv", (moment, moment))

    outcome = deliver(lakehouse, FileTransactions(location=str(landing)), QUIET)

    assert "v1" in outcome.message
    assert outcome.results == []
    assert lakehouse.current(RAW) is None


def test_a_source_without_files_has_no_days(lakehouse: Lakehouse):
    assert "has no files that arrive" in deliver(lakehouse, SMALL, FIRST).message


def test_it_waits_for_a_load_that_goes_on(lakehouse: Lakehouse, landing: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlops_assets.lakehouse.locks.LOCK_TIMEOUT_SECONDS", 0.1)

    with lakehouse.exclusive(RAW):
        outcome = deliver(lakehouse, FileTransactions(location=str(landing)), FIRST)

    assert "another run has held the table" in outcome.message


def test_the_job_backfills_day_by_day(
    tmp_path: Path, first_day: Lakehouse, landing: Path, instance: dg.DagsterInstance
):
    definitions = build_defs(Settings(home=tmp_path / "home", source=str(landing)), lakehouse=Databases(first_day))
    job = definitions.resolve_job_def("backfill_arrivals")

    for day in (FIRST, SECOND):
        assert job.execute_in_process(instance=instance, partition_key=day).success

    key = dg.AssetKey(DAILY_ARRIVALS)
    assert set(instance.get_materialized_partitions(key)) == {FIRST, SECOND}
    assert first_day.read(RAW, first_day.require(RAW, made_by=RAW).version).count() == 1_799
