"""Trials over the whole cluster: the rows, the bits, the proposals, what fails, and how near the model in memory is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hyperopt import Trials, fmin, tpe
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import SearchError
from mlops_assets.evaluation.bootstrap import bootstrap
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.lakehouse.session_settings import session_settings
from mlops_assets.training.engines.distributed import fit_on_cluster, run_distributed_search
from mlops_assets.training.engines.placed_rows import PlacedRows, placed
from mlops_assets.training.matrix import Matrix, matrix_columns, to_matrix
from mlops_assets.training.objective import fit, judge, predict, quantized
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.search.proposals import to_hyperopt
from mlops_assets.training.search.search import startup_trials
from mlops_assets_tests.training.spaces import fixed_space, seed_point, seed_space

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.proof
FEATURES = ("strong", "weak", "count", "noise")
CONTRACT = Contract(
    name="small",
    version=1,
    columns=(
        Column(name="seconds", type="double"),
        Column(name="strong", type="double", nullable=True),
        Column(name="weak", type="double"),
        Column(name="count", type="long"),
        Column(name="noise", type="double"),
        Column(name="amount", type="double", min=0),
        Column(name="card", type="string", nullable=True),
        Column(name="fraud", type="long"),
    ),
    features=FEATURES,
    target="fraud",
    event_time="seconds",
    amount="amount",
    entity="card",
)
POINT = seed_point(4, 12, 0.3, base_score=0.05)
SPACE = seed_space(max_depth=(2, 4), n_estimators=(3, 8))
PLAN = SearchPlan(space=SPACE, trials=3, early_stopping_rounds=0, pruning=False, seed=3)


def table(spark: SparkSession, rows: int, seed: int, missing_of_frauds: float = 0.15) -> DataFrame:
    random = np.random.default_rng(seed)
    strong, weak, noise = random.normal(size=(3, rows))
    count = random.integers(0, 50, rows)
    fraud = random.random(rows) < 1 / (1 + np.exp(-(-4 + 2.2 * strong + weak + count / 25)))
    frame = pd.DataFrame(
        {
            "seconds": np.sort(random.uniform(0, 5 * 86_400, rows)),
            "strong": np.where(random.random(rows) < np.where(fraud, missing_of_frauds, 0.15), None, strong),
            "weak": weak,
            "count": count,
            "noise": noise,
            "amount": random.gamma(1, 80, rows),
            "card": [None if card < 3 else f"card {card}" for card in random.integers(0, rows // 4, rows).tolist()],
            "fraud": fraud.astype("int64"),
            BATCH_ID: f"batch {seed}",
            ROW_NUMBER: np.arange(rows),
        }
    )
    frame["strong"] = frame["strong"].astype("float64").astype(object).where(frame["strong"].notna(), None)
    return spark.createDataFrame(
        frame,
        schema="seconds double, strong double, weak double, count long, noise double, amount double, card string, "
        f"fraud long, {BATCH_ID} string, {ROW_NUMBER} long",
    ).repartition(3)


@pytest.fixture(scope="module")
def tables(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    return table(spark, 6_000, 1).persist(), table(spark, 3_000, 2).persist()


@pytest.fixture(scope="module")
def matrices(tables: tuple[DataFrame, DataFrame]) -> tuple[Matrix, Matrix]:
    train, validation = (to_matrix(rows.select(*matrix_columns(CONTRACT)).toArrow(), CONTRACT) for rows in tables)
    return train, validation


@pytest.fixture(scope="module")
def data(spark: SparkSession, tables: tuple[DataFrame, DataFrame]) -> Iterator[PlacedRows]:
    with placed(spark, *tables, CONTRACT) as rows:
        yield rows


def searched(spark: SparkSession, data: PlacedRows, plan: SearchPlan, **more: Any) -> Any:
    reported: list[TrialRecord] = []
    found = run_distributed_search(spark, data, plan, reported.append, **more)
    return found, reported


@pytest.fixture(scope="module")
def one_search(spark: SparkSession, data: PlacedRows) -> Any:
    return searched(spark, data, PLAN)


def unseconds(record: TrialRecord) -> TrialRecord:
    return dataclasses.replace(record, seconds=0.0)


def test_each_worker_has_rows_of_both_sets_and_none_is_lost(data: PlacedRows):
    per_worker = data.rows.groupBy(F.spark_partition_id()).agg(F.count("*"), F.sum(F.col("_validation").cast("int")))

    counts = [(n, validation) for _, n, validation in per_worker.collect()]
    assert data.workers == len(counts) == 2
    assert sum(n for n, _ in counts) == 9_000
    assert sum(validation for _, validation in counts) == data.validation.rows == 3_000
    assert min(n for n, _ in counts) > 4_000


def test_the_model_is_a_booster_that_agrees_with_the_one_in_memory(data: PlacedRows, matrices: tuple[Matrix, Matrix]):
    train, validation = matrices
    here = fit(POINT, quantized(train, threads=1), seed=3, threads=1)

    there = fit_on_cluster(data, POINT, seed=3, rounds=12)

    assert there.feature_names == list(FEATURES)
    assert there.num_boosted_rounds() == here.num_boosted_rounds() == 12
    rows = Rows(y=validation.y, days=validation.days, alerts_per_day=20)
    intervals = bootstrap(rows, scores=predict(here, validation), threshold=0.3, design=Design(100, 1)).intervals
    found = judge("average_precision", validation.y, predict(there, validation))
    assert intervals["average_precision"].low <= found <= intervals["average_precision"].high
    assert abs(found - intervals["average_precision"].estimate) < 0.02
    assert found > 3 * validation.frauds / validation.rows


def test_a_constraint_holds_over_the_cluster(data: PlacedRows, matrices: tuple[Matrix, Matrix]):
    """These rows rise with `weak`; without the constraint the model does, too."""
    lower, higher = (dataclasses.replace(matrices[1], X=matrices[1].X.copy()) for _ in range(2))
    higher.X[:, FEATURES.index("weak")] += 1.0

    free = fit_on_cluster(data, POINT, seed=3, rounds=12)
    bound = fit_on_cluster(dataclasses.replace(data, monotone={"weak": -1}), POINT, seed=3, rounds=12)

    assert (predict(free, higher) > predict(free, lower)).mean() > 0.5
    assert (predict(bound, higher) <= predict(bound, lower)).all()


def test_missing_values_are_missing_as_in_memory(spark: SparkSession, tables: tuple[DataFrame, DataFrame]):
    """Null must reach XGBoost as missing and not as 0: where frauds lack the value, missing goes the frauds' way."""
    rows = table(spark, 6_000, 1, missing_of_frauds=0.8)
    train = to_matrix(rows.select(*matrix_columns(CONTRACT)).toArrow(), CONTRACT)
    stump = {**POINT, "max_depth": 1, "n_estimators": 1}
    here = fit(stump, quantized(train, threads=1), seed=3, threads=1).trees_to_dataframe()
    zeroed = dataclasses.replace(train, X=np.nan_to_num(train.X))
    wrong = fit(stump, quantized(zeroed, threads=1), seed=3, threads=1).trees_to_dataframe()

    with placed(spark, rows, tables[1], CONTRACT) as data:
        there = fit_on_cluster(data, stump, seed=3, rounds=1).trees_to_dataframe()

    assert there["Feature"][0] == here["Feature"][0] == "strong"
    assert there["Missing"][0] == here["Missing"][0] == here["No"][0], "the side of the larger values"
    assert there["Gain"][0] == pytest.approx(here["Gain"][0], rel=1e-3)
    # Zeros lie between the values of both classes: the split is a worse one, or the test shows nothing.
    assert wrong["Gain"][0] < 0.5 * here["Gain"][0]
    assert there["Gain"][0] == pytest.approx(here["Gain"][0], rel=0.1)


def test_a_trial_has_the_exact_value_of_its_model(data: PlacedRows, matrices: tuple[Matrix, Matrix], one_search: Any):
    found, reported = one_search
    booster = fit_on_cluster(data, found.best.point, seed=PLAN.seed, rounds=found.best.rounds)

    assert found.best.value == pytest.approx(
        judge("average_precision", matrices[1].y, predict(booster, matrices[1])), abs=1e-9
    )
    assert list(found.trials) == reported
    assert [record.number for record in reported] == [0, 1, 2]
    assert found.best.loss == min(record.loss for record in reported)
    assert found.end_reason == "all 3 trials were tried"
    assert found.parallelism == 1


def test_the_same_seed_gives_the_same_search_to_the_last_bit(
    spark: SparkSession, tables: tuple[DataFrame, DataFrame], one_search: Any
):
    """Also when Spark reads the rows in another order, as it may."""
    train, validation = tables
    with placed(spark, train.repartition(5), validation.orderBy("noise"), CONTRACT) as again:
        other, _ = searched(spark, again, PLAN)

    assert [unseconds(r) for r in other.trials] == [unseconds(r) for r in one_search[0].trials]


def test_proposals_are_those_of_plain_hyperopt(one_search: Any):
    points: list[Any] = []

    def known_loss(values: Any) -> Any:
        points.append(values)
        return one_search[0].trials[len(points) - 1].loss

    fmin(
        known_loss,
        to_hyperopt(SPACE),
        algo=partial(tpe.suggest, n_startup_jobs=startup_trials(PLAN)),
        max_evals=3,
        trials=Trials(),
        rstate=np.random.default_rng(PLAN.seed),
        show_progressbar=False,
    )

    assert [record.point for record in one_search[0].trials] == points


def test_a_resumed_search_goes_on_where_it_was_cut(spark: SparkSession, data: PlacedRows, one_search: Any):
    first = [dataclasses.replace(r, resumed_from="run 1") for r in one_search[0].trials[:2]]

    found, reported = searched(spark, data, PLAN, resumed=first)

    assert [record.number for record in reported] == [2]
    assert unseconds(reported[0]) == unseconds(one_search[0].trials[2])
    assert found.trials[:2] == tuple(first)
    assert "2 of them resumed" in found.end_reason


def test_trials_of_another_search_are_refused(spark: SparkSession, data: PlacedRows, one_search: Any):
    other = dataclasses.replace(one_search[0].trials[0], point=POINT)

    with pytest.raises(SearchError, match="this search proposes"):
        searched(spark, data, PLAN, resumed=[other])


def test_early_stopping_keeps_fewer_trees_and_judges_those(spark: SparkSession, data: PlacedRows):
    wasteful = fixed_space(seed_point(6, 60, 0.5, 0.01, 0.05))
    plan = dataclasses.replace(PLAN, space=wasteful, early_stopping_rounds=4, objective="log_loss", pruning=True)

    found, _ = searched(spark, data, plan)

    best = found.best
    assert found.end_reason == "the space has one point, and it was tried"
    assert best.rounds < 40
    assert best.curve[best.rounds - 1][0] == best.rounds
    assert best.value == pytest.approx(best.curve[best.rounds - 1][1], abs=1e-5)
    assert best.value <= min(value for _, value in best.curve) + 1e-5
    assert len(best.curve) < 60
    assert any("not pruned" in metadata for metadata in found.notes)
    booster = fit_on_cluster(data, best.point, seed=plan.seed, rounds=best.rounds)
    assert booster.num_boosted_rounds() == best.rounds


def test_batches_of_one_set_alone_change_nothing(spark: SparkSession, data: PlacedRows):
    batch = (F.monotonically_increasing_id() / 500).cast("long")
    mixed = data.rows.groupBy(batch).agg(F.countDistinct("_validation").alias("sets")).where("sets = 2").count()
    assert mixed <= data.workers, "else this test shows nothing"
    plan = dataclasses.replace(PLAN, early_stopping_rounds=4)

    # As rows of large sets come to Python in batches of 10,000.
    with session_settings(spark, {"spark.sql.execution.arrow.maxRecordsPerBatch": "500"}, purpose="a test"):
        found, _ = searched(spark, data, plan)
    in_one_batch, _ = searched(spark, data, plan)

    assert [record.state for record in found.trials] == ["finished"] * 3
    assert [unseconds(record) for record in found.trials] == [unseconds(record) for record in in_one_batch.trials]


def test_a_feature_may_be_called_as_xgboost_calls_its_columns(data: PlacedRows):
    """They are looked for by name among all columns: labels, weights, groups, margins."""
    names = ("weight", "label", "baseMargin", "qid")
    own = data.rows.select(
        *(F.col(old).alias(new) for old, new in zip(FEATURES, names, strict=True)), "_label", "_validation"
    )

    usual = fit_on_cluster(data, POINT, seed=3, rounds=5)
    renamed = fit_on_cluster(dataclasses.replace(data, features=names, rows=own), POINT, seed=3, rounds=5)

    assert renamed.feature_names == list(names)
    renamed.feature_names = list(FEATURES)
    assert renamed.save_raw("json") == usual.save_raw("json")


def test_a_time_budget_ends_the_search_between_trials(spark: SparkSession, data: PlacedRows):
    reported: list[TrialRecord] = []

    def slow(record: TrialRecord) -> None:
        reported.append(record)
        time.sleep(0.5)

    found = run_distributed_search(spark, data, dataclasses.replace(PLAN, trials=50, max_seconds=0.5), slow)

    assert len(reported) == len(found.trials) == 1
    assert "time budget of 0.5 s was used up after 1 of 50 trials" in found.end_reason


def test_a_failed_trial_is_recorded_and_when_all_fail_there_is_one_clear_error(
    spark: SparkSession, tables: tuple[DataFrame, DataFrame]
):
    train, validation = tables
    infinite = train.withColumn("noise", F.lit(float("inf")))
    reported: list[TrialRecord] = []

    with placed(spark, infinite, validation, CONTRACT) as rows, pytest.raises(SearchError, match="none of 1 trials"):
        run_distributed_search(spark, rows, dataclasses.replace(PLAN, trials=1), reported.append)

    assert reported[0].state == "failed"
    assert "on a worker: " in reported[0].error.splitlines()[0]
    assert "inf" in reported[0].error.splitlines()[0]
    assert spark.sparkContext.statusTracker().getActiveJobsIds() == []


def test_what_the_callback_raises_ends_the_search(spark: SparkSession, data: PlacedRows):
    def full(record: TrialRecord) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_distributed_search(spark, data, PLAN, full)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, validation: (train, validation.where("fraud = 0")), r"0 frauds in \d+ rows"),
        (lambda train, validation: (train, validation.where("fraud = 1")), r"(\d+) frauds in \1 rows"),
        (lambda train, validation: (train, validation.limit(0)), "0 frauds in 0 rows"),
        (lambda train, validation: (train.limit(0), validation), "no rows .training set"),
    ],
    ids=["only genuine", "only frauds", "no validation rows", "no training rows"],
)
def test_rows_that_nothing_can_be_judged_on_are_refused_before_any_trial(
    spark: SparkSession, tables: tuple[DataFrame, DataFrame], change: Any, message: str
):
    train, validation = change(*tables)

    with pytest.raises(SearchError, match=message), placed(spark, train, validation, CONTRACT):
        pytest.fail("a search would have begun")
