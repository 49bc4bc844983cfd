"""Test rows whose features stay on the cluster give the figures of the rows in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.errors import EvaluationError
from mlops_assets.registry.judged_rows import InMemory, OnCluster, judged_rows
from mlops_assets.tracking.category_codes import LEVELS as LEVELS_KEY
from mlops_assets.training.matrix import Matrix, matrix_columns, to_matrix
from mlops_assets_tests.serving.kit import LEVELS, booster, contract, rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.proof  # a session of Spark, and some ten jobs
CONTRACT = contract()


def table(count: int, seed: int, *levels: str) -> pa.Table:
    """Return rows in no order, of two batches, some at the same moment, some without a card, a level or a risk."""
    random = np.random.default_rng(seed)
    X = rows(count, seed).astype(np.float64)
    named = [*LEVELS["channel"], *levels, None]
    channel = [named[at] for at in random.integers(0, len(named), count)]
    cards = [None if at == 0 else f"card-{at}" for at in random.integers(0, 40, count)]
    score = (X[:, 0] > 60) & (X[:, 1] > 5) | (np.nan_to_num(X[:, 3]) > 0.9)
    return pa.table(
        {
            "at": pa.array(random.integers(0, count // 3, count) * 3_600_000_000, pa.timestamp("us", tz="UTC")),
            "card": cards,
            "amount": X[:, 0],
            "count": X[:, 1].astype(np.int64),
            "channel": channel,
            "risk": pa.array(X[:, 3], mask=np.isnan(X[:, 3])),
            "fraud": (score ^ (random.random(count) < 0.05)).astype(np.int64),
            BATCH_ID: [f"batch-{at % 2}" for at in range(count)],
            ROW_NUMBER: np.arange(count),
        }
    )


@pytest.fixture(scope="module")
def test_set(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(table(600, 5, "fax")).repartition(3)


@pytest.fixture(scope="module")
def both(test_set: DataFrame) -> tuple[InMemory, OnCluster]:
    memory, cluster = (judged_rows(test_set, CONTRACT, on_cluster=spread) for spread in (False, True))
    assert isinstance(memory, InMemory)
    assert isinstance(cluster, OnCluster)
    return memory, cluster


@pytest.fixture(scope="module")
def model() -> Any:
    made = booster(1)
    made.set_attr(**{LEVELS_KEY: json.dumps(LEVELS)})
    return made


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")


def channels(found: Matrix) -> list[str | None]:
    return [None if np.isnan(code) else found.levels["channel"][int(code)] for code in found.X[:, 2]]


def test_what_the_driver_holds_is_the_same_but_for_the_features(both: tuple[InMemory, OnCluster]):
    memory, cluster = both

    assert cluster.rows == memory.rows == 600
    for name in ("y", "days", "amounts", "on_whole_day", "entities"):
        assert same(getattr(cluster.narrow, name), getattr(memory.narrow, name)), name
    assert cluster.narrow.X.shape == (600, 0)
    assert memory.narrow.X.shape == (600, 4)


def test_scores_have_the_same_bits_and_chosen_rows_the_same_values(both: tuple[InMemory, OnCluster], model: Any):
    memory, cluster = both

    assert cluster.predict(model).tobytes() == memory.predict(model).tobytes()
    asked = np.array([0, 7, 8, 300, 599])
    here, there = memory.at(asked), cluster.at(asked)
    assert channels(here) == channels(there)
    assert same(here.X[:, [0, 1, 3]], there.X[:, [0, 1, 3]])
    assert same(here.y, there.y)


def test_rows_that_stand_there_twice_are_refused(test_set: DataFrame):
    with pytest.raises(EvaluationError, match="same batch and position"):
        judged_rows(test_set.unionByName(test_set.limit(1)), CONTRACT, on_cluster=True)


def test_drift_and_simple_scores_are_the_same(both: tuple[InMemory, OnCluster]):
    memory, cluster = both
    train: Matrix = to_matrix(table(900, 6, "telex").select(matrix_columns(CONTRACT)), CONTRACT)

    assert cluster.drift_from(train) == memory.drift_from(train)
    here, there = memory.simple_scores(train), cluster.simple_scores(train)
    assert list(here) == list(there) == ["the amount alone", "logistic regression"]
    for name, scores in here.items():
        assert np.allclose(scores, there[name], rtol=1e-12, atol=0), name
