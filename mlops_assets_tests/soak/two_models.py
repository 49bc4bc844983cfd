"""A code location of two models with automation on: cards and transfers, each with a folder that files arrive in.

What belongs here: the two specs, and a pace that fits a test. What does not: anything else; all but the pace is what
`build_fraud_model` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.automation.sensors import NEW_FILES, new_files_sensor
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.retired import retired
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets_tests.soak.location import PACE

CONTRACTS = {"cards": "creditcard", "transfers": "handbook"}
_SEARCH: dict[str, Any] = {
    "space": {"max_depth": {"low": 2, "high": 3}, "n_estimators": {"low": 5, "high": 12}},
    "trials": 2,
    "parallelism": 1,
    "alerts_per_day": 20,
    "replicates": 50,
}


def specs_in(landing: Path) -> dict[str, FraudModelSpec]:
    """Return the models, by name, whose files arrive in folders of a folder."""
    return {
        name: FraudModelSpec(
            name=name,
            contract=load_contract(contract),
            source=str(landing / name),
            search=_SEARCH,
            gate={"min_lift": 1.0, "beat_simple_scores": False},
        )
        for name, contract in CONTRACTS.items()
    }


def _model(spec: FraudModelSpec, settings: Settings) -> dg.Definitions:
    made = build_fraud_model(spec, settings)
    slow = [sensor for sensor in made.sensors or [] if sensor.name != spec.prefixed(NEW_FILES)]
    fast = new_files_sensor(spec, status=dg.DefaultSensorStatus.RUNNING, pace=PACE, retired=retired(spec, settings))
    return dg.Definitions(assets=made.assets, jobs=made.jobs, schedules=made.schedules, sensors=[*slow, fast])


def _definitions(settings: Settings) -> dg.Definitions:
    models = [_model(spec, settings) for spec in specs_in(Path(settings.source)).values()]
    return dg.Definitions.merge(build_shared(settings, lambda: None), *models)


# The test imports the specs alone, without a landing place in its environment.
defs = _definitions(Settings.from_environment())
