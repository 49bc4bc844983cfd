"""Search objectives computed on the cluster: exact, and no score leaves it.

What belongs here: scoring rows on the executors, and reducing the scores to one number in Spark. What does not: the
metrics' definitions and their form in memory (`metrics`, `ranking`), training (`distributed`).

All ranking objectives follow from counts at each distinct score: rows and frauds that score at least as high. Spark
counts rows per distinct score, sums the counts within buckets of scores, and adds the totals of the higher buckets; the
counts are integers, so they are exact. The sums of real numbers (average precision, log loss) use decimals with 18
places, because a sum of doubles depends on the order in which tasks end, and the search must be reproducible to the
last bit.

Cost of one evaluation of n rows with d distinct scores: n predictions; a shuffle of d rows of 32 bytes (d is at most n,
and far less when many rows fall into the same leaves), sorted within buckets; a broadcast of a few thousand bucket
totals; one row of results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost as xgb
from pyspark.sql import Window
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark import Broadcast
    from pyspark.sql import Column, DataFrame

    from mlops_assets.training.plan import Objective

LABEL = "_label"
_EPSILON = float(np.finfo(np.float32).eps)  # scores are float32; see `metrics.log_loss`
# The bits of a float >= 0, read as an integer, increase with the float: its exponent and six bits of its fraction name
# a bucket. About 1,500 buckets are in use, most of them near 0, where scores are if frauds are rare.
_BUCKET_SHIFT = 17
_EXACT = "decimal(38,18)"


@dataclass(frozen=True)
class ScoredCounts:
    """Rows and frauds of a set whose scores are evaluated; both classes must be present."""

    rows: int
    frauds: int


def packed(booster: xgb.Booster) -> bytes:
    """Return a model in XGBoost's own binary JSON, for executors; reading it needs no unpickling."""
    return bytes(booster.save_raw("ubj"))


def predictor(features: Sequence[str], model: bytes) -> Callable[[pa.RecordBatch], Any]:
    """Return a function that scores Arrow batches on an executor: float32 [rows], as `objective.predict` does."""
    names = list(features)
    booster = xgb.Booster(model_file=bytearray(model))
    booster.set_param({"nthread": 1})

    def scores(batch: pa.RecordBatch) -> Any:
        return booster.predict(xgb.DMatrix(values_of(batch, names), feature_names=names, nthread=1))

    return scores


def values_of(batch: pa.RecordBatch, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return columns of an Arrow batch, float32 [rows, columns]; null is NaN."""
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
    return np.column_stack(columns).astype(np.float32, copy=False)


def judge_on_cluster(
    objective: Objective, rows: DataFrame, features: Sequence[str], model: Broadcast[bytes], counts: ScoredCounts
) -> float:
    """Return an objective's value, as `objective.judge` would on the same rows in memory (to about 1e-12).

    Args:
        objective: The metric.
        rows: The features as float, null where missing, and `LABEL`.
        features: Names of the features, in the model's order.
        model: The model, as `packed`.
        counts: Rows and frauds of `rows`; both classes are present.
    """
    return judge_scores(score_counts(rows, features, model), counts)[objective]


def score_counts(rows: DataFrame, features: Sequence[str], model: Broadcast[bytes]) -> DataFrame:
    """Return rows and frauds by score: columns bucket, score, rows, frauds; a score may appear twice."""
    names = list(features)

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        score = predictor(names, model.value)
        for batch in batches:
            if batch.num_rows:
                yield _counted(score(batch), batch.column(LABEL).to_numpy(zero_copy_only=False))

    return rows.select(*names, LABEL).mapInArrow(count, "bucket int, score float, rows long, frauds long")


def judge_scores(scored: DataFrame, counts: ScoredCounts) -> dict[Objective, float]:
    """Return every objective's value from `score_counts`, in one Spark job."""
    groups = scored.groupBy("bucket", "score").agg(F.sum("rows").alias("rows"), F.sum("frauds").alias("frauds"))
    totals = groups.groupBy("bucket").agg(F.sum("rows").alias("rows"), F.sum("frauds").alias("frauds"))
    above = Window.orderBy(F.desc("bucket")).rowsBetween(Window.unboundedPreceding, -1)
    before = totals.select("bucket", *(F.sum(name).over(above).alias(f"{name}_above") for name in ("rows", "frauds")))
    to_here = Window.partitionBy("bucket").orderBy(F.desc("score")).rowsBetween(Window.unboundedPreceding, 0)
    # A left join, although no bucket is missing: an inner join would filter only this side, so the two sides could not
    # share an exchange, and Spark would score all rows a second time.
    placed = groups.join(F.broadcast(before), "bucket", "left").select(
        "score",
        *(F.col(name).cast("double") for name in ("rows", "frauds")),
        *(
            (F.coalesce(f"{name}_above", F.lit(0)) + F.sum(name).over(to_here)).cast("double").alias(f"{name}_to_here")
            for name in ("rows", "frauds")
        ),
    )
    sums = placed.agg(
        *(column.alias(name) for name, column in _sums(float(counts.rows), float(counts.frauds)).items())
    ).collect()[0]
    return {
        "average_precision": float(sums["average_precision"]) / counts.frauds,
        # Raising no alert, which no row represents, has kappa 0.
        "kappa": max(0.0, sums["kappa"]),
        "f1": sums["f1"],
        "log_loss": float(sums["log_loss"]) / counts.rows,
    }


def _sums(rows: float, frauds: float) -> dict[str, Column]:
    """Return the aggregates behind the objectives; formulas as in `ranking.WeightedRanking`."""
    alerts, caught, score = F.col("rows_to_here"), F.col("frauds_to_here"), F.col("score").cast("double")
    by_chance = (alerts * (rows - frauds) + (rows - alerts) * frauds) / rows
    clipped = F.greatest(F.lit(_EPSILON), F.least(F.lit(1 - _EPSILON), score))
    surprise = F.col("frauds") * F.log(clipped) + (F.col("rows") - F.col("frauds")) * F.log(1 - clipped)
    return {
        "average_precision": F.sum((F.col("frauds") * caught / alerts).cast(_EXACT)),
        "kappa": F.max(1 - (alerts + frauds - 2 * caught) / by_chance),
        "f1": F.max(2 * caught / (alerts + frauds)),
        "log_loss": F.sum((-surprise).cast(_EXACT)),
    }


def _counted(scores: Any, labels: Any) -> pa.RecordBatch:
    if not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError("the model returned scores outside [0, 1]")
    distinct, inverse, rows = np.unique(scores, return_inverse=True, return_counts=True)
    frauds = np.bincount(inverse[labels == 1], minlength=len(distinct))
    buckets = (distinct + np.float32(0)).view(np.int32) >> _BUCKET_SHIFT
    columns = [buckets, distinct, rows.astype(np.int64), frauds.astype(np.int64)]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], ["bucket", "score", "rows", "frauds"])
