"""Runs whose process is gone are failed by Dagster's own monitoring; runs that go on are left alone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from mlops_assets import processes
from mlops_assets.instance.home import prepare_instance
from mlops_assets.instance.run_launcher import LocalRunLauncher, fail_dead_runs, process_of
from mlops_assets.lineage import RUN_PROCESS_TAG

# As the code server starts the process of a run.
_SPAWNED = "import sys, time; 'multiprocessing'; print('up', flush=True); time.sleep(600)"


@dg.asset
def made() -> None:
    """Be something to run."""


JOB = dg.Definitions(assets=[made], jobs=[dg.define_asset_job("make_it")]).resolve_job_def("make_it")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(prepare_instance(tmp_path))) as opened:
        yield opened


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    started = start(_SPAWNED)
    yield started
    started.kill()
    started.communicate()


def started_run(instance: dg.DagsterInstance, process: int | None, host: str = "localhost") -> dg.DagsterRun:
    """Return a run as it is when its process has told its id and begun."""
    tags = {GRPC_INFO_TAG: json.dumps({"host": host, "socket": "/tmp/s"})}  # noqa: S108 - nobody opens it
    run = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED, tags=tags)
    if process is not None:
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(process))
    return run


def monitored(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    """Do what the daemon does every two minutes, and return what the run is then."""
    context = cast("Any", SimpleNamespace(instance=instance, create_request_context=lambda: None))
    assert [error for error in execute_run_monitoring_iteration(context, logging.getLogger("test")) if error] == []
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_the_embedded_instance_has_it(instance: dg.DagsterInstance):
    assert isinstance(instance.run_launcher, LocalRunLauncher)


def test_a_run_whose_process_is_gone_is_failed_and_says_so(
    instance: dg.DagsterInstance, process: subprocess.Popen[str]
):
    run = started_run(instance, process.pid)
    assert process_of(instance, run.run_id) == process.pid
    assert monitored(instance, run) is dg.DagsterRunStatus.STARTED

    process.kill()
    process.wait()

    assert monitored(instance, run) is dg.DagsterRunStatus.FAILURE
    assert any(f"its process {process.pid} is gone" in entry.message for entry in instance.all_logs(run.run_id))


def test_a_number_that_somebody_else_has_now_is_not_the_run(instance: dg.DagsterInstance):
    other = start("print('up', flush=True); import time; time.sleep(600)")
    try:
        assert monitored(instance, started_run(instance, other.pid)) is dg.DagsterRunStatus.FAILURE
    finally:
        other.kill()
        other.communicate()


def test_a_number_that_was_given_anew_since_is_not_the_run(
    instance: dg.DagsterInstance, process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """As after a restart of the machine: the process looks like that of a run, and began after the run had told."""
    yesterday = time.time() - 86_400
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: yesterday)
        run = started_run(instance, process.pid)

    assert monitored(instance, run) is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize(("told", "host"), [(False, "localhost"), (True, "another-machine")])
def test_what_can_not_be_known_is_believed_to_go(
    instance: dg.DagsterInstance, process: subprocess.Popen[str], told: bool, host: str
):
    process.kill()
    process.wait()
    run = started_run(instance, process.pid if told else None, host)

    assert monitored(instance, run) is dg.DagsterRunStatus.STARTED


def test_a_killed_run_of_the_command_line_is_failed_and_living_and_distant_ones_are_not(instance: dg.DagsterInstance):
    other = start("print('up', flush=True); import time; time.sleep(600)")
    named = {
        "killed": processes.process(other.pid),
        "reused": f"{processes.process(other.pid)}1",
        "alive": processes.this_process(),
        "distant": f"another-machine:{other.pid}:1",
    }
    other.kill()
    other.communicate()
    runs = {
        name: instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED, tags={RUN_PROCESS_TAG: process})
        for name, process in named.items()
    }

    assert set(fail_dead_runs(instance)) == {runs["killed"].run_id, runs["reused"].run_id}
    assert fail_dead_runs(instance) == []
    assert monitored(instance, runs["killed"]) is dg.DagsterRunStatus.FAILURE
    assert monitored(instance, runs["alive"]) is dg.DagsterRunStatus.STARTED
    assert monitored(instance, runs["distant"]) is dg.DagsterRunStatus.STARTED
