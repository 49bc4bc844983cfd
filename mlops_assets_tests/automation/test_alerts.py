"""A failed run leads to one message that says what, why, whose and where to look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_assets.assets.reporting import check_results
from mlops_assets.automation.alerts import FailedRun, failure_sensor, send
from mlops_assets.errors import AutomationError
from mlops_assets.registry.contest import Contest
from mlops_assets.registry.gate import judge_promotion
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets_tests.data.sources.web_server import Reply, WebServer

UI = "http://127.0.0.1:3000/"
MESSAGE = FailedRun("load", "1234", ("raw_transactions",), ("team:fraud",), "no such file", f"{UI}runs/1234")


@dg.asset(owners=["team:fraud"])
def broken() -> None:
    """Fail in words."""
    raise dg.Failure("no such file\nmore of it")


@dg.asset(deps=[broken])
def downstream() -> None:
    """Never reached."""


@dg.op
def explode() -> None:
    """Fail as code fails."""
    raise ZeroDivisionError("division by zero")


@dg.job
def without_assets() -> None:
    """Hold no asset."""
    explode()


@dg.asset(check_specs=[dg.AssetCheckSpec("promotion_gate", asset="registered", blocking=True)])
def registered() -> Iterator[Any]:
    """Register a model that is not promoted, as the platform's asset does."""
    verdict = judge_promotion(
        GateRule(), average_precision=0.4, judged="", fraud_rate=0.01, contest=Contest("champion")
    )
    yield dg.MaterializeResult()
    yield from check_results([verdict.outcome], dg.AssetKey("registered"))


DEFS = dg.Definitions(
    assets=[broken, downstream, registered],
    jobs=[
        dg.define_asset_job("all_of_it", selection=["broken", "downstream"]),
        dg.define_asset_job("register", selection=["registered"]),
        without_assets,
    ],
    sensors=[],
)


def fail(job: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    result = DEFS.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    return result


def tell(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, webhook: str | None) -> None:
    """Tick the sensor for one run, as the daemon does."""
    secret = SecretStr(webhook) if webhook else None
    failure = result.get_run_failure_event()
    with dg.build_run_status_sensor_context(
        sensor_name="run_failed",
        dagster_event=failure,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        repository_def=DEFS.get_repository_def(),
    ) as context:
        failure_sensor(secret, UI, status=dg.DefaultSensorStatus.RUNNING)(context.for_run_failure())


@pytest.mark.parametrize("job", ["all_of_it", "__ASSET_JOB"])
def test_one_message_names_asset_owner_reason_and_link(job: str, instance: dg.DagsterInstance):
    with WebServer() as server:
        result = fail(job, instance)
        tell(result, instance, server.serve("/hook", Reply(b"ok")))
        (seen,) = server.seen
    told = json.loads(seen.body)
    assert told == {
        "text": f"broken failed (owner: team:fraud): `no such file` {UI}runs/{result.run_id}",
        "job": "all_of_it" if job == "all_of_it" else "assets",
        "run_id": result.run_id,
        "assets": ["broken"],
        "owners": ["team:fraud"],
        "reason": "no such file",
        "link": f"{UI}runs/{result.run_id}",
    }


def test_a_run_without_assets_is_told_by_its_job(instance: dg.DagsterInstance):
    with WebServer() as server:
        tell(fail("without_assets", instance), instance, server.serve("/hook", Reply(b"ok")))
        told = json.loads(server.seen[0].body)
    assert (told["job"], told["assets"]) == ("without_assets", [])
    assert told["reason"] == "ZeroDivisionError: division by zero"


def alerts_of(instance: dg.DagsterInstance, webhook: str) -> int:
    """Tick the sensor once, as the daemon does, over all runs of an instance; return how many messages it sent."""
    sensor = failure_sensor(SecretStr(webhook), UI, status=dg.DefaultSensorStatus.RUNNING)
    repository = DEFS.get_repository_def()
    failed = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    for record in failed:
        (entry,) = instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        with dg.build_run_status_sensor_context(
            sensor_name="run_failed",
            dagster_event=entry.get_dagster_event(),
            dagster_instance=instance,
            dagster_run=record.dagster_run,
            repository_def=repository,
        ) as context:
            sensor(context.for_run_failure())
    return len(failed)


def test_a_model_that_is_not_promoted_sends_no_alert_and_a_failed_run_beside_it_does(instance: dg.DagsterInstance):
    registering = DEFS.resolve_job_def("register").execute_in_process(instance=instance, raise_on_error=False)
    assert registering.success
    (check,) = registering.get_asset_check_evaluations()
    assert not check.passed
    with WebServer() as server:
        url = server.serve("/hook", Reply(b"ok"))
        assert alerts_of(instance, url) == 0
        assert server.seen == []
        fail("all_of_it", instance)
        assert alerts_of(instance, url) == 1
        assert json.loads(server.seen[0].body)["assets"] == ["broken"]


def test_without_a_webhook_it_goes_to_the_log(instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]):
    tell(fail("all_of_it", instance), instance, None)
    assert "broken failed (owner: team:fraud): `no such file`" in capfd.readouterr().err


def test_a_busy_receiver_is_asked_again():
    with WebServer() as server:
        url = server.serve("/hook", Reply(status=429), Reply(hang_up=True), Reply(status=503), Reply(b"ok"))
        send(MESSAGE, url, pauses=(0.01, 0.01, 0.01))
        assert len(server.seen) == 4


@pytest.mark.parametrize(("reply", "tries"), [(Reply(status=404), 1), (Reply(status=500), 3)])
def test_a_message_that_is_not_taken_is_an_error_without_the_secret(reply: Reply, tries: int):
    with WebServer() as server:
        url = server.serve("/hook/secret", reply)
        with pytest.raises(AutomationError, match=rf"HTTP {reply.status}.*MLOPS_ALERT_WEBHOOK") as caught:
            send(MESSAGE, url, pauses=(0.01, 0.01))
        assert len(server.seen) == tries
    assert "secret" not in str(caught.value)
    assert "no such file" in str(caught.value), "what was to be said is not lost"


@pytest.mark.parametrize("address", ["no-address", "http://127.0.0.1:1/secret"])
def test_an_address_that_leads_nowhere_is_an_error_without_the_secret(address: str):
    with pytest.raises(AutomationError) as caught:
        send(MESSAGE, address, pauses=())
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
