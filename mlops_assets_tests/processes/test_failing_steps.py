"""A step fails after its MLflow run was opened: trials, all trials, the evaluation, beside a step that goes well."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.data.contract.contract import Contract
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.training.engines.engines import SplitTables
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.trial_writer import TrialWriter
from mlops_assets_tests.assets.harness import load, split, tune
from mlops_assets_tests.processes.conftest import on_shared_spark
from mlops_assets_tests.processes.control import SPACE, TUNING
from mlops_assets_tests.processes.state import Tracked, embedded_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# XGBoost keeps this parameter in a float32, whose largest value is 3.4e38, and refuses what is beyond.
LARGEST = 3.4e38
HALF_USABLE = {**TUNING, "trials": 8, "space": {**SPACE, "reg_alpha": {"low": 0, "high": 2 * LARGEST}}}
UNUSABLE = {**TUNING, "space": {**SPACE, "reg_alpha": {"low": 1.1 * LARGEST, "high": 2 * LARGEST}}}


class LethalOnce(str):
    """Name of a column that kills the first worker process that unpacks it."""

    __slots__ = ("flag",)
    flag: str

    def __new__(cls, name: str, flag: str) -> Self:
        """Return the name, which remembers where to note that it has killed."""
        made = super().__new__(cls, name)
        made.flag = flag
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpack into the plain name, or die."""
        return _survive, (str(self), self.flag)


def _survive(name: str, flag: str) -> str:
    if not Path(flag).exists():
        Path(flag).touch()
        os._exit(9)
    return name


@pytest.fixture(scope="module")
def lakehouse(spark_resource: SparkResource, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Sets, as a load and a cut leave them; no test here writes to them."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), source="a.csv")
    made = on_shared_spark(build_resources(settings)["lakehouse"], settings, spark_resource)
    assert load(made).failure is None
    assert split(made).failure is None
    return made


@pytest.fixture
def tracked(settings: Settings) -> Tracked:
    return Tracked(embedded_store(settings.home))


def statuses(tracked: Tracked) -> list[tuple[str, list[str]]]:
    """Return the status of each search and of its trials, sorted."""
    return sorted(
        (parent.info.status, sorted(child.info.status for child in tracked.children(parent)))
        for parent in tracked.parents()
    )


@pytest.mark.proof  # a run in a process of its own
def test_some_trials_fail_and_the_others_count(lakehouse: Lakehouse, tracking: Tracking, tracked: Tracked):
    outcome = tune(lakehouse, tracking, TunedModelConfig(**HALF_USABLE))

    assert outcome.failure is None
    ((status, trials),) = statuses(tracked)
    assert (status, set(trials)) == ("FINISHED", {"FAILED", "FINISHED"})
    assert outcome.metadata["trials_failed"] == trials.count("FAILED")
    for trial in tracked.children(tracked.parents()[0]):
        failed = trial.info.status == "FAILED"
        assert failed == (float(trial.data.params["reg_alpha"]) > LARGEST)
        assert failed == trial.data.tags.get("mlops_assets.error", "").startswith("XGBoostError")
        assert failed != ("validation_average_precision" in trial.data.metrics)
    assert outcome.metadata["best_point"]["reg_alpha"] < LARGEST


@pytest.mark.proof  # a search in a run; `training/search/test_search` has one as well
def test_all_trials_fail_with_one_error_that_names_the_first(
    lakehouse: Lakehouse, tracking: Tracking, tracked: Tracked
):
    outcome = tune(lakehouse, tracking, TunedModelConfig(**UNUSABLE))

    assert (
        "none of 3 trials succeeded (all 3 trials were tried); the first one: XGBoostError: Out of range value for "
        "reg_alpha" in outcome.message
    )
    assert "\n" not in outcome.message
    assert statuses(tracked) == [("FAILED", ["FAILED"] * 3)]


@pytest.mark.proof  # a search with a dead worker
def test_a_worker_process_that_dies_costs_one_trial(
    spark: SparkSession,
    lakehouse: Lakehouse,
    creditcard: Contract,
    tracking: Tracking,
    tracked: Tracked,
    tmp_path: Path,
):
    sets = pinned_sets(lakehouse)
    tables = SplitTables(
        lakehouse.session, lambda name: lakehouse.read(sets[name].name, sets[name].version), creditcard
    )
    train, validation = tables.matrix("train"), tables.matrix("validation")
    first, *others = train.features
    lethal = replace(train, features=(LethalOnce(first, str(tmp_path / "died")), *others))
    plan = TunedModelConfig(**TUNING).search_plan()

    with tracking.connect().open_run("search", {}) as run, TrialWriter(run, plan.objective, "key") as writer:
        found = run_search(spark, lethal, validation, plan, writer.write)

    assert [trial.value is None for trial in found.trials] == [True, False, False]
    assert found.best.number != found.trials[0].number
    assert statuses(tracked) == [("FINISHED", ["FAILED", "FINISHED", "FINISHED"])]
    (failed,) = [trial for trial in tracked.runs() if trial.info.status == "FAILED"]
    assert "Python worker exited unexpectedly" in failed.data.tags["mlops_assets.error"]


@pytest.mark.proof  # two searches in a run
def test_a_step_that_fails_beside_one_that_goes_well(lakehouse: Lakehouse, tracking: Tracking, tracked: Tracked):
    """Two searches at once in one process; no trial of one of them succeeds."""
    configs = (TunedModelConfig(**TUNING), TunedModelConfig(**UNUSABLE))
    # A direct invocation makes a Dagster instance, whose tables alembic makes, as it does MLflow's, and alembic keeps
    # what it is doing in globals.
    tracking.connect()
    with ThreadPoolExecutor() as pool:
        good, bad = pool.map(lambda config: tune(lakehouse, tracking, config), configs)

    assert good.failure is None
    assert "none of 3 trials succeeded" in bad.message
    assert statuses(tracked) == [("FAILED", ["FAILED"] * 3), ("FINISHED", ["FINISHED"] * 3)]
    (finished,) = [parent for parent in tracked.parents() if parent.info.status == "FINISHED"]
    assert good.metadata["mlflow_run_id"] == finished.info.run_id


def test_artifacts_that_cannot_be_written_are_refused_before_the_search(
    lakehouse: Lakehouse, tracking: Tracking, tracked: Tracked, settings: Settings
):
    (settings.home / "mlflow").mkdir(parents=True, exist_ok=True)
    (settings.home / "mlflow" / "artifacts").write_text("a regular file")

    outcome = tune(lakehouse, tracking, TunedModelConfig(**TUNING))

    assert outcome.message.startswith(f"folder can't be written: File exists [{settings.home}/mlflow/artifacts]")
    assert tracked.runs() == []
