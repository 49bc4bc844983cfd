"""registered_model: verified bit for bit, then challenger, then champion only through the gate."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import numpy as np

from mlops_assets.assets.registered_model import GateConfig, build_registered_model
from mlops_assets.assets.tuning_config import RangeConfig
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.assets.harness import HERE, QUICK, Databases, register, spec_of, tune

MODEL = "fraud_creditcard_synthetic"
WEAK = QUICK.model_copy(
    update={
        "trials": 1,
        "space": {
            "max_depth": RangeConfig(low=1, high=1),
            "n_estimators": RangeConfig(low=1, high=1),
            "learning_rate": RangeConfig(low=0.3, high=0.3),
        },
    }
)


def aliases(tracking: Tracking) -> dict[str, int | None]:
    found = {name: by_alias(tracking.connect(), MODEL, name) for name in ("challenger", "champion")}
    return {name: version.number if version else None for name, version in found.items()}


def stored_scores(tracking: Tracking) -> Path:
    """Return the artifact itself, where the embedded store keeps it."""
    store = tracking.connect()
    run_id = store.latest_search({})
    assert run_id is not None
    return Path(store.client.get_run(run_id).info.artifact_uri) / "evaluation" / "test_scores.npy"


def test_the_first_good_model_becomes_challenger_and_champion_and_running_again_adds_no_version(
    tuned: Lakehouse, tracking: Tracking
):
    outcome = register(tuned, tracking)

    assert outcome.failure is None
    assert outcome.failed_checks == []
    assert outcome.metadata["version"] == 1
    assert outcome.metadata["promoted"] is True
    assert aliases(tracking) == {"challenger": 1, "champion": 1}
    assert "0 differ" in str(outcome.checks["scores_reproduced"].description)

    again = register(tuned, tracking)

    assert again.metadata["version"] == 1
    assert again.failed_checks == []
    assert len(tracking.connect().client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_worse_candidate_stays_challenger(tuned: Lakehouse, tracking: Tracking):
    register(tuned, tracking)
    tune(tuned, tracking, WEAK)

    outcome = register(tuned, tracking, GateConfig(min_lift=1.0))

    assert outcome.failure is None
    assert outcome.failed_checks == ["promotion_gate"]
    assert outcome.checks["promotion_gate"].severity is dg.AssetCheckSeverity.WARN
    assert "is below champion version 1's" in str(outcome.checks["promotion_gate"].description)
    assert outcome.metadata["promoted"] is False
    assert aliases(tracking) == {"challenger": 2, "champion": 1}


def rewrite_report(tracking: Tracking, average_precision: float) -> None:
    """Change what the run says of its model."""
    path = stored_scores(tracking).with_name("evaluation.json")
    report = json.loads(path.read_text())
    report["metrics"]["average_precision"]["estimate"] = average_precision
    path.write_text(json.dumps(report))


def materialized(lakehouse: Lakehouse, tracking: Tracking, gate: GateConfig) -> dg.ExecuteInProcessResult:
    """Materialize the asset in a run of Dagster's, and let that decide whether the run has failed."""
    return dg.materialize(
        [build_registered_model(spec_of())],
        run_config=dg.RunConfig(ops={"registered_model": gate}),
        resources={
            "lakehouse": Databases(lakehouse),
            "tracking": tracking,
            "loader_cluster": HERE,
        },
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )


def test_a_model_near_chance_is_refused_even_without_a_champion_by_a_run_that_succeeds_with_a_warning(
    tuned: Lakehouse, tracking: Tracking
):
    run = materialized(tuned, tracking, GateConfig(min_lift=1_000.0))

    assert run.success, "a run that fails would send an alert"
    found = {check.check_name: check for check in run.get_asset_check_evaluations()}
    assert found["scores_reproduced"].passed
    assert not found["promotion_gate"].passed
    assert found["promotion_gate"].severity is dg.AssetCheckSeverity.WARN
    assert "stays challenger" in str(found["promotion_gate"].description)
    assert "below 1000 x the fraud rate" in str(found["promotion_gate"].description)
    assert aliases(tracking) == {"challenger": 1, "champion": None}


def test_figures_that_are_no_numbers_fail_the_run(tuned: Lakehouse, tracking: Tracking):
    rewrite_report(tracking, float("nan"))

    run = materialized(tuned, tracking, GateConfig())

    assert not run.success
    found = {check.check_name: check for check in run.get_asset_check_evaluations()}
    assert found["promotion_gate"].severity is dg.AssetCheckSeverity.ERROR
    assert aliases(tracking) == {"challenger": 1, "champion": None}


def test_scores_that_are_not_reproduced_fail_the_run(tuned: Lakehouse, tracking: Tracking):
    path = stored_scores(tracking)
    scores = np.load(path)
    np.save(path, scores[:-1])

    assert not materialized(tuned, tracking, GateConfig()).success
    assert aliases(tracking) == {"challenger": None, "champion": None}


def test_an_artifact_that_scores_otherwise_gets_no_alias(tuned: Lakehouse, tracking: Tracking):
    """What the run says it scored is changed by one bit of one row."""
    path = stored_scores(tracking)
    scores = np.load(path)
    scores.view(np.uint32)[0] ^= 1
    np.save(path, scores)

    outcome = register(tuned, tracking)

    assert outcome.failed_checks == ["scores_reproduced"]
    assert "1 differ" in outcome.message
    assert outcome.results == []
    assert aliases(tracking) == {"challenger": None, "champion": None}


def test_a_pickled_score_file_is_refused(tuned: Lakehouse, tracking: Tracking):
    path = stored_scores(tracking)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    outcome = register(tuned, tracking)

    assert "test_scores" in outcome.message
    assert outcome.failure is not None


def test_without_a_tuned_model_the_error_says_what_to_materialize(lakehouse: Lakehouse, tracking: Tracking):
    assert "materialize `tuned_model`" in register(lakehouse, tracking).message


def test_checks_are_blocking():
    assert {spec.name for spec in build_registered_model(spec_of()).check_specs if spec.blocking} == {
        "scores_reproduced",
        "promotion_gate",
    }
