"""What is left over, and what is not."""

from __future__ import annotations

import uuid
from typing import Any

import dagster as dg
import pytest

from mlops_assets.databricks.launch import reaper, submission
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import staging_of
from mlops_assets_tests.databricks.launch.driving import CLUSTER, PATHS, Driver, wait_until

STATUSES = {"ended": True, "running": False}


def named(run: str) -> str:
    return Attempt(run, "job", "step", 0).run_name


def test_only_runs_of_ended_dagster_runs_that_are_known_here():
    runs: list[dict[str, Any]] = [
        {"run_id": 1, "run_name": named("ended")},
        {"run_id": 2, "run_name": named("running")},
        {"run_id": 3, "run_name": named("of-another-instance")},
        {"run_id": 4, "run_name": "somebody's nightly job"},
        {"run_id": 5},
    ]
    assert list(reaper.orphans(runs, STATUSES.get)) == [(1, "ended")]


def test_only_folders_of_ended_dagster_runs_that_are_not_kept():
    folders = ["ended", "running", "of-another-instance", "kept"]
    statuses = {**STATUSES, "kept": True}
    assert list(reaper.litter(folders, statuses.get, lambda run: run == "kept")) == ["ended"]


@pytest.fixture
def api(driver: Driver) -> Api:
    return Api(Credentials(driver.workspace.host, driver.workspace.token))


def test_sensor_ends_what_a_dead_launcher_left(driver: Driver, api: Api):
    unknown = str(uuid.uuid4())
    staging = staging_of(api, driver.kind, PATHS[driver.kind])  # type: ignore[arg-type]
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS]
    with dg.DagsterInstance.ephemeral() as instance:
        made = [instance.create_run_for_job(_empty, status=status).run_id for status in statuses]
        ids = {}
        for run in [*made, unknown]:
            staging.put(f"{run}/step-0/request.json", b"{}")
            script = staging.scripts.put(f"{run}/main.py", b"import time; time.sleep(600)")
            body = submission.submission(LaunchSpec(CLUSTER), Attempt(run, "job", "step", 0), python_file=script,
                                         parameters=[])  # fmt: skip
            ids[run] = submission.submit(api, body)
        sensor = reaper.reaper_sensor(lambda: (api, staging), keep_staging_on_failure=True)
        result = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
        assert "2 runs cancelled, 1 folders removed" in str(result.skip_message)
    failed, started, succeeded = made
    runs = {run.id: run for run in driver.workspace.runs}
    for run in (failed, succeeded):
        wait_until(lambda run=run: not runs[ids[run]].is_active, what="cancelled")  # type: ignore[misc]
    assert runs[ids[started]].is_active
    assert runs[ids[unknown]].is_active
    assert sorted(staging.names("")) == sorted([failed, started, unknown])
    for run in (started, unknown):
        submission.cancel(api, ids[run])
        wait_until(lambda run=run: not runs[ids[run]].is_active, what="cancelled")  # type: ignore[misc]


@dg.job
def _empty() -> None:
    """A job without steps, for runs that never run."""
