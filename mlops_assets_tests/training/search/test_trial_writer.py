"""Trials reach MLflow beside the search: three requests each, through throttling, and no error is lost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import ERROR_TAG, PARENT_TAG, RESUMED_FROM_TAG, SEARCH_KEY_TAG, STATE_TAG
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking import throttling
from mlops_assets.tracking.runs import ParentRun
from mlops_assets.tracking.store import Store
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search.resume import record_from_tags
from mlops_assets.training.search.trial_writer import TrialWriter
from mlops_assets_tests.mlflow_server import Door, Server, door_before, running_server
from mlops_assets_tests.processes.control import eventually
from mlops_assets_tests.training.spaces import seed_point

KEY = "0123456789abcdef"
POINT = seed_point(3, 10, 0.1, 0.05, 0.01)
CURVE = ((5, 0.5), (10, 0.7), (15, 0.65))


def finished(number: int, value: float = 0.7) -> TrialRecord:
    return TrialRecord(number, POINT, "finished", value, -value, seconds=1.5, rounds=10, curve=CURVE)


FAILED = TrialRecord(7, POINT, "failed", None, None, seconds=0.1, error="ValueError: no\nTraceback ...")
PRUNED = TrialRecord(8, POINT, "pruned", 0.3, -0.3, seconds=0.2, rounds=5, curve=CURVE[:1])


@pytest.fixture
def store(tracking: Tracking) -> Store:
    return tracking.connect()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def door(server: Server) -> Iterator[Door]:
    with door_before(server.uri) as opened:
        yield opened


def behind(door: Door, name: str) -> Store:
    return Tracking(mlflow_tracking_uri=door.uri).connect(name)


def children(client: MlflowClient, experiment_id: str, parent: str) -> dict[str, Run]:
    found = client.search_runs([experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'")
    assert len({run.info.run_name for run in found}) == len(found), "a trial was written twice"
    return {run.info.run_name: run for run in found}


def test_a_value_on_a_sample_has_a_name_of_its_own(store: Store):
    """Whoever sorts child runs by the validation metric must not find it there."""
    screened = TrialRecord(0, POINT, "screened", 0.9, -0.9, seconds=0.1, rounds=10, curve=CURVE, share=0.1)
    with store.open_run("search", {}) as run, TrialWriter(run, "kappa", KEY) as writer:
        for record in (screened, dataclasses.replace(PRUNED, share=0.1), finished(1)):
            writer.write(record)

    found = children(store.client, store.experiment_id, run.run_id)
    first, cut, full = (found[f"trial {number:03d}"] for number in (0, 8, 1))
    assert (first.info.status, first.data.tags[STATE_TAG]) == ("KILLED", "screened")
    assert first.data.metrics["screening_kappa"] == 0.9
    assert first.data.metrics["screening_kappa_by_trees"] == CURVE[-1][1]
    assert first.data.metrics["share_of_genuine_rows"] == cut.data.metrics["share_of_genuine_rows"] == 0.1
    assert not any(name.startswith("validation") for child in (first, cut) for name in child.data.metrics)
    assert not any(name.startswith("s") for name in full.data.metrics)
    assert record_from_tags(first.data.tags, KEY) == screened


def test_each_state_is_a_child_that_shows_it(store: Store):
    taken_over = TrialRecord(9, POINT, "finished", 0.6, -0.6, seconds=500.0, resumed_from="earlier-run")
    with store.open_run("search", {}) as run, TrialWriter(run, "kappa", KEY) as writer:
        for record in (finished(0), FAILED, PRUNED, taken_over):
            writer.write(record)

    found = children(store.client, store.experiment_id, run.run_id)
    assert {name: child.info.status for name, child in found.items()} == {
        "trial 000": "FINISHED",
        "trial 007": "FAILED",
        "trial 008": "KILLED",
        "trial 009": "FINISHED",
    }
    assert [child.data.tags[STATE_TAG] for _, child in sorted(found.items())] == [
        "finished",
        "failed",
        "pruned",
        "finished",
    ]
    assert found["trial 000"].data.metrics["validation_kappa"] == 0.7
    assert found["trial 000"].data.params["learning_rate"] == "0.1"
    assert found["trial 007"].data.tags[ERROR_TAG].startswith("ValueError: no")
    assert "validation_kappa" not in found["trial 007"].data.metrics
    assert found["trial 009"].data.tags[RESUMED_FROM_TAG] == "earlier-run"
    assert all(child.data.tags[SEARCH_KEY_TAG] == KEY for child in found.values())
    history = store.client.get_metric_history(found["trial 000"].info.run_id, "validation_kappa_by_trees")
    assert tuple((point.step, point.value) for point in history) == CURVE


def test_a_long_curve_is_kept_whole_and_drawn_with_fewer_points(store: Store):
    curve = tuple((5 * step, 0.5 + step / 3_000) for step in range(1, 1_401))
    record = TrialRecord(0, POINT, "finished", 0.9, -0.9, seconds=1.0, rounds=7_000, curve=curve)
    with store.open_run("search", {}) as run, TrialWriter(run, "kappa", KEY) as writer:
        writer.write(record)

    (child,) = children(store.client, store.experiment_id, run.run_id).values()
    assert record_from_tags(child.data.tags, KEY) == record
    history = store.client.get_metric_history(child.info.run_id, "validation_kappa_by_trees")
    assert 300 < len(history) <= 600
    assert (history[-1].step, history[-1].value) == curve[-1]


@pytest.mark.proof  # two searches
def test_a_trial_costs_three_requests(door: Door):
    store = behind(door, "three requests")
    with store.open_run("search", {}) as run:
        before = door.forwarded.copy()
        with TrialWriter(run, "kappa", KEY) as writer:
            for number in range(12):
                writer.write(finished(number))
        made = door.forwarded - before

    assert made == {"POST /runs/create": 12, "POST /runs/log-batch": 12, "POST /runs/update": 12}


@pytest.mark.proof  # a search against a slow server
def test_a_throttling_server_keeps_the_search_from_nothing_and_loses_no_trial(door: Door, server: Server):
    """Six requests in ten are refused, with a second to wait: more than MLflow's own four retries bear."""
    store = behind(door, "throttled")
    with store.open_run("search", {}) as run:
        before, door.share = door.forwarded.total(), 0.6
        with TrialWriter(run, "kappa", KEY) as writer:
            longest = 0.0
            for number in range(8):
                began = time.perf_counter()
                writer.write(finished(number))
                longest = max(longest, time.perf_counter() - began)
        made, door.share = door.forwarded.total() - before, 0.0

    found = children(MlflowClient(server.uri), store.experiment_id, run.run_id)
    assert sorted(found) == [f"trial {number:03d}" for number in range(8)]
    assert all(record_from_tags(child.data.tags, KEY) for child in found.values())
    assert {child.info.status for child in found.values()} == {"FINISHED"}
    assert made == 24
    assert door.throttled > 24
    assert longest < 0.1


@pytest.mark.proof  # a search against a slow server
def test_throttling_without_a_word_on_when_to_come_back_is_borne_too(door: Door, server: Server):
    store = behind(door, "no header")
    with store.open_run("search", {}) as run:
        door.share, door.retry_after = 0.3, None
        with TrialWriter(run, "kappa", KEY) as writer:
            for number in range(4):
                writer.write(finished(number))
        door.share = 0.0

    assert len(children(MlflowClient(server.uri), store.experiment_id, run.run_id)) == 4


def test_a_server_that_throttles_for_ever_is_an_error_in_the_end(door: Door):
    store = behind(door, "for ever")
    door.share = 1.0
    with pytest.raises(TrackingError, match="429"), store.answering():
        throttling.patiently(lambda: store.client.search_runs([store.experiment_id]), seconds=3.0)


def test_an_interrupt_waits_for_a_throttling_server_for_seconds_only(
    door: Door, server: Server, caplog: pytest.LogCaptureFixture
):
    store = behind(door, "interrupted")
    run = ParentRun(store, store.client.create_run(store.experiment_id).info.run_id)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupt_between(run, door)
    seconds = time.monotonic() - began
    door.share = 0.0

    assert seconds < 10
    assert "4 finished trials were not written" in caplog.text
    assert set(children(MlflowClient(server.uri), store.experiment_id, run.run_id)) >= {"trial 000", "trial 001"}


def interrupt_between(run: ParentRun, door: Door) -> None:
    """Write two trials, then four to a server that has begun to refuse everything, and be interrupted."""
    with TrialWriter(run, "kappa", KEY) as writer:
        writer.write(finished(0))
        writer.write(finished(1))
        eventually(lambda: door.forwarded["POST /runs/update"] >= 2, 20, "two trials are written")
        door.share = 1.0
        for number in range(2, 6):
            writer.write(finished(number))
        raise KeyboardInterrupt


def test_a_dead_server_ends_the_search_with_one_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # two seconds; by default it is borne for fifteen
    with door_before(server.uri) as door:
        store = behind(door, "dead")
        run_id = store.client.create_run(store.experiment_id).info.run_id
    began = time.monotonic()
    with pytest.raises(TrackingError, match="Connection refused") as caught:
        search_until_it_fails(store, run_id)

    assert caught.value.where == door.uri
    assert time.monotonic() - began < 20


def search_until_it_fails(store: Store, run_id: str) -> None:
    with TrialWriter(ParentRun(store, run_id), "kappa", KEY) as writer:
        for number in range(600):
            writer.write(finished(number))
            time.sleep(0.05)


def test_an_error_after_the_last_trial_is_not_lost(store: Store):
    """MLflow refuses children of an experiment that was deleted meanwhile."""
    with pytest.raises(TrackingError, match="rejected"), store.open_run("search", {}) as run:
        write_into_a_deleted_experiment(store, run)


def write_into_a_deleted_experiment(store: Store, run: ParentRun) -> None:
    with TrialWriter(run, "kappa", KEY) as writer:
        store.client.delete_experiment(store.experiment_id)
        writer.write(finished(0))
    pytest.fail("the block has ended without the error")
