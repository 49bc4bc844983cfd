"""Training and validation rows on the cluster: spread over the workers that train on them, in a fixed order.

What belongs here: placing rows, their columns, and how many workers a cluster has. What does not: training on them
(`distributed`), scoring them (`distributed_model`), Dagster.

The rows are read from Delta once, cast to float32 as in memory, spread over the workers by a hash of their identity,
sorted, and kept on the executors' disks. Every trial therefore sees the same rows in the same order on the same worker,
and with the same number of workers a search is reproducible to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.errors import SearchError
from mlops_assets.training.engines.distributed_metrics import LABEL, ScoredCounts
from mlops_assets.training.search.slots import count_slots

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from mlops_assets.data.contract.contract import Contract

VALIDATION = "_validation"


@dataclass(frozen=True)
class PlacedRows:
    """Training and validation rows, spread over the cluster.

    Attributes:
        features: Names of the feature columns, in the contract's order.
        monotone: Features in which the score may only rise (1) or fall (-1).
        rows: Features as float (null where missing), `LABEL` and `VALIDATION`; a partition for each XGBoost worker.
        workers: Number of XGBoost workers.
        train: Rows and frauds of the training set.
        validation: Rows and frauds of the validation set.
    """

    features: tuple[str, ...]
    monotone: Mapping[str, int]
    rows: DataFrame
    workers: int
    train: ScoredCounts
    validation: ScoredCounts

    @property
    def train_rows(self) -> DataFrame:
        """The training rows, each in the same partition as in `rows`."""
        return self.rows.where(~F.col(VALIDATION))

    @property
    def validation_rows(self) -> DataFrame:
        """The validation rows, each in the same partition as in `rows`."""
        return self.rows.where(VALIDATION)


@contextmanager
def placed(spark: SparkSession, train: DataFrame, validation: DataFrame, contract: Contract) -> Iterator[PlacedRows]:
    """Spread the rows over the cluster's workers for the length of a block.

    Args:
        spark: The session.
        train: Rows to fit on: the contract's columns, batch id and row number.
        validation: Rows to evaluate on.
        contract: Names of features and target.

    Raises:
        SearchError: The validation rows have only one class, there are no training rows, or the cluster can't run all
            workers at once.
    """
    workers = count_workers(spark)
    both = _model_columns(train, contract, validation=False).unionByName(
        _model_columns(validation, contract, validation=True)
    )
    identity = [BATCH_ID, ROW_NUMBER]
    # DISK_ONLY: the executors need their memory for training, and reading from disk is cheap compared with a fit.
    rows = both.repartition(workers, *identity).sortWithinPartitions(*identity).drop(*identity)
    rows = rows.persist(StorageLevel.DISK_ONLY)
    try:
        counted = rows.groupBy(VALIDATION).agg(F.count(F.lit(1)), F.sum(LABEL)).collect()
        counts = {bool(name): ScoredCounts(int(n), int(frauds)) for name, n, frauds in counted}
        if False not in counts:
            raise SearchError("no rows", where="training set", fix="load a longer period")
        judged = counts.get(True, ScoredCounts(0, 0))
        if judged.frauds in (0, judged.rows):
            raise SearchError(
                f"{judged.frauds} frauds in {judged.rows} rows", where="validation set", fix="load a longer period"
            )
        yield PlacedRows(contract.features, contract.monotone, rows, workers, counts[False], judged)
    finally:
        rows.unpersist()


def as_feature(name: str) -> Column:
    """Return a feature as XGBoost gets it: cast to double, then float32, as in memory; null becomes NaN, missing."""
    return F.col(name).cast("double").cast("float").alias(name)


def _model_columns(rows: DataFrame, contract: Contract, *, validation: bool) -> DataFrame:
    return rows.select(
        BATCH_ID,
        ROW_NUMBER,
        *(as_feature(name) for name in contract.features),
        F.col(contract.target).cast("int").alias(LABEL),
        F.lit(validation).alias(VALIDATION),
    )


def count_workers(spark: SparkSession) -> int:
    """Return how many XGBoost workers train one model: one for each task slot of the cluster.

    Raises:
        SearchError: The cluster can't guarantee to run them all at once.
    """
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise SearchError(
            "Spark adds and removes executors dynamically, but XGBoost's workers must all run at once",
            where="spark.dynamicAllocation.enabled",
            fix="switch it off for this cluster (a fixed number of workers), or choose the engine memory",
        )
    return count_slots(spark.sparkContext, task_cpus(spark))


def task_cpus(spark: SparkSession) -> int:
    """Return the CPUs of a Spark task, which are the threads of an XGBoost worker."""
    return int(spark.sparkContext.getConf().get("spark.task.cpus") or 1)
