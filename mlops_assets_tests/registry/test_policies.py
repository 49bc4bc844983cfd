"""Policies of a version: versioned beside the model, changed without training, and never what someone else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_assets.errors import EvaluationError, TrackingError
from mlops_assets.evaluation.operating_points import OperatingPoints
from mlops_assets.evaluation.threshold import by_alert_budget, by_cost
from mlops_assets.lineage import OPERATING_POINTS_FILE, POLICY_TAG, REHEARSED_SCORES_FILE, SCORES_FILE
from mlops_assets.registry.golden import folder_of
from mlops_assets.registry.policies import PolicyVersion, change_policy, current_policy, first_policy
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import BrokenVersionError, VerifiedModel, load_verified
from mlops_assets.registry.versions import by_number
from mlops_assets.tracking.artifacts import scores_to_bytes
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_verified import NAME, registered, store_in, trained

DRAWN = np.random.default_rng(2)
Y = (DRAWN.random(900) < 0.05).astype(np.uint8)
SCORES = np.clip(DRAWN.normal(0.2 + 0.3 * Y, 0.1), 0, 1).astype(np.float32)
DAYS, AMOUNTS = DRAWN.integers(0, 9, 900), DRAWN.exponential(50, 900)
CHOSEN = by_cost(Y, SCORES, AMOUNTS, 10.0).threshold
PARAMS = {"alert_cost": "10.0", "alerts_per_day": "20"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_in(tmp_path_factory.mktemp("registry"))


def made(store: Store, rounds: int, *, production: bool = False) -> tuple[VerifiedModel, TunedRun]:
    """Return a version with what its run keeps for policies."""
    version = registered(store, trained(rounds=rounds))
    files = {
        OPERATING_POINTS_FILE: json.dumps(OperatingPoints.of(Y, SCORES, DAYS, AMOUNTS, None).to_json_dict()).encode(),
        SCORES_FILE: scores_to_bytes(SCORES),
        REHEARSED_SCORES_FILE: scores_to_bytes((SCORES / 2).astype(np.float32)),
    }
    folder = artifacts(store, version.run_id)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    report: dict[str, Any] = {"threshold": CHOSEN.to_json_dict()}
    run = TunedRun(version.run_id, {}, PARAMS, {}, report, report if production else None)
    return load_verified(store, NAME, version.number), run


def artifacts(store: Store, run_id: str) -> Path:
    return Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def in_force(store: Store, model: VerifiedModel) -> PolicyVersion:
    version = by_number(store, NAME, model.number)
    return current_policy(store, NAME, version.number, version.run_id, version.policy)


def change(store: Store, model: VerifiedModel, run: TunedRun, **given: Any) -> PolicyVersion:
    wanted = {"rule": None, "alert_cost": None, "alerts_per_day": None, "reason": "because", **given}
    return change_policy(store, model, run, **wanted)


def test_a_policy_is_changed_without_training_and_the_old_one_stays(store: Store):
    model, run = made(store, rounds=2)
    first = first_policy(store, model, run)
    assert (first.number, first.threshold, first.name) == (1, CHOSEN, f"v{model.number}-cost")
    assert first_policy(store, model, run) == first, "only once"

    dearer = change(store, model, run, alert_cost=40.0)
    assert (dearer.number, dearer.name) == (2, f"v{model.number}.2-cost")
    assert dearer.threshold == by_cost(Y, SCORES, AMOUNTS, 40.0).threshold
    budget = change(store, model, run, rule="alert_budget")
    assert budget.threshold.value == by_alert_budget(SCORES, DAYS, 20).value
    assert (budget.alert_cost, budget.alerts_per_day, budget.reason) == (40.0, 20, "because")
    assert in_force(store, model) == budget
    kept = artifacts(store, model.version.run_id) / folder_of(model.number)
    assert sorted(path.name for path in kept.glob("policy_*")) == ["policy_1.json", "policy_2.json", "policy_3.json"]
    assert PolicyVersion.from_json_dict(json.loads((kept / "policy_2.json").read_text())) == dearer


def test_a_production_model_s_policy_is_carried_over_as_a_rate_of_alerts(store: Store):
    model, run = made(store, rounds=4, production=True)
    first_policy(store, model, run)

    changed = change(store, model, run, alert_cost=40.0).threshold

    alerts = (by_cost(Y, SCORES, AMOUNTS, 40.0).threshold.value <= SCORES).sum()
    assert changed.alerts == alerts
    assert changed.value == np.sort(SCORES / 2)[-alerts]


def test_what_can_t_be_a_policy_changes_nothing(store: Store):
    model, run = made(store, rounds=5)
    first = first_policy(store, model, run)
    with pytest.raises(EvaluationError, match="alert cost"):
        change(store, model, run, alert_cost=-1.0)
    (artifacts(store, run.run_id) / OPERATING_POINTS_FILE).unlink()
    with pytest.raises(TrackingError):
        change(store, model, run, alert_cost=1.0)
    assert in_force(store, model) == first


def test_a_policy_that_someone_else_wrote_is_refused(store: Store):
    model, run = made(store, rounds=6)
    first_policy(store, model, run)
    path = artifacts(store, run.run_id) / folder_of(model.number) / "policy_1.json"
    path.write_text(path.read_text().replace('"alert_cost": 10.0', '"alert_cost": 11.0'))

    with pytest.raises(BrokenVersionError, match="policy 1 is not what was written"):
        in_force(store, model)
    with pytest.raises(BrokenVersionError):
        change(store, model, run, alert_cost=1.0)
    assert POLICY_TAG in store.client.get_model_version(NAME, str(model.number)).tags
