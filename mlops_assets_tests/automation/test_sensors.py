"""The sensors as Dagster ticks them: cursor, run key, tags, and what became of the runs they asked for."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from mlops_assets.assets.config_defaults import with_values
from mlops_assets.assets.label_sources import LabelFiles
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, ingest_config
from mlops_assets.assets.reporting import refusal
from mlops_assets.assets.shell import readable_errors
from mlops_assets.assets.sources import FileTransactions
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.automation.jobs import MERGE_LABELS, jobs_of
from mlops_assets.automation.landing import LandingState, Pace
from mlops_assets.automation.outcomes import outcome_of
from mlops_assets.automation.sensors import FILES_TAG, new_files_sensor, new_labels_sensor
from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.contract.contract import parse_contract
from mlops_assets.data.sources.listing import landed_files
from mlops_assets.errors import SourceError, UnreachableError
from mlops_assets_tests.assets.harness import spec_of
from mlops_assets_tests.test_definitions import LATE as LATE_CARDS

SPEC = spec_of()
LATE = parse_contract(LATE_CARDS, where="the test")
AT_ONCE = Pace(settle_seconds=0)


@dg.asset(name=RAW, config_schema=ingest_config(FileTransactions(location="none")).to_fields_dict())
def loaded() -> None:
    """Stand in for the load: what a file is called says what becomes of it."""
    source = FileTransactions(**dg.AssetExecutionContext.get().op_execution_context.op_config["source"])
    with readable_errors():
        if "bad" in source.location:
            refused = refusal([CheckOutcome("types", passed=False, description="no number")], what="refused")
            assert refused is not None
            raise refused
        if "garbled" in source.location:
            raise SourceError("not a CSV", where=source.location, fix="export it anew")
        if "away" in source.location:
            raise UnreachableError("no answer", where=source.location, fix="wait")


JOB = dg.define_asset_job("load_data", selection=[loaded])
DEFS = dg.Definitions(assets=[loaded], jobs=[JOB])


@dg.asset(name=TRANSACTION_LABELS, config_schema=with_values(LabelFiles, {"location": "none"}).to_fields_dict())
def brought() -> None:
    """Stand in for the labels' table."""
    config = LabelFiles(**dg.AssetExecutionContext.get().op_execution_context.op_config)
    with readable_errors():
        if "bad" in config.location:
            raise SourceError("2 of 2 label rows are bad", where=config.location, fix="fix the file")


@dg.multi_asset(
    name=RAW,
    specs=[dg.AssetSpec(RAW, deps=[TRANSACTION_LABELS]), dg.AssetSpec(QUARANTINED)],
    config_schema=ingest_config(FileTransactions(location="none")).to_fields_dict(),
)
def merged() -> Iterator[Any]:
    """Stand in for the merge: a run for labels must not look at the source."""
    assert dg.AssetExecutionContext.get().op_execution_context.op_config["labels_only"]
    yield dg.MaterializeResult(asset_key=RAW)
    yield dg.MaterializeResult(asset_key=QUARANTINED)


LABELLED = spec_of(LATE, labels="/labels")
(MERGE,) = (job for job in jobs_of(LABELLED, days=False) if job.name == MERGE_LABELS)
LABEL_DEFS = dg.Definitions([brought, merged], jobs=[MERGE])


def sensor(folder: Path) -> dg.SensorDefinition:
    return new_files_sensor(spec_of(source=str(folder)), status=dg.DefaultSensorStatus.STOPPED, pace=AT_ONCE)


def tick(folder: Path, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = sensor(folder)(context)
    assert isinstance(result, dg.SensorResult)
    return result


def launch(request: dg.RunRequest, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Do what the daemon does with a request."""
    return DEFS.resolve_job_def("load_data").execute_in_process(
        run_config=request.run_config,
        tags={**request.tags, "dagster/run_key": str(request.run_key)},
        instance=instance,
        raise_on_error=False,
    )


def asked(result: dg.SensorResult) -> list[dg.RunRequest]:
    return list(result.run_requests or [])


def test_a_new_file_is_loaded_once_and_the_tags_say_what_was_consumed(tmp_path: Path, instance: dg.DagsterInstance):
    (tmp_path / "a.csv").write_text("x")
    first = tick(tmp_path, instance, None)
    assert not asked(first)
    assert "1 still being written" in str(first.skip_reason)

    second = tick(tmp_path, instance, first.cursor)
    (request,) = asked(second)
    assert request.tags[FILES_TAG] == f"1: {tmp_path}/a.csv"
    assert request.run_config["ops"][RAW]["config"] == {"source": {"location": f"{tmp_path}/a.csv"}}
    assert launch(request, instance).success

    third = tick(tmp_path, instance, second.cursor)
    assert not asked(third)
    assert "1 taken" in str(third.skip_reason)
    assert not LandingState.from_cursor(third.cursor).orders


def test_the_source_is_observed_when_there_is_something_new_and_not_otherwise(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """A data version per state of the folder; the same files give the same one."""

    def observed(result: dg.SensorResult) -> list[tuple[str, int, int, str]]:
        return [
            (
                event.asset_key.to_user_string(),
                int(str(event.metadata["new_files"].value)),
                int(str(event.metadata["files"].value)),
                (event.tags or {})["dagster/data_version"],
            )
            for event in result.asset_events
            if isinstance(event, dg.AssetObservation)
        ]

    (tmp_path / "a.csv").write_text("x")
    first = tick(tmp_path, instance, None)
    second = tick(tmp_path, instance, first.cursor)
    third = tick(tmp_path, instance, second.cursor)
    (tmp_path / "b.csv").write_text("x")
    fourth = tick(tmp_path, instance, third.cursor)
    for request in asked(second):
        launch(request, instance)
    fifth = tick(tmp_path, instance, fourth.cursor)

    ((key, new, there, version),) = observed(second)
    assert (key, new, there) == ("transaction_source", 1, 1)
    assert observed(first) == observed(third) == observed(fourth) == []
    ((_, new_now, there_now, version_now),) = observed(fifth)
    assert (new_now, there_now) == (1, 2)
    assert version_now != version
    again = tick(tmp_path, instance, tick(tmp_path, instance, None).cursor)
    assert [found[3] for found in observed(again)] == [version_now]


@pytest.mark.parametrize(
    ("name", "outcome"), [("bad.csv", "refused"), ("garbled.csv", "refused"), ("away.csv", "failed")]
)
def test_input_that_is_to_blame_is_set_aside_and_a_place_that_is_away_is_asked_again(
    tmp_path: Path, instance: dg.DagsterInstance, name: str, outcome: str
):
    (tmp_path / name).write_text("x")
    second = tick(tmp_path, instance, tick(tmp_path, instance, None).cursor)
    (request,) = asked(second)
    assert not launch(request, instance).success
    assert outcome_of(instance, str(request.run_key), SPEC) == outcome

    state = LandingState.from_cursor(tick(tmp_path, instance, second.cursor).cursor)
    assert bool(state.refused) == (outcome == "refused")
    assert bool(state.orders) == (outcome == "failed")


def test_files_of_a_retired_model_wait_until_it_is_brought_back(tmp_path: Path, instance: dg.DagsterInstance):
    reasons = ["model cards was retired"]
    watching = new_files_sensor(
        spec_of(source=str(tmp_path)),
        status=dg.DefaultSensorStatus.STOPPED,
        pace=AT_ONCE,
        retired=lambda: reasons[0] if reasons else "",
    )
    (tmp_path / "a.csv").write_text("x")
    cursor = tick(tmp_path, instance, None).cursor

    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        refused = watching(context)
        assert isinstance(refused, dg.SkipReason)
        assert refused.skip_message == "model cards was retired"
        assert context.cursor == cursor, "so that nothing is lost"

        reasons.clear()
        result = watching(context)
    assert isinstance(result, dg.SensorResult)
    (request,) = asked(result)
    assert request.tags[FILES_TAG] == f"1: {tmp_path}/a.csv"


def test_a_run_that_was_cancelled_is_asked_for_again(tmp_path: Path, instance: dg.DagsterInstance):
    (tmp_path / "a.csv").write_text("x")
    second = tick(tmp_path, instance, tick(tmp_path, instance, None).cursor)
    (request,) = asked(second)
    tags = {"dagster/run_key": str(request.run_key)}
    run = instance.create_run_for_job(DEFS.resolve_job_def("load_data"), tags=tags)
    assert outcome_of(instance, str(request.run_key), SPEC) == "going"
    instance.report_run_canceling(run)
    instance.report_run_canceled(instance.get_run_by_id(run.run_id) or run)
    assert outcome_of(instance, str(request.run_key), SPEC) == "failed"
    (order,) = LandingState.from_cursor(tick(tmp_path, instance, second.cursor).cursor).orders
    assert order.attempt == 1


def test_new_labels_are_merged_once_and_a_bad_file_is_set_aside(tmp_path: Path, instance: dg.DagsterInstance):
    watching = new_labels_sensor(
        spec_of(LATE, labels=str(tmp_path)), status=dg.DefaultSensorStatus.STOPPED, pace=AT_ONCE
    )

    def look(cursor: str | None) -> tuple[dg.RunRequest | None, str | None]:
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            result = watching(context)
        assert isinstance(result, dg.SensorResult)
        return next(iter(asked(result)), None), result.cursor

    def succeeds(request: dg.RunRequest | None) -> bool:
        assert request is not None
        return (
            LABEL_DEFS.resolve_job_def(MERGE_LABELS)
            .execute_in_process(
                run_config=request.run_config,
                tags={**request.tags, "dagster/run_key": str(request.run_key)},
                instance=instance,
                raise_on_error=False,
            )
            .success
        )

    (tmp_path / "good.csv").write_text("x")
    _, cursor = look(None)
    request, cursor = look(cursor)
    assert succeeds(request)
    (tmp_path / "bad.csv").write_text("x")
    _, cursor = look(cursor)
    request, cursor = look(cursor)
    assert not succeeds(request)
    request, cursor = look(cursor)
    assert request is None
    assert list(LandingState.from_cursor(cursor).refused) == [f"{tmp_path}/bad.csv"]


def test_a_landing_place_that_is_gone_fails_the_tick_in_words(tmp_path: Path, instance: dg.DagsterInstance):
    with pytest.raises(SourceError, match="no such folder"):
        tick(tmp_path / "none", instance, None)


class Counted(MemoryFileSystem):
    """Files in memory that count what they are asked."""

    protocol = "counted"
    asked: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def info(self, path: str, **kwargs: Any) -> Any:
        self.asked["info"] += 1
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self.asked["ls"] += 1
        return super().ls(path, detail=detail, **kwargs)

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self.asked["open"] += 1
        return super()._open(path, *args, **kwargs)


def test_ten_thousand_old_files_cost_one_listing_and_are_not_looked_into(instance: dg.DagsterInstance):
    fsspec.register_implementation("counted", Counted, clobber=True)
    folder = f"/{uuid.uuid4().hex}"
    files = fsspec.filesystem("counted")
    files.makedirs(folder)
    for number in range(10_000):
        files.store[f"{folder}/{number:05d}.csv"] = MemoryFile(files, f"{folder}/{number:05d}.csv", b"x")
    place = f"counted:/{folder}"
    taken = LandingState(taken=frozenset(file.mark for file in landed_files(place)))
    look = new_files_sensor(spec_of(source=place), status=dg.DefaultSensorStatus.STOPPED)
    Counted.asked.clear()

    with dg.build_sensor_context(instance=instance, cursor=taken.to_cursor()) as context:
        result = look(context)

    assert isinstance(result, dg.SensorResult)
    assert "10000 files there, 10000 taken" in str(result.skip_reason)
    assert result.cursor == taken.to_cursor()
    assert Counted.asked == {"info": 1, "ls": 1}
