"""The reaper as the code location has it: there for Databricks alone, bounded in time, and clear when it can't work."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import dagster as dg
import pytest

from databricks_loopback import Workspace
from databricks_loopback.wire import ApiError, Reply, Request
from mlops_assets.databricks.launch import reaper
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.staging import Staging, staging_of
from mlops_assets.definitions import build_defs
from mlops_assets.errors import LaunchError
from mlops_assets.settings import Settings

ROOT = "/Volumes/main/reaper/staging/launches"


@pytest.fixture(scope="module", autouse=True)
def volume(shared_workspace: Workspace) -> None:
    shared_workspace.catalog.add_schema("main.reaper")
    shared_workspace.catalog.add_volume("main.reaper.staging")


@pytest.fixture
def on_databricks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("MLOPS_DATABRICKS_STAGING_PATH", ROOT)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
    for name in ("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return Settings(target="databricks", home=tmp_path)


def tick(settings: Settings, instance: dg.DagsterInstance) -> str:
    sensor = build_defs(settings).resolve_sensor_def(reaper.REAPER)
    return str(sensor.evaluate_tick(dg.build_sensor_context(instance=instance)).skip_message)


def test_the_sensor_is_there_for_databricks_alone(
    on_databricks: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sensor = build_defs(on_databricks).resolve_sensor_def(reaper.REAPER)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING, "whatever the switch of the automation says"
    here = [found.name for found in build_defs(Settings(home=tmp_path)).get_repository_def().sensor_defs]
    assert here
    assert reaper.REAPER not in here
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.2")
    assert list(build_defs(Settings(target="databricks", home=tmp_path)).sensors or []) == []


def test_it_removes_what_ended_runs_have_left(
    on_databricks: Settings, workspace: Workspace, instance: dg.DagsterInstance
):
    staging = staging_of(Api(Credentials(workspace.host, workspace.token)), "volume", ROOT)
    ended = instance.create_run_for_job(_empty, status=dg.DagsterRunStatus.SUCCESS).run_id
    foreign = str(uuid.uuid4())
    for run in (ended, foreign):
        staging.put(f"{run}/step-0/request.json", b"{}")
    assert tick(on_databricks, instance) == "0 runs cancelled, 1 folders removed"
    assert staging.names("") == [foreign]
    staging.remove(foreign)


def test_wrong_credentials_are_one_clear_error(
    on_databricks: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi0000")
    with pytest.raises(LaunchError, match=r"rejects the credentials.*renew DATABRICKS_TOKEN"):
        tick(on_databricks, instance)
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("HOME", str(on_databricks.home))  # the SDK looks there
    with pytest.raises(LaunchError, match=r"no login to the workspace.*set DATABRICKS_TOKEN"):
        tick(on_databricks, instance)


def test_a_refusal_is_one_clear_error(on_databricks: Settings, workspace: Workspace, instance: dg.DagsterInstance):
    def refuse(_request: Request, _proceed: object) -> Reply:
        raise ApiError(403, "PERMISSION_DENIED", "engineer@example.com may not read it")

    workspace.faults.on_call("refuse", refuse, path="/api/2.0/fs/directories/*", times=1)
    with pytest.raises(
        LaunchError, match=r"rejected a call: engineer@example.com may not read it.*delete files in staging"
    ):
        tick(on_databricks, instance)


@pytest.mark.proof  # it waits for a dead workspace
def test_a_dead_workspace_is_one_clear_error_in_time(
    on_databricks: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(LaunchError, match=r"does not answer .*tried for 10 s.*check the network"):
        tick(on_databricks, instance)
    assert time.monotonic() - started < 20


def test_a_slow_workspace_gets_the_rest_done_at_the_next_tick(
    on_databricks: Settings, workspace: Workspace, instance: dg.DagsterInstance
):
    credentials = Credentials(workspace.host, workspace.token)
    staging = staging_of(Api(credentials), "volume", ROOT)
    for _ in range(3):
        run = instance.create_run_for_job(_empty, status=dg.DagsterRunStatus.SUCCESS)
        staging.put(f"{run.run_id}/step-0/request.json", b"{}")

    def in_a_hurry() -> tuple[Api, Staging]:
        api = Api(credentials, budget_seconds=1.0)
        return api, staging_of(api, "volume", ROOT)

    sensor = reaper.reaper_sensor(in_a_hurry, keep_staging_on_failure=True)
    with workspace.faults.slow_answer(0.4, "/api/2.0/fs/directories/*", times=None):  # type: ignore[arg-type]
        first = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert str(first.skip_message).endswith(" folders removed, the rest at the next tick")
    left = len(staging.names(""))
    assert left >= 1
    assert tick(on_databricks, instance) == f"0 runs cancelled, {left} folders removed"


@dg.job
def _empty() -> None:
    """A job without steps, for runs that never run."""
