"""registered_model: verified bit for bit, then challenger, then champion only through the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import xgboost as xgb
from deltalake import DeltaTable
from sklearn.metrics import average_precision_score

from mlops_assets.assets.registered_model import GateConfig, build_registered_model
from mlops_assets.assets.tuning_config import RangeConfig, TunedModelConfig
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import MODEL_URI_TAG, PRODUCTION_FILE, PRODUCTION_MODEL_URI_TAG, PRODUCTION_SCORES_FILE
from mlops_assets.registry import judged_rows, registration
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome
from mlops_assets.testing.stores import copy_mlflow, copy_tables, open_tracking
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.training.objective import tree_parameters
from mlops_assets_tests.assets.harness import (
    HERE,
    QUICK,
    Databases,
    load,
    register,
    spec_of,
    split,
    tune,
    write_csv,
)

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


PRODUCTION = {"production_refit": True}
PATIENT = GateConfig(min_lift=1.0, beat_simple_scores=False)


def point(depth: int, trees: int) -> TunedModelConfig:
    """Return a search of one point, with a production refit."""
    fixed = {
        "max_depth": RangeConfig(low=depth, high=depth),
        "n_estimators": RangeConfig(low=trees, high=trees),
        "learning_rate": RangeConfig(low=0.3, high=0.3),
    }
    return WEAK.model_copy(update={"space": fixed, "early_stopping_rounds": 0, **PRODUCTION})


def load_days(lakehouse: Lakehouse, folder: Path, first: float, days: float, rows: int, seed: int) -> None:
    """Load transactions of some days, and cut the sets anew."""
    table = generate(rows=rows, days=days, fraud_rate=0.06, seed=seed)
    later = pc.add(table.column("time"), first * 86_400)
    table = table.set_column(table.column_names.index("time"), "time", later)
    assert load(lakehouse, write_csv(table, folder / f"{seed}.csv")).failure is None
    assert split(lakehouse).failure is None


def rows_of(lakehouse: Lakehouse, name: str, version: int) -> pd.DataFrame:
    """Read a table without the platform."""
    return DeltaTable(lakehouse.location(name), version=version).to_pandas()


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
    store = tracking.connect()
    run_id = outcome.metadata["mlflow_run_id"]
    card = read_artifact(store, run_id, "of_version_1/model_card.md").decode()
    assert card == outcome.metadata["model_card"]
    for name in ("train_set", "validation_set", "test_set"):
        rows = rows_of(tuned, name, 0)
        span = f"{rows['time'].min():,.0f} s|{rows['time'].max():,.0f} s"
        assert f"|{name}|0|{len(rows):,}|{rows['class'].sum():,}|{span}|" in card
    drivers = json.loads(read_artifact(store, run_id, "explanation/global_importance.json"))["importance"]
    assert f"|{max(drivers, key=drivers.__getitem__)}|{max(drivers.values()):.3g}|" in card
    assert "OpenML CreditCardFraudDetection" in card
    assert "the contract states none" in card

    again = register(tuned, tracking)

    assert again.metadata["version"] == 1
    assert again.failed_checks == []
    assert len(tracking.connect().client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_worse_candidate_stays_challenger(tuned: Lakehouse, tracking: Tracking):
    register(tuned, tracking)
    tune(tuned, tracking, WEAK)

    outcome = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=10))

    assert outcome.failure is None
    assert outcome.failed_checks == ["promotion_gate"]
    assert outcome.checks["promotion_gate"].severity is dg.AssetCheckSeverity.WARN
    said = str(outcome.checks["promotion_gate"].description)
    assert "against champion version 1's" in said
    assert "the gain's lower end" in said
    assert "judged: the model itself" in said
    assert outcome.metadata["promoted"] is False
    assert "No part of the rows was judged by itself" in outcome.metadata["model_card"], "25 frauds are too few"
    assert aliases(tracking) == {"challenger": 2, "champion": 1}


@pytest.mark.proof  # three registrations and a search
def test_the_gate_says_the_same_where_the_features_stay_on_the_cluster(
    tuned: Lakehouse,
    tracking: Tracking,
    settings: Settings,
    new_lakehouse: Callable[[], Lakehouse],
    empty_mlflow: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def elsewhere(name: str, config: GateConfig) -> Outcome:
        """Register what there is by now, in copies of the stores, on the cluster."""
        home = tmp_path / name
        copy, store = copy_tables(tuned, new_lakehouse()), open_tracking(home, empty_mlflow)
        copy_mlflow(settings.home, home)
        with monkeypatch.context() as patch:
            patch.setattr(registration, "collects", lambda *_: False)
            patch.setattr(judged_rows, "InMemory", None)
            return register(copy, store, config)

    def figures(outcome: Outcome) -> dict[str, object]:
        assert outcome.failure is None
        numbers = {name: value for name, value in outcome.metadata.items() if isinstance(value, int | float | bool)}
        return {name: value for name, value in numbers.items() if name != "champion_age_days"}  # the clock goes on

    lenient = GateConfig(min_lift=1.0, min_unseen_frauds=10)
    there = elsewhere("first", GateConfig(min_lift=2.0))
    here = register(tuned, tracking)
    assert figures(there) == pytest.approx(figures(here), rel=1e-9)
    tune(tuned, tracking, WEAK)
    there = elsewhere("second", lenient)
    here = register(tuned, tracking, lenient)

    assert figures(there) == pytest.approx(figures(here), rel=1e-9)
    assert there.metadata["gate"] == here.metadata["gate"]
    assert "against champion version 1's" in str(there.metadata["gate"])


@pytest.mark.proof  # two more registrations and searches; `registry` tests the gate
def test_the_same_booster_is_registered_once_and_one_on_too_few_frauds_stays_challenger(
    tuned: Lakehouse, tracking: Tracking
):
    register(tuned, tracking)
    tune(tuned, tracking)

    same = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=1))
    tune(tuned, tracking, WEAK)
    few = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=1_000))

    assert same.metadata["gate"] == "version 1 is champion already"
    assert same.metadata["version"] == 1
    assert aliases(tracking) == {"challenger": 2, "champion": 1}
    test = rows_of(tuned, "test_set", 0)
    assert f"can't tell: {1_000 - test['class'].sum()} more frauds needed" in few.metadata["gate"]
    assert few.checks["promotion_gate"].severity is dg.AssetCheckSeverity.WARN
    old = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=1_000, replace_after_days=1e-9))
    assert "and is replaced" in old.metadata["gate"]
    assert aliases(tracking) == {"challenger": 2, "champion": 2}


@pytest.fixture
def served(lakehouse: Lakehouse, tracking: Tracking, tmp_path: Path) -> xgb.Booster:
    """The first production model, which is champion, as MLflow loads it."""
    load_days(lakehouse, tmp_path, 0, 6, 3_000, seed=1)
    tune(lakehouse, tracking, point(1, 1))
    assert register(lakehouse, tracking, PATIENT).metadata["promoted"] is True
    with tracking.connect().selected():
        loaded: xgb.Booster = mlflow.xgboost.load_model(f"models:/{MODEL}/1")
    return loaded


@pytest.mark.proof  # a search with its production refit
def test_the_production_model_is_what_is_served(lakehouse: Lakehouse, tracking: Tracking, served: xgb.Booster):
    again = register(lakehouse, tracking, PATIENT)
    assert again.metadata["version"] == 1
    store, run_id = tracking.connect(), again.metadata["mlflow_run_id"]
    made = store.client.get_model_version(MODEL, "1")
    run = store.client.get_run(run_id)
    for tag in (MODEL_URI_TAG, PRODUCTION_MODEL_URI_TAG):
        assert made.tags[tag] == run.data.tags[tag]
    test = rows_of(lakehouse, "test_set", 0).sort_values(["time", "_batch_id", "_row_number"])
    features = [f"v{number}" for number in range(1, 29)] + ["amount"]
    by_hand = served.predict(xgb.DMatrix(test[served.feature_names].astype(np.float32)))
    stored = scores_from_bytes(read_artifact(store, run_id, PRODUCTION_SCORES_FILE))
    assert set(served.feature_names) == set(features)
    assert np.array_equal(by_hand, stored)


@pytest.mark.proof  # three more loads and searches
def test_the_point_of_a_production_model_is_compared_on_what_comes_later(
    lakehouse: Lakehouse, tracking: Tracking, served: xgb.Booster, tmp_path: Path
):
    """Before that the gate can't tell."""
    tune(lakehouse, tracking, point(3, 12))
    early = register(lakehouse, tracking, PATIENT)
    assert "can't tell: 30 more frauds needed" in early.metadata["gate"]
    assert aliases(tracking) == {"challenger": 2, "champion": 1}

    load_days(lakehouse, tmp_path, 5.5, 3, 3_000, seed=2)
    tune(lakehouse, tracking, point(3, 12))
    better = register(lakehouse, tracking, PATIENT)
    seen, test = rows_of(lakehouse, "raw_transactions", 0), rows_of(lakehouse, "test_set", 1)
    unseen = test[test["time"] > seen["time"].max()]
    details = better.checks["promotion_gate"].metadata
    assert details["unseen_rows"].value == len(unseen)
    assert details["unseen_frauds"].value == unseen["class"].sum()
    assert "judged: its point, fitted on the rows that the champion was fitted on" in better.metadata["gate"]
    assert aliases(tracking) == {"challenger": 3, "champion": 3}
    # The same by hand: the point on the champion's rows, with as many trees a row.
    store = tracking.connect()
    report = json.loads(read_artifact(store, better.metadata["mlflow_run_id"], PRODUCTION_FILE))
    seen = seen.sort_values(["time", "_batch_id", "_row_number"])
    fitted = xgb.train(
        {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "seed": 42,
            "nthread": 1,
            **tree_parameters(report["point"]),
        },
        xgb.QuantileDMatrix(seen[served.feature_names].astype(np.float32), label=seen["class"]),
        num_boost_round=round(report["trees"] / report["rows"] * len(seen)),
    )
    scores = fitted.predict(xgb.DMatrix(unseen[served.feature_names].astype(np.float32)))
    expected = average_precision_score(unseen["class"], scores)
    assert details["average_precision_candidate"].value == pytest.approx(expected, abs=1e-6)

    load_days(lakehouse, tmp_path, 8.6, 4, 3_000, seed=3)
    tune(lakehouse, tracking, point(3, 12))
    refresh = register(lakehouse, tracking, PATIENT)
    assert "refresh; judged: the rehearsal" in refresh.metadata["gate"]


@pytest.mark.proof  # two large loads; `lakehouse/test_unseen_rows` counts the rows
def test_rows_that_the_champion_has_seen_do_not_count_when_older_ones_arrive_later(
    lakehouse: Lakehouse, tracking: Tracking, tmp_path: Path
):
    load_days(lakehouse, tmp_path, 10, 6, 3_000, seed=1)
    tune(lakehouse, tracking)
    register(lakehouse, tracking)
    load_days(lakehouse, tmp_path, 0, 10, 7_000, seed=2)
    tune(lakehouse, tracking, WEAK)

    outcome = register(lakehouse, tracking, GateConfig(min_lift=1.0))

    seen = pd.concat([rows_of(lakehouse, "train_set", 0), rows_of(lakehouse, "validation_set", 0)])
    test = rows_of(lakehouse, "test_set", 1)
    known = test.merge(seen[["_batch_id", "_row_number"]], on=["_batch_id", "_row_number"])
    assert 0 < len(known) < len(test), "the champion was trained on a part of the new test set"
    unseen = test[test["time"] > seen["time"].max()]
    details = outcome.checks["promotion_gate"].metadata
    assert details["unseen_rows"].value == len(unseen) < len(test)
    assert details["unseen_frauds"].value == unseen["class"].sum()
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
