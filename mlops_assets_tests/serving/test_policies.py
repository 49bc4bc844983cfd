"""A policy is changed by hand, and what is served and scored names the new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_assets.cli.policies import run_policy
from mlops_assets.errors import TrackingError
from mlops_assets.evaluation.operating_points import OperatingPoints
from mlops_assets.evaluation.threshold import Rule
from mlops_assets.lineage import OPERATING_POINTS_FILE
from mlops_assets.registry.versions import by_number
from mlops_assets.serving.following import Follower
from mlops_assets.serving.from_registry import policy_of
from mlops_assets.serving.watching import ALIASES_FILE
from mlops_assets_tests.serving.registry import Registry

ALERTS = [5, 20, 100]
POINTS = OperatingPoints(100, 10, 500.0, 5, [0.9, 0.4, 0.1], ALERTS, ALERTS, [4, 8, 10], [200.0, 450.0, 500.0])


@pytest.mark.proof  # a registry of its own
def test_a_policy_is_changed_by_hand_and_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    registry = Registry(tmp_path / "home")
    registry.register(1)
    store, name = registry.source.store, registry.source.registered
    run_id = by_number(store, name, 1).run_id
    for param, value in {"alert_cost": 10, "alerts_per_day": 2}.items():
        store.client.log_param(run_id, param, value)
    (path,) = [Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))]
    (path / OPERATING_POINTS_FILE).write_text(json.dumps(POINTS.to_json_dict()))
    follower = Follower(registry.source, tmp_path / "m", (), ())

    def followed() -> dict[str, object]:
        follower.look()
        return dict(json.loads((tmp_path / "m" / ALIASES_FILE).read_text())["policies"]["1"])

    def policy(cost: float | None = None, budget: int | None = None) -> str:
        rule: Rule | None = None if budget is None else "alert_budget"
        run_policy(
            registry.settings,
            registry.spec,
            version=None,
            rule=rule,
            alert_cost=cost,
            alerts_per_day=budget,
            reason="dearer",
        )
        return capsys.readouterr().out

    assert followed() == {"version": "v1-cost", "threshold": 0.5, "rule": "cost"}
    with pytest.raises(TrackingError, match="before versions had policies"):
        policy()
    said = policy(cost=1.0)
    assert (
        "policy v1.2-cost: review from a score of 0.4 on (rule cost, an alert costs 1, 2 alerts a day; dearer" in said
    )
    assert "| 2 (now) | 0.9 | 5 | 4 | 40.0 % | 80.0 % | 200 |" in said
    assert followed() == {"version": "v1.2-cost", "threshold": 0.4, "rule": "cost"}
    assert "policy v1.3-alert_budget: review from a score of 0.9" in policy(budget=1)
    assert followed() == {"version": "v1.3-alert_budget", "threshold": 0.9, "rule": "alert_budget"}
    assert policy_of(registry.source, by_number(store, name, 1)).version == "v1.3-alert_budget"
    assert "policy v1.3-alert_budget" in policy()
