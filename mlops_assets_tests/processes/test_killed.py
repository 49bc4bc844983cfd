"""The process is killed in the middle of each asset; the next run makes of it what an undisturbed one makes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlops_assets import processes
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lineage import PROCESS_TAG
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import register
from mlops_assets_tests.processes.conftest import ROWS, on_shared_spark
from mlops_assets_tests.processes.control import ANSWER_SECONDS, SETS, eventually, processes_of, worker
from mlops_assets_tests.processes.points import Point, Then
from mlops_assets_tests.processes.state import Tracked, embedded_store, staged, table

JVM_SECONDS = 15.0


@pytest.mark.proof
@pytest.mark.timeout(5 * ANSWER_SECONDS)
def test_a_process_killed_in_any_asset_leaves_nothing_that_the_next_one_does_not_mend(
    inputs: list[Path],
    new_home: Callable[[], Path],
    undisturbed: Path,
    spark_resource: SparkResource,
    tmp_path: Path,
):
    """One home, four processes, each killed one asset later than the one before, and a fifth that lives.

    Each process begins with the asset in which the one before it died.
    """
    home = new_home()
    tracked = Tracked(embedded_store(home))
    with ExitStack() as started:
        # All at once, so that they import their libraries side by side.
        spare = [started.enter_context(worker(tmp_path / f"{number}.log")) for number in range(4)]

        def kill_at(point: Point, then: Then, *assets: str) -> None:
            process = spare.pop()
            process.begin(home, inputs[0], *assets, stop_at=point, then=then)
            process.wait_killed()
            eventually(lambda: not processes_of(home), JVM_SECONDS, "the JVM goes when its process is gone")

        kill_at(Point.RAW_HALF_WRITTEN, Then.DIE_WITH_ALL, "raw_transactions")
        raw = table(home, "raw_transactions")
        assert raw.data_files(), "the kill was too early to show anything"
        assert not raw.exists, "the kill came too late, or a half-written version is visible"
        assert staged(home)

        kill_at(Point.ONE_SET_COMMITTED, Then.DIE, "raw_transactions", *SETS)
        assert (raw.version, raw.rows_of_batches()) == (0, [ROWS])
        assert staged(home) == []
        assert [table(home, name).exists for name in SETS] == [True, False, False]

        kill_at(Point.TRIAL_HALF_RECORDED, Then.DIE, *SETS, "tuned_model")
        assert [table(home, name).version for name in SETS] == [0, 0, 0]
        (killed,) = tracked.parents()
        assert [run.info.status for run in (killed, *tracked.children(killed))] == ["RUNNING", "FINISHED", "RUNNING"]

        kill_at(Point.VERSION_WITHOUT_ALIAS, Then.DIE, "tuned_model", "registered_model")
        killed, found = tracked.parents()
        assert [run.info.status for run in (killed, *tracked.children(killed))] == ["KILLED", "FINISHED", "KILLED"]
        assert [run.info.status for run in (found, *tracked.children(found))] == ["FINISHED"] * 4
        assert tracked.versions() == {1: set()}

    settings = Settings(home=home, source=str(inputs[0]))
    resources = build_resources(settings)
    lakehouse = on_shared_spark(resources["lakehouse"], settings, spark_resource)
    assert register(lakehouse, resources["tracking"], model=settings.spec().registered_model).failure is None

    reference = Tracked(embedded_store(undisturbed))
    assert tracked.versions() == {1: {"challenger", "champion"}} == reference.versions()
    assert tracked.results(found) == reference.results(reference.parents()[0])
    for name in ("raw_transactions", *SETS):
        assert table(home, name).version == table(undisturbed, name).version == 0
        assert table(home, name).rows().equals(table(undisturbed, name).rows()), name
    assert tracked.statuses() == {"FINISHED": 5, "KILLED": 2}
    assert staged(home) == []


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="without /proc there is only the number to go by")
def test_a_process_is_known_by_more_than_its_number(tracking: Tracking):
    """Numbers are used again, in containers at once; and a killed process keeps its own until its parent looks."""
    store = tracking.connect()
    host, number, start = processes.this_process().split(":")
    zombie = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    died = f"{host}:{zombie.pid}:{processes._start_of(zombie.pid)}"
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    opened = {
        store.client.create_run(store.experiment_id, tags={PROCESS_TAG: tag}).info.run_id: left
        for tag, left in {
            died: "KILLED",
            f"{host}:{number}:1{start}": "KILLED",
            f"{host}:{number}:{start}": "RUNNING",
            "of another program": "RUNNING",
        }.items()
    }

    with store.open_run("next", {}):
        found = {run_id: store.client.get_run(run_id).info.status for run_id in opened}

    assert found == opened
    zombie.communicate()
