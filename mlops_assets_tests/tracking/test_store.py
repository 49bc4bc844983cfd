"""MLflow runs end with the right status, whatever happens inside them, and never mix."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from typing import Any

import pytest

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import PROCESS_TAG, STAGE_TAG
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.artifacts import read_artifact
from mlops_assets.tracking.runs import TableInput
from mlops_assets.tracking.store import Store


@pytest.fixture
def store(tracking: Tracking) -> Store:
    return tracking.connect()


def status(store: Store, run_id: str) -> str:
    found: str = store.client.get_run(run_id).info.status
    return found


def test_a_run_that_ends_well_is_finished(store: Store):
    with store.open_run("good", {"a": "b"}) as run:
        assert status(store, run.run_id) == "RUNNING"
        run.log(params={"p": 1}, metrics={"m": 0.5}, tags={"t": "v"})

    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert (found.data.params["p"], found.data.metrics["m"], found.data.tags["t"]) == ("1", 0.5, "v")


@pytest.mark.parametrize(
    ("raised", "expected"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_that_ends_badly_says_how(store: Store, raised: type[BaseException], expected: str):
    with pytest.raises(raised), store.open_run("bad", {}) as run:
        raise raised

    assert status(store, run.run_id) == expected


def test_dagsters_own_interrupt_counts_as_killed(store: Store):
    from dagster._core.errors import DagsterExecutionInterruptedError  # noqa: PLC0415 - used here alone

    with pytest.raises(DagsterExecutionInterruptedError), store.open_run("cancelled", {}) as run:
        raise DagsterExecutionInterruptedError

    assert status(store, run.run_id) == "KILLED"


def test_parallel_runs_keep_what_is_theirs(store: Store):
    """With MLflow's fluent interface the threads would share a tracking URI and trip over the active run."""
    found: dict[str, str] = {}

    def search(name: str) -> None:
        with store.open_run(name, {"name": name}) as run:
            for number in range(5):
                run.log(metrics={f"{name}_{number}": number})
            found[name] = run.run_id

    threads = [threading.Thread(target=search, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    for name, run_id in found.items():
        run = store.client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert set(run.data.metrics) == {f"{name}_{number}" for number in range(5)}
    assert len(found) == 3


def test_runs_of_a_dead_process_are_closed_by_the_next(store: Store):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    tags = {STAGE_TAG: "search", PROCESS_TAG: f"{platform.node()}:{dead.stdout.strip()}"}
    abandoned = store.client.create_run(store.experiment_id, tags=tags).info.run_id
    mine = {STAGE_TAG: "search", PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
    alive = store.client.create_run(store.experiment_id, tags=mine).info.run_id
    elsewhere = {STAGE_TAG: "search", PROCESS_TAG: f"another-machine:{dead.stdout.strip()}"}
    remote = store.client.create_run(store.experiment_id, tags=elsewhere).info.run_id

    with store.open_run("next", {}):
        pass

    assert status(store, abandoned) == "KILLED"
    assert status(store, alive) == "RUNNING"
    assert status(store, remote) == "RUNNING"


def test_the_latest_finished_search_is_found_by_its_tags(store: Store):
    with store.open_run("first", {"database": "x"}):
        pass
    with store.open_run("second", {"database": "x"}) as second:
        pass
    with pytest.raises(ValueError, match="third"), store.open_run("third", {"database": "x"}):
        raise ValueError("third")

    assert store.latest_search({"database": "x"}) == second.run_id
    assert store.latest_search({"database": "y"}) is None


def test_inputs_are_pinned_tables(store: Store):
    with store.open_run("search", {}) as run:
        run.log_inputs([TableInput("train_set", "/tables/train_set", 4, "training")])  # a name, nothing is read

    (source,) = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert (source.dataset.name, source.dataset.digest) == ("train_set", "v4")
    assert '"delta_table_version": 4' in source.dataset.source


def test_artifacts_come_back_and_a_missing_one_is_an_error(store: Store):
    with store.open_run("files", {}) as run:
        run.log_files({"a.txt": b"hello"}, "texts")

    assert read_artifact(store, run.run_id, "texts/a.txt") == b"hello"
    with pytest.raises(TrackingError, match=r"texts/b\.txt can't be read"):
        read_artifact(store, run.run_id, "texts/b.txt")


def test_a_tag_too_long_is_cut_and_not_refused(store: Store):
    with store.open_run("long", {"text": "x" * 20_000}) as run:
        pass

    tags: dict[str, Any] = store.client.get_run(run.run_id).data.tags
    assert tags["text"].startswith("xxx")
