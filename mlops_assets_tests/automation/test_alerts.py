"""A failed run leads to one message that says what, why, whose and where to look."""

from __future__ import annotations

import json

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_assets.automation.alerts import FailedRun, failure_sensor, send
from mlops_assets.errors import AutomationError
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


DEFS = dg.Definitions(
    assets=[broken, downstream],
    jobs=[dg.define_asset_job("all_of_it"), without_assets],
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
        "text": f"broken failed (owner: team:fraud): no such file {UI}runs/{result.run_id}",
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


def test_without_a_webhook_it_goes_to_the_log(instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]):
    tell(fail("all_of_it", instance), instance, None)
    assert "broken failed (owner: team:fraud): no such file" in capfd.readouterr().err


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
