"""The asset `inference_log`: what was captured is in the table once, and its scores can be had again bit for bit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from deltalake import DeltaTable

from mlops_assets.assets.inference_log import CAUGHT_UP, REPLAYED, build_inference_log
from mlops_assets.automation.predictions import predictions_sensor
from mlops_assets.definitions import build_defs
from mlops_assets.resources.tracking import Tracking
from mlops_assets.serving.log.record import LogRow, encode
from mlops_assets.serving.log.sinks import DeltaSink
from mlops_assets.spec import FraudModelSpec
from mlops_assets_tests.serving.kit import LEVELS, rows
from mlops_assets_tests.serving.registry import Registry
from mlops_assets_tests.serving.test_captured import inference_table

NAMES = ("amount", "count", "channel", "risk")


class Logged:
    """A model whose server has written some predictions.

    Args:
        home: The home of its registry.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.table = home, home / "log"
        self.registry = Registry(home)
        self.booster = self.registry.register(1)
        self.spec = self.registry.spec.model_copy(update={"inference_log": f"delta:{self.table}"})

    def write(self, count: int, *, change: float = 0.0, version: int = 1) -> None:
        """Log rows with the scores that the version gives them, the last one changed."""
        X = rows(count, 5)
        scores = self.booster.inplace_predict(X).astype(np.float32)
        scores[-1] += np.float32(change)
        found = []
        for number, (values, score) in enumerate(zip(X.tolist(), scores.tolist(), strict=True)):
            amount, seen, channel, risk = values
            features = (amount, int(seen), LEVELS["channel"][int(channel)], None if np.isnan(risk) else risk)
            row = LogRow(
                request_id=f"r-{number}", model="m", at=int(datetime.now(UTC).timestamp() * 1e6), arm="champion",
                contract=self.spec.contract.versioned_name, features=dict(zip(NAMES, features, strict=True)),
                score=score, version=version,
            )  # fmt: skip
            found.append(encode(row))
        DeltaSink(str(self.table)).write(found)

    def run(self, spec: FraudModelSpec | None = None) -> dg.ExecuteInProcessResult:
        """Materialize the asset."""
        uri = self.registry.settings.mlflow_uri
        asset = build_inference_log(spec or self.spec, table=str(self.table), login=dict, bundles=self.home / "serving")
        tracking = Tracking(mlflow_tracking_uri=uri)
        return dg.materialize([asset], resources={"tracking": tracking}, raise_on_error=False)


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """Return verdict and text of each check."""
    found = result.get_asset_check_evaluations()
    return {check.check_name: (check.passed, check.description or "") for check in found}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"))


def test_logged_scores_are_the_same_again_and_a_changed_one_is_noticed(logged: Logged):
    nothing = logged.run()
    assert not nothing.success
    assert "nothing was captured yet" in str(nothing.all_events)

    logged.write(40)
    good = logged.run()
    logged.write(10, change=1e-7)
    changed = logged.run()
    logged.write(5, version=9)
    unknown = logged.run()

    assert verdicts(good)[REPLAYED] == (True, "40 rows have the same bits again (0 could not be scored again)")
    assert verdicts(good)[CAUGHT_UP][0]
    assert verdicts(changed)[REPLAYED] == (False, "1 of 50 rows have other scores now, such as requests r-9")
    assert not verdicts(unknown)[REPLAYED][0]
    assert "version 9" in verdicts(unknown)[REPLAYED][1]


def test_the_sensor_asks_for_one_load_at_a_time(logged: Logged, tmp_path: Path):
    spec = logged.spec.model_copy(update={"inference_log": f"databricks:{tmp_path / 'captured'}"})
    sensor = predictions_sensor(spec, table=str(tmp_path / "log"), login=dict, status=dg.DefaultSensorStatus.STOPPED)
    inference_table(tmp_path / "captured", "d-1")
    with dg.DagsterInstance.ephemeral() as instance:
        asked = sensor(dg.build_sensor_context(instance=instance))
        instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
        busy = sensor(dg.build_sensor_context(instance=instance))
    asset = build_inference_log(spec, table=str(tmp_path / "log"), login=dict, bundles=tmp_path)
    done = dg.materialize(
        [asset], resources={"tracking": Tracking(mlflow_tracking_uri=logged.registry.settings.mlflow_uri)}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        nothing = sensor(dg.build_sensor_context(instance=instance))

    assert isinstance(asked, dg.RunRequest)
    assert isinstance(busy, dg.SkipReason)
    assert "a load is going on" in str(busy.skip_message)
    assert done.success
    assert DeltaTable(tmp_path / "log").count() == 2
    assert isinstance(nothing, dg.SkipReason)


def test_a_model_has_the_asset_where_it_names_the_place(logged: Logged):
    def names(address: str | None) -> set[str]:
        found = build_defs(logged.registry.settings.model_copy(update={"inference_log": address}))
        keys = {key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys()}
        return keys | {job.name for job in found.jobs or ()} | {sensor.name for sensor in found.sensors or ()}

    assert names("kafka://127.0.0.1:9092/p") - names(None) == {"inference_log", "load_predictions", "new_predictions"}


def _job() -> dg.JobDefinition:
    @dg.job(name="load_predictions")
    def found() -> None:
        pass

    return found
