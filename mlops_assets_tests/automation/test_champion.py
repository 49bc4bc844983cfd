"""The job that goes back and the sensor that notices, as Dagster runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.automation.champion import reconcile_sensor, rollback_job
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.registry.alias_moves import ChampionLedger
from mlops_assets.registry.golden import keep_golden
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import by_alias
from mlops_assets.registry.warehouse_ledger import ledger_of
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.assets.harness import Databases, spec_of
from mlops_assets_tests.registry.test_verified import registered, rows, trained

MODEL = "fraud_creditcard_synthetic"


def no_spark() -> Any:
    raise AssertionError("nothing here needs Spark")


@pytest.fixture
def resources(tracking: Tracking, tmp_path: Path) -> dict[str, Any]:
    """Two versions, of which the first was promoted."""
    store = tracking.connect()
    for number in (1, 2):
        assert registered(store, trained(rounds=number), MODEL).number == number
        keep_golden(store, load_verified(store, MODEL, number), rows())
    lakehouse = Lakehouse(no_spark, "db", str(tmp_path / "db"), locks=str(tmp_path / "locks"))
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    ChampionLedger(store, MODEL, ledger_of(lakehouse)).settle()
    return {"lakehouse": Databases(lakehouse), "tracking": tracking}


def champion(resources: dict[str, Any]) -> int:
    found = by_alias(resources["tracking"].connect(), MODEL, "champion")
    return 0 if found is None else found.number


def look(resources: dict[str, Any], *, moves_back: bool = False, retired: str = "") -> str:
    sensor = reconcile_sensor(
        spec_of(), status=dg.DefaultSensorStatus.STOPPED, moves_back=moves_back, retired=lambda: retired
    )
    answer: Any = sensor(dg.build_sensor_context(resources=resources))
    return str(answer.skip_message)


def test_the_sensor_writes_down_what_another_client_did_and_moves_it_back_if_told_to(resources: dict[str, Any]):
    client = resources["tracking"].connect().client
    assert look(resources) == "the alias is where the ledger says"

    client.set_registered_model_alias(MODEL, "champion", "2")
    assert look(resources, retired="the model is retired") == "the model is retired"
    assert look(resources) == f"{MODEL}: moved outside, from version 1 to 2"
    assert (look(resources), champion(resources)) == ("the alias is where the ledger says", 2)

    client.set_registered_model_alias(MODEL, "champion", "1")
    assert look(resources, moves_back=True).endswith("moved back")
    assert champion(resources) == 2


def test_the_job_goes_back_and_fails_where_it_can_t(resources: dict[str, Any]):
    job = rollback_job(spec_of())

    def run(to: int) -> bool:
        config = {"ops": {"rollback_op": {"config": {"to": to, "reason": "alerts"}}}}
        return job.execute_in_process(run_config=config, resources=resources, raise_on_error=False).success

    assert run(2)
    assert champion(resources) == 2
    assert run(0), "to the champion before"
    assert champion(resources) == 1
    assert not run(9)
    assert champion(resources) == 1
