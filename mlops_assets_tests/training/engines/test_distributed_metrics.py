"""Objectives computed by Spark are those of the metrics in memory, for scores that tie, touch 0 and 1, or crowd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics as sk

from mlops_assets.training.engines.distributed_metrics import ScoredCounts, _counted, judge_scores
from mlops_assets.training.objective import judge
from mlops_assets.training.plan import Objective

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RANDOM = np.random.default_rng(17)
ROWS = 20_000
CROWDED = (1 / (1 + np.exp(-RANDOM.normal(-9, 4, ROWS)))).astype(np.float32)
FRAUD = (RANDOM.random(ROWS) < 0.2 * CROWDED**0.3).astype(np.uint8)
CASES: dict[str, tuple[Any, Any]] = {
    "crowded near 0": (FRAUD, CROWDED),
    "coarse ties": (FRAUD, np.round(CROWDED, 1).astype(np.float32)),
    "one score for all": (FRAUD, np.full(ROWS, 0.25, dtype=np.float32)),
    "0 and 1 only": (FRAUD, (CROWDED > 0.5).astype(np.float32)),
    "perfect": (FRAUD, FRAUD.astype(np.float32)),
    "upside down": (FRAUD, (1 - FRAUD).astype(np.float32)),
    "one fraud": (np.eye(1, ROWS, 7, dtype=np.uint8)[0], CROWDED),
    "one genuine row": (1 - np.eye(1, ROWS, 7, dtype=np.uint8)[0], CROWDED),
    "two rows": (np.array([0, 1], dtype=np.uint8), np.array([0.5, 0.5], dtype=np.float32)),
}


def counted(spark: SparkSession, y: Any, scores: Any) -> DataFrame:
    """In batches, as executors count them: the same score comes from several."""
    parts = [_counted(scores[at], y[at]) for at in np.array_split(np.arange(len(y)), min(len(y), 7))]
    return spark.createDataFrame(pa.Table.from_batches(parts)).repartition(3)


@pytest.mark.parametrize("case", CASES)
def test_objectives_are_those_in_memory(spark: SparkSession, case: str):
    y, scores = CASES[case]

    values = judge_scores(counted(spark, y, scores), ScoredCounts(len(y), int(y.sum())))

    assert values == pytest.approx({name: judge(name, y, scores) for name in get_args(Objective)}, abs=1e-9)
    assert values["average_precision"] == pytest.approx(sk.average_precision_score(y, scores), abs=1e-9)


def test_a_wrong_label_shows(spark: SparkSession):
    """The control of the test above: it can tell one changed row of 20,000."""
    y = FRAUD.copy()
    y[np.argmax(CROWDED * (y == 0))] = 1

    values = judge_scores(counted(spark, y, CROWDED), ScoredCounts(ROWS, int(y.sum())))

    assert all(abs(values[name] - judge(name, FRAUD, CROWDED)) > 1e-6 for name in get_args(Objective))


def test_the_order_of_rows_and_tasks_changes_no_bit(spark: SparkSession):
    shuffled = RANDOM.permutation(ROWS)
    counts = ScoredCounts(ROWS, int(FRAUD.sum()))

    one = judge_scores(counted(spark, FRAUD, CROWDED), counts)
    other = judge_scores(counted(spark, FRAUD[shuffled], CROWDED[shuffled]).repartition(5), counts)

    assert one == other


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match="outside"):
        _counted(np.array([0.5, np.nan], dtype=np.float32), np.array([0, 1]))


def test_buckets_rise_with_scores():
    scores = np.sort(np.concatenate([CROWDED, [0.0, 1.0, 1e-45, -0.0]]).astype(np.float32))
    batch = _counted(scores, np.zeros(len(scores)))

    assert np.all(np.diff(batch.column("bucket").to_numpy()) >= 0)
    assert batch.column("bucket").to_numpy().min() >= 0
