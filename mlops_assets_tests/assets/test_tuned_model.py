"""tuned_model: an MLflow run that holds all of it, a refit that is the winner, and one look at the test rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.compute as pc
import pytest
from mlflow.entities import Run
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.assets.splits import SplitConfig, Strategy
from mlops_assets.assets.tuning_config import (
    Engine,
    Objective,
    RangeConfig,
    ThresholdRule,
    TunedModelConfig,
)
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import (
    ACCEPTED_LEAKS_TAG,
    EVALUATION_FILE,
    EXPLANATION_FOLDER,
    MODEL_URI_TAG,
    PARENT_TAG,
    PRODUCTION_FILE,
    PRODUCTION_MODEL_URI_TAG,
    PRODUCTION_SCORES_FILE,
    RESUMED_FROM_TAG,
    SCORES_FILE,
    SEARCH_KEY_TAG,
    STAGE_TAG,
)
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.artifacts import read_artifact, scores_from_bytes
from mlops_assets.tracking.store import Store
from mlops_assets.training.search.resume import record_from_tags, record_tags
from mlops_assets_tests.assets.conftest import Searched
from mlops_assets_tests.assets.harness import QUICK, load, register, split, transactions, tune, write_csv


def runs_of(store: Store, stage: str) -> list[object]:
    return list(store.client.search_runs([store.experiment_id], f"tags.`{STAGE_TAG}` = '{stage}'"))


def test_a_materialization_is_one_finished_run_with_a_child_per_trial(searched_once: Searched):
    outcome, tracking = searched_once.outcome, searched_once.tracking

    assert outcome.failure is None
    assert outcome.failed_checks == []
    store = tracking.connect()
    (parent,) = store.client.search_runs([store.experiment_id], f"tags.`{STAGE_TAG}` = 'search'")
    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
    assert outcome.metadata["mlflow_run_id"] == parent.info.run_id
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 3
    assert all({"max_depth", "learning_rate"} <= set(child.data.params) for child in children)
    best = max(child.data.metrics["validation_average_precision"] for child in children)
    assert parent.data.metrics["validation_average_precision"] == best
    tags = parent.data.tags
    assert tags["mlops_assets.raw_version"] == "0"
    assert tags["dagster.run_url"].startswith("http://127.0.0.1:3000/runs/")
    assert {"package.xgboost-cpu", "package.python", "mlops_assets.git_revision"} <= set(tags)
    assert parent.data.params["seed"] == "42"
    contexts = {tag.value: source.dataset.name for source in parent.inputs.dataset_inputs for tag in source.tags}
    assert contexts == {"training": "train_set", "validation": "validation_set", "test": "test_set"}


def test_the_run_holds_the_model_its_scores_and_the_pictures(searched_once: Searched):
    outcome, tracking = searched_once.outcome, searched_once.tracking

    store, run_id = tracking.connect(), outcome.metadata["mlflow_run_id"]
    pictures = {Path(found.path).name for found in store.client.list_artifacts(run_id, "pictures")}
    assert pictures == {
        "precision_recall.png",
        "calibration.png",
        "score_histogram.png",
        "cost_against_threshold.png",
        "tuning_history.png",
        "feature_importance.png",
    }
    for name in pictures:
        assert f"- [{name}](http://127.0.0.1:" in outcome.metadata["pictures"]
    assert outcome.metadata["precision_recall"].startswith("![precision_recall](data:image/svg+xml;base64,")
    scores = scores_from_bytes(read_artifact(store, run_id, SCORES_FILE))
    report = json.loads(read_artifact(store, run_id, EVALUATION_FILE))
    assert scores.dtype == np.float32
    assert len(scores) == report["rows"] == searched_once.lakehouse.read("test_set", 0).count()
    for interval in report["metrics"].values():
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert outcome.metadata["test_average_precision"] == report["metrics"]["average_precision"]["estimate"]


def test_the_run_holds_why_the_model_scores_as_it_does(searched_once: Searched):
    outcome, tracking = searched_once.outcome, searched_once.tracking

    store, run_id = tracking.connect(), outcome.metadata["mlflow_run_id"]
    files = {Path(found.path).name for found in store.client.list_artifacts(run_id, EXPLANATION_FOLDER)}
    assert files == {"global_importance.json", "highest_scores.json", "shap_importance.png", "shap_summary.png"}
    scores = scores_from_bytes(read_artifact(store, run_id, SCORES_FILE))
    highest = json.loads(read_artifact(store, run_id, f"{EXPLANATION_FOLDER}/highest_scores.json"))
    assert highest[0]["score"] == float(scores.max()) == float(scores[highest[0]["row"]])
    document = json.loads(read_artifact(store, run_id, f"{EXPLANATION_FOLDER}/global_importance.json"))
    assert f"| {next(iter(document['importance']))} |" in outcome.metadata["top_features"]
    assert "- [shap_summary.png](http://127.0.0.1:" in outcome.metadata["pictures"]


@pytest.mark.proof  # two searches; `training/engines` tests the choice
def test_the_engine_is_chosen_by_size_and_can_be_set_by_hand(searched_once: Searched):
    """Over the cluster the run holds the same things, and its model is the same kind of artifact."""
    chosen, tracking = searched_once.outcome, searched_once.tracking
    by_hand_config = QUICK.model_copy(update={"engine": Engine.distributed, "trials": 1})
    by_hand = tune(searched_once.lakehouse, tracking, by_hand_config)

    assert chosen.metadata["engine"] == "memory"
    assert "they fit" in chosen.metadata["engine_reason"]
    assert by_hand.failure is None
    assert by_hand.failed_checks == []
    assert by_hand.metadata["engine"] == "distributed"
    assert "2 workers" in by_hand.metadata["search_notes"]
    store = tracking.connect()
    one, two = (outcome.metadata["mlflow_run_id"] for outcome in (chosen, by_hand))
    for folder in ("", "pictures", "evaluation", EXPLANATION_FOLDER):
        listed = [{Path(f.path).name for f in store.client.list_artifacts(run, folder or None)} for run in (one, two)]
        registered = {name for name in listed[0] if name.startswith("of_version_")}  # by another test of this search
        assert listed[0] - registered == listed[1]
    with store.selected():
        model = mlflow.pyfunc.load_model(by_hand.metadata["model_uri"])
        assert model.predict(model.input_example).dtype == np.float32
    scores = [scores_from_bytes(read_artifact(store, run, SCORES_FILE)) for run in (one, two)]
    assert len(scores[0]) == len(scores[1])
    # The same rows in the same order: two models of the same data rank them alike.
    assert np.corrcoef(np.log(scores[0]), np.log(scores[1]))[0, 1] > 0.5


@pytest.mark.proof  # a search with its production refit
def test_the_production_model_stands_beside_the_evaluated_one(lakehouse: Lakehouse, tracking: Tracking):
    load(lakehouse)
    split(lakehouse, SplitConfig(gap_days=0.5))
    outcome = tune(lakehouse, tracking, QUICK.model_copy(update={"production_refit": True}))

    assert outcome.failure is None
    told, store = outcome.metadata, tracking.connect()
    report = json.loads(read_artifact(store, told["mlflow_run_id"], PRODUCTION_FILE))
    assert store.client.get_run(told["mlflow_run_id"]).data.tags[PRODUCTION_MODEL_URI_TAG] == report["model_uri"]
    assert (told["production_model_uri"], told["model_uri"]) == (report["model_uri"], report["evaluated_model_uri"])
    assert report["model_uri"] != report["evaluated_model_uri"]
    assert report["sets"] == {"train": 0, "validation": 0, "test": 0}
    # Every row of the raw table has a mature label; the gaps hold some that are in no set.
    raw = lakehouse.require("raw_transactions", made_by="test")
    sets = {name: lakehouse.require(f"{name}_set", made_by="test") for name in ("train", "validation", "test")}
    in_sets = sum(lakehouse.read(table.name, table.version).count() for table in sets.values())
    assert report["rows"] == lakehouse.read(raw.name, raw.version).count() > in_sets
    assert report["threshold"]["value"] == told["production_threshold"] != told["threshold"]

    test = lakehouse.read("test_set", sets["test"].version).toPandas()
    test = test.sort_values(["time", "_batch_id", "_row_number"])
    with store.selected():
        for uri, file in ((told["model_uri"], SCORES_FILE), (report["model_uri"], PRODUCTION_SCORES_FILE)):
            model = mlflow.pyfunc.load_model(uri)
            served = model.predict(test[model.metadata.signature.inputs.input_names()].astype("float64"))
            assert np.array_equal(served, scores_from_bytes(read_artifact(store, told["mlflow_run_id"], file)))


def test_a_refit_whose_raw_version_is_gone_is_one_clear_error_before_the_search(
    prepared: Lakehouse, tracking: Tracking
):
    for path in prepared.read("raw_transactions", 0).inputFiles():
        Path(path.removeprefix("file:")).unlink()

    message = tune(prepared, tracking, QUICK.model_copy(update={"production_refit": True})).message

    assert "files of version 0 are gone: they were vacuumed or deleted" in message
    assert "Fix: materialize train_set, validation_set, test_set again" in message
    store = tracking.connect()
    assert store.client.search_runs([store.experiment_id]) == []


def test_without_the_production_refit_there_is_one_model(searched_once: Searched):
    outcome = searched_once.outcome

    run = searched_once.tracking.connect().client.get_run(outcome.metadata["mlflow_run_id"])
    assert "production_model_uri" not in outcome.metadata
    assert PRODUCTION_MODEL_URI_TAG not in run.data.tags
    assert (
        str(outcome.metadata["trees"]) == run.data.params["trees"] == run.data.params["n_estimators"]
    )  # QUICK's are too few to be stale


def test_the_signature_promises_what_is_served(searched_once: Searched):
    outcome, tracking = searched_once.outcome, searched_once.tracking
    store = tracking.connect()
    with store.selected():
        model = mlflow.pyfunc.load_model(outcome.metadata["model_uri"])
        example = model.input_example

    assert example is not None
    assert model.metadata.signature.outputs.input_names() == ["probability_of_fraud"]
    assert model.metadata.signature.inputs.input_names()[:2] == ["v1", "v2"]
    served = model.predict(example)
    assert served.dtype == np.float32
    assert ((served > 0) & (served < 1)).all()
    assert (
        store.client.get_run(outcome.metadata["mlflow_run_id"]).data.tags[MODEL_URI_TAG]
        == outcome.metadata["model_uri"]
    )


def test_the_same_seed_at_parallelism_one_gives_the_same_model(
    searched_once: Searched, tuned: Lakehouse, tracking: Tracking
):
    first, second = searched_once.outcome, tune(tuned, tracking)

    assert second.metadata["trials_resumed"] == 0
    assert first.metadata["best_point"] == second.metadata["best_point"]
    one = read_artifact(searched_once.tracking.connect(), first.metadata["mlflow_run_id"], SCORES_FILE)
    two = read_artifact(tracking.connect(), second.metadata["mlflow_run_id"], SCORES_FILE)
    assert one == two


@pytest.mark.proof  # a cut and a search
def test_a_space_of_one_point_stratified_sets_and_an_alert_budget_are_taken(prepared: Lakehouse, tracking: Tracking):
    """Each is independent of the others; the threshold of an alert budget needs no amounts."""
    split(prepared, SplitConfig(strategy=Strategy.stratified))
    point = {"max_depth": 3, "n_estimators": 7, "learning_rate": 0.25, "reg_alpha": 0.05, "base_score": 0.03}
    space = {name: RangeConfig(low=value, high=value) for name, value in point.items()}
    config = QUICK.model_copy(update={"space": space, "trials": 2, "threshold_rule": ThresholdRule.alert_budget})

    outcome = tune(prepared, tracking, config)

    assert outcome.failure is None
    assert outcome.metadata["best_point"] == point
    assert "cost_against_threshold" not in outcome.metadata


@pytest.mark.proof  # a search each
@pytest.mark.parametrize("objective", [Objective.kappa, Objective.f1, Objective.log_loss])
def test_every_objective_is_optimized_in_its_own_direction(
    prepared: Lakehouse, tracking: Tracking, objective: Objective
):
    outcome = tune(prepared, tracking, QUICK.model_copy(update={"objective": objective}))

    store = tracking.connect()
    children = store.client.search_runs(
        [store.experiment_id], f"tags.`{PARENT_TAG}` = '{outcome.metadata['mlflow_run_id']}'"
    )
    values = [child.data.metrics[f"validation_{objective.value}"] for child in children]
    best = min(values) if objective is Objective.log_loss else max(values)
    assert outcome.metadata[f"validation_{objective.value}"] == best


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            QUICK.model_copy(update={"space": {"max_depth": RangeConfig(low=9, high=3)}}),
            "the range of max_depth is invalid: 9 to 3",
        ),
        (
            QUICK.model_copy(update={"space": {"base_score": RangeConfig(low=0, high=0.1)}}),
            "the range of base_score is invalid: 0 to 0.1",
        ),
    ],
    ids=["bounds reversed", "base score of zero"],
)
def test_a_space_that_makes_no_sense_is_refused_before_a_run_is_opened(
    prepared: Lakehouse, tracking: Tracking, config: TunedModelConfig, said: str
):
    outcome = tune(prepared, tracking, config)

    assert said in outcome.message
    assert runs_of(tracking.connect(), "search") == []


def test_without_sets_the_error_says_what_to_materialize(lakehouse: Lakehouse, tracking: Tracking):
    assert "materialize `train_set` first" in tune(lakehouse, tracking).message


def test_nothing_of_the_test_set_reaches_the_choice(searched_once: Searched, prepared: Lakehouse, tracking: Tracking):
    """The same train and validation rows with another test set: the same model and threshold, other figures."""
    whole = searched_once.outcome
    test = prepared.require("test_set", made_by="test")
    flipped = prepared.read("test_set", test.version).withColumn("class", 1 - F.col("class"))
    prepared.replace("test_set", flipped, base=test, metadata=dict(test.metadata))

    other = tune(prepared, tracking)

    assert other.metadata["best_point"] == whole.metadata["best_point"]
    assert other.metadata["threshold"] == whole.metadata["threshold"]
    assert other.metadata["test_average_precision"] != whole.metadata["test_average_precision"]


@dataclass(frozen=True)
class WithoutTestSet(Lakehouse):
    """Tables of which the test set can be read until a number of MLflow runs exist, and is gone then."""

    count_runs: Callable[[], int] = lambda: 0
    most: int = 0

    def read(self, name: str, version: int) -> DataFrame:
        """Return a table, or fail."""
        if name == "test_set" and self.count_runs() >= self.most:
            raise ConnectionError("the store of the test set is gone")
        return super().read(name, version)


def break_off(lakehouse: Lakehouse, tracking: Tracking, config: TunedModelConfig = QUICK) -> None:
    """Search and be broken off after the last trial."""
    store = tracking.connect()

    def count_runs() -> int:
        return len(store.client.search_runs([store.experiment_id]))

    broken = WithoutTestSet(
        spark=lakehouse.spark,
        database=lakehouse.database,
        root=lakehouse.root,
        locks=lakehouse.locks,
        count_runs=count_runs,
        most=count_runs() + 1 + 3,  # the search and its trials
    )
    with pytest.raises(ConnectionError):
        tune(broken, tracking, config)


def latest_trials(store: Store) -> list[Run]:
    """Return the trials of the newest search, finished or not."""
    parents = store.client.search_runs([store.experiment_id], f"tags.`{STAGE_TAG}` = 'search'")
    newest = max(parents, key=lambda run: run.info.start_time)
    return list(store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{newest.info.run_id}'"))


def resumed(trials: list[Run]) -> int:
    return sum(RESUMED_FROM_TAG in trial.data.tags for trial in trials)


@pytest.mark.proof  # two searches; `training/search/test_resume` tests the rule
def test_a_search_that_was_broken_off_is_not_searched_again(prepared: Lakehouse, tracking: Tracking):
    break_off(prepared, tracking)

    outcome = tune(prepared, tracking)

    assert outcome.failed_checks == []
    assert (outcome.metadata["trials"], outcome.metadata["trials_resumed"]) == (3, 3)
    assert "nothing was left to try" in outcome.metadata["end_reason"]
    store = tracking.connect()
    children = store.client.search_runs(
        [store.experiment_id], f"tags.`{PARENT_TAG}` = '{outcome.metadata['mlflow_run_id']}'"
    )
    assert len(children) == 3
    assert all(child.data.tags[RESUMED_FROM_TAG] for child in children)


@pytest.mark.proof  # three searches
def test_another_search_takes_nothing_over_and_an_edited_trial_is_tried_again(prepared: Lakehouse, tracking: Tracking):
    """Others have another seed, another space or other rows; they are broken off as well."""
    break_off(prepared, tracking)
    store = tracking.connect()
    (parent,) = store.client.search_runs([store.experiment_id], f"tags.`{STAGE_TAG}` = 'search'")
    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
    narrow = {"max_depth": RangeConfig(low=2, high=4), "n_estimators": RangeConfig(low=5, high=9)}
    for change in ({"seed": 43}, {"space": narrow}):
        break_off(prepared, tracking, QUICK.model_copy(update=change))
        trials = latest_trials(store)
        assert (len(trials), resumed(trials)) == (3, 0), change

    edited = next(child for child in children if child.info.run_name == "trial 001")
    record = edited.data.tags["mlops_assets.record.0"]
    store.client.set_tag(edited.info.run_id, "mlops_assets.record.0", record.replace('"loss":-0.', '"loss":-9.'))
    break_off(prepared, tracking)
    trials = latest_trials(store)
    assert (len(trials), resumed(trials)) == (3, 2)
    assert max(trial.data.metrics["validation_average_precision"] for trial in trials) <= 1

    train = prepared.require("train_set", made_by="test")
    fewer = prepared.read("train_set", train.version).limit(2_000)
    prepared.replace("train_set", fewer, base=train, metadata=dict(train.metadata))
    break_off(prepared, tracking)
    trials = latest_trials(store)
    assert (len(trials), resumed(trials)) == (3, 0)


@pytest.mark.proof  # two searches
def test_a_refit_that_is_not_the_winner_leaves_a_failed_run_that_nobody_registers(
    prepared: Lakehouse, tracking: Tracking
):
    """An interrupted search is resumed, and one of its trials has a value that no fit gives."""
    break_off(prepared, tracking)
    store = tracking.connect()
    (parent,) = store.client.search_runs([store.experiment_id], f"tags.`{STAGE_TAG}` = 'search'")
    key = parent.data.tags[SEARCH_KEY_TAG]
    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
    record = record_from_tags(children[0].data.tags, key)
    for name, value in record_tags(dataclasses.replace(record, value=0.999, loss=-0.999), key).items():
        store.client.set_tag(children[0].info.run_id, name, value)

    outcome = tune(prepared, tracking)

    assert outcome.failed_checks == ["refit_reproduces_best_trial"]
    assert store.client.get_run(outcome.metadata["mlflow_run_id"]).info.status == "FAILED"
    assert "materialize `tuned_model`" in register(prepared, tracking).message
    assert tune(prepared, tracking).metadata["trials_resumed"] == 0, "its trials are what could not be reproduced"
    assert register(prepared, tracking).failure is None


@pytest.mark.proof  # a load and two searches; `evaluation/test_leaks` tests the rule
def test_a_leak_stops_the_run_before_the_search_unless_it_is_accepted_with_a_reason(
    lakehouse: Lakehouse, tracking: Tracking, tmp_path: Path
):
    table = transactions(2_000, days=6)
    copied = pc.add(table.column("v1"), pc.multiply(table.column("class").cast("double"), 100.0))
    load(lakehouse, write_csv(table.set_column(table.column_names.index("v1"), "v1", copied), tmp_path / "t.csv"))
    split(lakehouse)

    refused = tune(lakehouse, tracking)

    assert "v1: it nearly decides the target alone: average precision 1.00" in refused.message
    store = tracking.connect()
    assert store.client.search_runs([store.experiment_id]) == []
    reason = {"v1": "the issuer's own decision, which comes with the transaction"}
    outcome = tune(lakehouse, tracking, QUICK.model_copy(update={"accepted_leaks": reason}))
    assert outcome.failure is None
    assert outcome.metadata["accepted_leaks"] == reason
    tags = store.client.get_run(outcome.metadata["mlflow_run_id"]).data.tags
    assert json.loads(tags[ACCEPTED_LEAKS_TAG]) == reason
