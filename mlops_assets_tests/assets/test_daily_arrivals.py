"""daily_arrivals: the files of a past day come in as they would have, and what is in adds nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS, build_daily_arrivals
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.sources import FileTransactions, SourceConfig
from mlops_assets.data.ingest.validation import INPUT_CHECKS
from mlops_assets.definitions import build_defs
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.instance.home import prepare_for
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import CHECKED_BY_LOAD, RUN_RAW_VERSION_TAG
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome, collect, plain
from mlops_assets.testing.stores import copy_tables
from mlops_assets_tests.assets.harness import HERE, SMALL, Databases, load, replaced, spec_of, transactions, write_csv
from mlops_assets_tests.conftest import CHECKOUT

FIRST, SECOND, QUIET, AFTER = "2026-05-01", "2026-05-02", "2026-05-03", "2026-05-04"


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


def of_day(outcome: Outcome) -> dict[str, Any]:
    """Return the metadata of the only day."""
    (made,) = outcome.of(DAILY_ARRIVALS)
    return plain(made)


@pytest.mark.proof  # several loads
def test_a_day_brings_what_the_tables_lack_and_brings_it_once(first_day: Lakehouse, landing: Path):
    everything = FileTransactions(location=str(landing))

    known = deliver(first_day, everything, FIRST)
    new = deliver(first_day, everything, SECOND)
    again = deliver(first_day, everything, SECOND)

    counts = ("day", "files", "rows_in", "rows_added", "rows_already_known", "rows_quarantined", "delta_version")
    assert [[of_day(found)[name] for name in counts] for found in (known, new, again)] == [
        [FIRST, 1, 600, 0, 600, 0, 0],
        [SECOND, 2, 1_200, 1_199, 0, 1, 1],
        [SECOND, 2, 1_200, 0, 1_200, 0, 1],
    ]
    assert of_day(new)["inputs_added"] == [str(landing / "b, c.csv"), str(landing / "d.csv")]
    assert first_day.read(RAW, 1).count() == 1_799
    for found in (known, new, again):
        (seen,) = found.observations
        assert (seen.asset_key, seen.partition) == (dg.AssetKey(DAILY_ARRIVALS), of_day(found)["day"])
        assert (found.checks, found.failed_inputs) == ({}, [])
    assert list(new.findings) == list(INPUT_CHECKS)
    assert list(again.findings) == ["inputs_readable", "load_classes", "volume"], "no row was looked at again"


@pytest.mark.proof  # a load first
def test_a_day_without_files_changes_nothing_and_says_so(
    lakehouse: Lakehouse, first_day_once: Lakehouse, landing: Path
):
    before = deliver(lakehouse, FileTransactions(location=str(landing)), QUIET)
    copy_tables(first_day_once, lakehouse)
    after = deliver(lakehouse, FileTransactions(location=str(landing)), QUIET)

    assert (of_day(before)["files"], of_day(before)["rows_added"]) == (0, 0)
    assert "delta_version" not in of_day(before)
    assert of_day(after)["delta_version"] == 0
    assert before.of(RAW) == after.of(RAW) == [], "nothing was loaded"
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


@pytest.mark.proof  # several loads
def test_a_load_of_a_past_day_counts_in_the_history_of_the_tables(first_day: Lakehouse, landing: Path):
    outcome = deliver(first_day, FileTransactions(location=str(landing)), SECOND)

    (raw,), (quarantined,) = outcome.of(RAW), outcome.of(QUARANTINED)
    found = plain(raw)
    assert (found["delta_version"], found["dagster/row_count"], found["rows_added"]) == (1, 1_799, 1_199)
    assert found[CHECKED_BY_LOAD] is True
    assert plain(quarantined)["dagster/row_count"] == 1


# --- backfills --------------------------------------------------------------------------------------------------------


def bad_day(landing: Path, folder: Path) -> Path:
    """Return a copy of the landing folder; the file of the third day lacks a column, that of the fourth is good."""
    landing = shutil.copytree(landing, folder / "landing")
    for name, day, rows in (("e", QUIET, transactions().drop_columns(["v1"])), ("f", AFTER, transactions(seed=9))):
        write_csv(rows, landing / f"{name}.csv")
        moment = datetime.fromisoformat(f"{day}T01:00+00:00").timestamp()
        os.utime(landing / f"{name}.csv", (moment, moment))
    return landing


@pytest.mark.proof  # several loads
def test_a_backfill_is_one_run_in_which_a_bad_day_stops_no_other(
    tmp_path: Path, first_day: Lakehouse, landing: Path, instance: dg.DagsterInstance
):
    source = str(bad_day(landing, tmp_path))
    definitions = build_defs(Settings(home=tmp_path / "home", source=source), lakehouse=Databases(first_day))
    job = definitions.resolve_job_def("backfill_arrivals")
    key, raw = dg.AssetKey(DAILY_ARRIVALS), dg.AssetKey(RAW)
    # As the backfill daemon asks for it: a proof below has the daemon itself.
    of_range = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": AFTER}

    done = job.execute_in_process(instance=instance, tags=of_range, raise_on_error=False)

    assert instance.get_materialized_partitions(key) == {FIRST, SECOND, AFTER}
    (failed,) = done.get_step_failure_events()
    told = failed.step_failure_data.user_failure_data
    assert told is not None
    assert str(told.description).startswith(f"1 of 4 days could not be loaded, the others are. {QUIET}: ")
    assert "v1" in str(told.description)
    assert first_day.read(RAW, first_day.require(RAW, made_by=RAW).version).count() == 2_399
    loads = [record.asset_materialization for record in instance.fetch_materializations(raw, limit=9).records]
    rows = [load.metadata["dagster/row_count"].value for load in loads if load is not None]
    assert rows == [2_399, 1_799, 600], "newest first, one for each day that has files"

    again = job.execute_in_process(instance=instance, partition_key=SECOND)
    assert again.success
    version = first_day.require(RAW, made_by=RAW).version
    assert first_day.read(RAW, version).count() == 2_399
    for run in (done, again):
        tagged = instance.get_run_by_id(run.run_id)
        assert tagged is not None
        assert tagged.tags[RUN_RAW_VERSION_TAG] == str(version)


def test_days_begin_where_the_model_says_and_a_backfill_is_one_run(settings: Settings, landing: Path):
    spec = settings.model_copy(update={"source": str(landing), "first_day": date(2026, 4, 29)}).spec()
    asset = next(
        found
        for found in build_fraud_model(spec, settings).assets or []
        if isinstance(found, dg.AssetsDefinition) and DAILY_ARRIVALS in {key.path[-1] for key in found.keys}
    )

    assert asset.partitions_def is not None
    assert asset.partitions_def.get_first_partition_key() == "2026-04-29"
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.mark.proof
def test_the_daemon_backfills_several_days_in_one_run(tmp_path: Path, landing: Path):
    """From the request, as the UI sends it, to the tables of a home of its own."""
    source, home = bad_day(landing, tmp_path), tmp_path / "home"
    settings = Settings(home=home, source=str(source))
    environ = {**os.environ, "MLOPS_HOME": str(home), "MLOPS_SOURCE": str(source), "MLOPS_FIRST_DAY": FIRST}
    environ["DAGSTER_HOME"] = str(prepare_for(settings))
    code = ["-m", "mlops_assets.definitions"]
    days = [FIRST, SECOND, QUIET, AFTER]
    ask = ("mutation Ask($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) "
           "{ __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }")  # fmt: skip
    wanted = {"params": {"assetSelection": [{"path": [DAILY_ARRIVALS]}], "partitionNames": days}}
    asked = subprocess.run(
        [Path(sys.executable).with_name("dagster-graphql"), *code, "-t", ask, "-v", json.dumps(wanted)],
        cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert "LaunchBackfillSuccess" in asked.stdout, asked.stdout + asked.stderr

    log = (tmp_path / "daemon.log").open("w+")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", *code],
        cwd=CHECKOUT, env=environ, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        with dg.DagsterInstance.from_config(environ["DAGSTER_HOME"]) as instance:
            deadline = time.monotonic() + 300
            while not (runs := instance.get_runs()) or not runs[0].is_finished:
                assert time.monotonic() < deadline, (tmp_path / "daemon.log").read_text()[-3_000:]
                assert daemon.poll() is None
                time.sleep(1)
            assert [run.status for run in runs] == [dg.DagsterRunStatus.FAILURE]
            assert instance.get_materialized_partitions(dg.AssetKey(DAILY_ARRIVALS)) == {FIRST, SECOND, AFTER}
            assert len(instance.fetch_materializations(dg.AssetKey(RAW), limit=9).records) == 3
    finally:
        daemon.terminate()
        daemon.wait(60)
        log.close()
