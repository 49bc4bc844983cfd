"""Rows scored on the cluster are those of the matrix in memory, in its order, and the report is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explanations import explain
from mlops_assets.evaluation.scorer import UNKNOWN_CARDS
from mlops_assets.lakehouse.mature_rows import MatureRows
from mlops_assets.training.engines.distributed import broadcast_model
from mlops_assets.training.engines.distributed_model import finish_on_cluster, refit_on_cluster, score_in_order
from mlops_assets.training.engines.engines import fit_elsewhere
from mlops_assets.training.engines.placed_rows import placed
from mlops_assets.training.final_model import EvaluationPlan, FinalModel
from mlops_assets.training.matrix import Matrix, matrix_columns, to_matrix
from mlops_assets.training.members import Bag
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.production import refit
from mlops_assets.training.records import SearchResult, TrialRecord
from mlops_assets_tests.training.engines.test_distributed import CONTRACT, FEATURES, PLAN, POINT, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.training.engines.choice import Engine

pytestmark = pytest.mark.proof
EVALUATION = EvaluationPlan(replicates=50, alerts_per_day=20)


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return table(spark, 4_000, 3).select(*matrix_columns(CONTRACT)).repartition(5).persist()


@pytest.fixture(scope="module")
def matrix(rows: DataFrame) -> Matrix:
    return to_matrix(rows.toArrow(), CONTRACT)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def booster(matrix: Matrix) -> Any:
    return fit(POINT, quantized(matrix, threads=1), seed=1, threads=1)


@pytest.fixture(scope="module")
def finished(spark: SparkSession, rows: DataFrame) -> FinalModel:
    train, validation = table(spark, 4_000, 1), table(spark, 2_000, 2)
    with placed(spark, train, validation, CONTRACT) as data:
        best = TrialRecord(0, POINT, "finished", value=0.5, loss=-0.5, seconds=0.1, rounds=8)
        found = SearchResult((best,), best, parallelism=1, seconds=0.1, end_reason="")
        return finish_on_cluster(spark, data, train, validation, lambda: rows, CONTRACT, found, PLAN, EVALUATION)


@pytest.mark.parametrize(("engine", "differs"), [("memory", 0.0), ("distributed", 0.05)])
def test_a_point_is_fitted_on_other_rows_with_as_many_trees_a_row(
    spark: SparkSession, rows: DataFrame, matrix: Matrix, engine: Engine, differs: float
):
    """Over the cluster the bins differ a little, and with them the scores."""
    by_hand = fit(POINT, quantized(matrix, threads=1), seed=1, threads=1, rounds=6)

    fitted = fit_elsewhere(
        engine,
        spark,
        rows,
        table(spark, 500, 4),
        CONTRACT,
        Bag(POINT, None, 1, 1),
        trees_per_row=6 / matrix.rows,
        threads=1,
    )

    assert fitted.num_boosted_rounds() == 6
    assert np.abs(predict(fitted, matrix) - predict(by_hand, matrix)).mean() <= differs


def test_scored_rows_are_those_of_the_matrix_in_its_order(
    spark: SparkSession, rows: DataFrame, matrix: Matrix, booster: Any, held: ExitStack
):
    model = held.enter_context(broadcast_model(spark, booster))

    found = score_in_order(rows, CONTRACT, model, held, None, where="test set")

    assert np.array_equal(found.scores, predict(booster, matrix))
    assert np.array_equal(found.y, matrix.y)
    assert np.array_equal(found.days, matrix.days)
    assert found.amounts is not None
    assert matrix.amounts is not None
    assert np.array_equal(found.amounts, matrix.amounts)
    assert found.entities is not None
    assert matrix.entities is not None
    assert np.array_equal(found.entities, matrix.entities)
    assert np.count_nonzero(found.entities < 0) > 0, "some rows have no card"
    asked = np.array([3_999, 0, 17, 17, 2_500])
    assert np.array_equal(found.rows_at(asked), matrix.X[asked], equal_nan=True)


def test_timestamps_and_no_amounts(spark: SparkSession, rows: DataFrame, booster: Any, held: ExitStack):
    contract = CONTRACT.model_copy(
        update={
            "amount": None,
            "entity": None,
            "columns": tuple(
                column.model_copy(update={"type": "timestamp"}) if column.name == "seconds" else column
                for column in CONTRACT.columns
            ),
        }
    )
    timed = rows.withColumn("seconds", F.timestamp_seconds("seconds"))
    model = held.enter_context(broadcast_model(spark, booster))

    found = score_in_order(timed, contract, model, held, None, where="test set")

    assert found.amounts is None
    assert found.entities is None
    assert np.array_equal(found.days, to_matrix(timed.toArrow(), contract).days)


def test_a_set_whose_scores_the_driver_may_not_collect_is_refused(
    spark: SparkSession, rows: DataFrame, booster: Any, held: ExitStack
):
    model = held.enter_context(broadcast_model(spark, booster))

    with pytest.raises(EvaluationError, match="4,000 rows have 148,000 bytes of scores") as refused:
        score_in_order(rows, CONTRACT, model, held, 147_999, where="test set")

    assert "spark.driver.maxResultSize" in str(refused.value)
    score_in_order(rows, CONTRACT, model, held, 148_000, where="test set")


def test_the_final_model_is_whole(finished: FinalModel, matrix: Matrix):
    assert finished.booster.num_boosted_rounds() == 8
    assert finished.booster.feature_names == list(FEATURES)
    assert np.array_equal(finished.test_scores, predict(finished.booster, matrix))
    assert finished.evaluation.rows == 4_000
    assert finished.example.shape == (1, 4)
    assert "precision_recall.png" in finished.pictures.files
    assert finished.evaluation.sample.unit == "entity"
    assert set(UNKNOWN_CARDS) < set(finished.evaluation.metrics)
    here = explain(finished.booster, matrix.X, matrix.y, FEATURES, seed=EVALUATION.seed)
    assert finished.explanation.explanation.importance == here.importance


def test_the_production_model_is_near_the_one_in_memory(
    spark: SparkSession, rows: DataFrame, matrix: Matrix, finished: FinalModel
):
    columns = matrix_columns(CONTRACT)
    before = table(spark, 4_000, 1).union(table(spark, 2_000, 2)).select(*columns)
    mature = MatureRows(before.union(table(spark, 1_000, 4).select(*columns)).union(rows), before, None, None)
    best = TrialRecord(0, POINT, "finished", value=0.5, loss=-0.5, seconds=0.1, rounds=8)
    found = SearchResult((best,), best, parallelism=1, seconds=0.1, end_reason="")

    model = refit_on_cluster(spark, mature, rows, 4_000, CONTRACT, finished, found, PLAN)

    here = refit(
        lambda: to_matrix(mature.before_test.toArrow(), CONTRACT),
        lambda: to_matrix(mature.now.toArrow(), CONTRACT),
        matrix,
        np.zeros(4_000, np.int64),
        finished,
        found,
        PLAN,
    )
    assert (model.rows, model.frauds, model.trees) == (here.rows, here.frauds, here.trees)
    assert np.array_equal(model.test_scores, predict(model.booster, matrix))
    assert model.rehearsed_average_precision == pytest.approx(here.rehearsed_average_precision, abs=0.02)
    assert model.threshold.alerts == here.threshold.alerts
    assert model.threshold.value == pytest.approx(here.threshold.value, rel=0.15)


def test_a_refit_that_is_not_the_winner_is_found(finished: FinalModel):
    """The record claims a value that the model does not have."""
    assert not finished.reproduction.passed
    assert "best trial (number 0) 0.5" in finished.reproduction.description
