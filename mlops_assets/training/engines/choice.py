"""Which engine trains: every trial in one worker's memory, or each trial over the whole cluster.

What belongs here: the rule. What does not: what a cluster offers (`cluster_memory`), the engines themselves (`search`
in memory, `distributed`).

Training in memory is much faster wherever the data fit: trials run in parallel and each worker bins its data once. The
rule therefore picks `distributed` only when the data do not fit a worker, or the driver, which collects each set with
all columns that a matrix is made of. Over the cluster the driver collects the scores of the judged rows only; a set for
which even that is too much is refused here, before a search is paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlops_assets.errors import SearchError
from mlops_assets.training.engines.cluster_memory import ClusterMemory, cluster_memory, driver_bytes, result_limit
from mlops_assets.training.matrix import matrix_columns

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.engines.engines import SetName, SplitTables
    from mlops_assets.training.plan import SearchPlan

Engine = Literal["memory", "distributed"]
AskedEngine = Literal["auto", "memory", "distributed"]

_BYTES_PER_VALUE = 4
# A worker's peak memory while it trains, in multiples of the float32 matrix (the matrix, its bins by row and by column,
# some buffers), plus a fixed cost per row (gradients, predictions, positions). Measured with xgboost 3.2.0: a peak of
# 2.3 matrices at 29 and at 100 features and of 3.4 at 8; the rule gives 3.1, 2.7 and 4.5.
MEMORY_FACTOR = 2.5
_BYTES_PER_ROW = 64
# Arrow sends each value to the driver as a double, and the batch of a row as text with its offset. Text of an entity
# or a category is counted like a number, so wide ones need more than this says.
_BYTES_PER_COLLECTED_VALUE = 8
_BYTES_PER_NAME = 72
# What a matrix holds of a row beside its features: label, day, amount, entity, whether the day is whole; and its place.
_BYTES_OF_ROLES = 34
# As sent, and in order: `in_order` copies.
_COPIES = 2
# Label, score, event time, amount, entity and place of a row that is scored on the cluster.
BYTES_PER_SCORED_ROW = 1 + 4 + 8 + 8 + 8 + 8
_GIB = 2**30


@dataclass(frozen=True)
class DriverRows:
    """The rows that reach the driver.

    Attributes:
        columns: Columns of a row that a matrix is made of, without the batch.
        most: Rows of the largest set that the engine in memory collects at once.
        judged: Rows of the largest set whose scores the engine over the cluster collects.
    """

    columns: int
    most: int
    judged: int = 0


@dataclass(frozen=True)
class EngineChoice:
    """An engine and the reason for choosing it, as text for the run's metadata."""

    engine: Engine
    reason: str


@dataclass(frozen=True)
class _Obstacle:
    """Why the rows do not fit, what to raise, and whether Spark is sure to refuse them."""

    text: str
    fix: str
    certain: bool = False


def choose_engine(
    rows: int,
    features: int,
    memory: ClusterMemory,
    asked: AskedEngine = "auto",
    *,
    driver: DriverRows | None = None,
    only_in_memory: Sequence[str] = (),
) -> EngineChoice:
    """Choose where trials run.

    Args:
        rows: Training plus validation rows: a worker holds both.
        features: Number of features.
        memory: The memory that the cluster offers.
        asked: `auto` decides by size; any other value is used as given, with a warning in the reason if the data do
            not fit.
        driver: What reaches the driver; by default the same rows with their features.
        only_in_memory: What the search uses that only the engine in memory can.

    Raises:
        SearchError: The number of rows, features or bytes is below 1, the engine can't use what the search does, or
            Spark would not let the driver collect what the engine needs; it says what to raise.
    """
    if rows < 1 or features < 1 or memory.worker_bytes < 1:
        raise SearchError(
            f"{rows} rows of {features} features, {memory.worker_bytes} bytes a worker",
            where="choice of the engine",
            fix="load data, or name the engine by hand",
        )
    driver = driver or DriverRows(features, rows)
    fits = f"{rows:,} rows x {features} features need about {_gib(_on_worker(rows, features))} of a worker's "
    fits += _gib(memory.worker_bytes)
    obstacles = _obstacles(rows, features, memory, driver, fits)
    first = obstacles[0] if obstacles else None
    if asked == "memory":
        if certain := [found for found in obstacles if found.certain]:
            raise _refused(f"the engine memory can't train here: {certain[0].text}", certain[0].fix)
        return EngineChoice("memory", "asked for by hand" if first is None else f"asked for by hand; but {first.text}")
    if asked == "auto" and first is None:
        return EngineChoice("memory", f"{fits}: they fit")
    reason = "asked for by hand" if asked == "distributed" or first is None else first.text
    if only_in_memory:
        what = f"the engine distributed can't use {' or '.join(only_in_memory)} ({reason})"
        fix = "name the engine memory" if first is None else f"{first.fix}, and take the engine memory"
        raise _refused(what, f"{fix}; or leave it out")
    _require_scores_fit(driver.judged, memory)
    return EngineChoice("distributed", reason)


def _obstacles(rows: int, features: int, memory: ClusterMemory, driver: DriverRows, fits: str) -> list[_Obstacle]:
    """Return why the engine in memory can't hold the rows; the first is the one that is shown."""
    found = []
    needed = _on_worker(rows, features)
    if needed > memory.worker_bytes:
        fix = f"take workers with at least {_gib(needed)} beside the heap for each task slot"
        found.append(_Obstacle(f"{fits}: too much", fix))
    sent = sent_bytes(driver.most, driver.columns)
    if memory.result_bytes is not None and sent > memory.result_bytes:
        found.append(
            _Obstacle(
                f"{driver.most:,} rows x {driver.columns} columns are {_gib(sent)} to collect, and "
                f"spark.driver.maxResultSize is {_gib(memory.result_bytes)}",
                f"raise spark.driver.maxResultSize to at least {_gib(sent)}, and the driver's memory with it",
                certain=True,
            )
        )
    held = matrix_bytes(rows, features) + _COPIES * sent + matrix_bytes(driver.most, features)
    if memory.driver_bytes is not None and held > memory.driver_bytes:
        found.append(
            _Obstacle(
                f"the driver needs about {_gib(held)} for {rows:,} rows and copies of {driver.most:,}, and has "
                f"{_gib(memory.driver_bytes)} beside the heap",
                f"take a driver with at least {_gib(held)} beside its heap",
            )
        )
    return found


def _require_scores_fit(rows: int, memory: ClusterMemory) -> None:
    scores = rows * BYTES_PER_SCORED_ROW
    if memory.result_bytes is not None and scores > memory.result_bytes:
        raise _refused(
            f"the scores of {rows:,} rows are {_gib(scores)} to collect, and spark.driver.maxResultSize is "
            f"{_gib(memory.result_bytes)}",
            f"raise spark.driver.maxResultSize to at least {_gib(scores)}, and the driver's memory with it, or judge a "
            "shorter period",
        )
    if memory.driver_bytes is not None and scores > memory.driver_bytes:
        raise _refused(
            f"the scores of {rows:,} rows are {_gib(scores)}, and the driver has {_gib(memory.driver_bytes)} for them",
            f"take a driver with several times {_gib(scores)} beside its heap, or judge a shorter period",
        )


def _refused(what: str, fix: str) -> SearchError:
    return SearchError(what, where="choice of the engine", fix=fix)


def _on_worker(rows: int, features: int) -> int:
    return int(rows * (features * _BYTES_PER_VALUE * MEMORY_FACTOR + _BYTES_PER_ROW))


def sent_bytes(rows: int, columns: int) -> int:
    """Return the bytes of rows on their way to the driver, of so many columns and the batch."""
    return rows * (columns * _BYTES_PER_COLLECTED_VALUE + _BYTES_PER_NAME)


def matrix_bytes(rows: int, features: int) -> int:
    """Return the bytes of a `Matrix`."""
    return rows * (features * _BYTES_PER_VALUE + _BYTES_OF_ROLES)


def engine_for(tables: SplitTables, plan: SearchPlan, asked: AskedEngine, *, production: bool = False) -> EngineChoice:
    """Choose where a search on the sets runs; other arguments and errors as in `choose_engine`.

    Args:
        tables: The sets; Delta counts their rows without reading them.
        plan: The search.
        asked: As in `choose_engine`.
        production: Whether all rows with a mature label are fitted on afterwards; they are counted.
    """
    contract = tables.contract
    names: tuple[SetName, ...] = ("train", "validation", "test")
    train, validation, test = (tables.read(name).count() for name in names)
    refitted = tables.require_mature().now.count() if production else 0
    return choose_engine(
        train + validation,
        len(contract.features),
        cluster_memory(tables.spark),
        asked,
        driver=DriverRows(
            len(matrix_columns(contract)) - 1, max(train, validation, test, refitted), max(validation, test)
        ),
        only_in_memory=[*plan.only_in_memory, *(f"the category {name}" for name in contract.categories)],
    )


def collects(rows: int, contract: Contract, spark: SparkSession) -> bool:
    """Return whether the driver can collect a set with all its features, and hold what `to_matrix` makes of it.

    Args:
        rows: Rows of the set.
        contract: Names and roles of the columns.
        spark: The session; one that does not tell its limits, such as a serverless one, is asked for the rows.
    """
    from pyspark.errors import PySparkException  # noqa: PLC0415 - this module is loaded without Spark

    sent = sent_bytes(rows, len(matrix_columns(contract)) - 1)
    held = _COPIES * sent + matrix_bytes(rows, len(contract.features))
    try:
        limit = result_limit(spark)
    except PySparkException:
        return True
    return (limit is None or sent <= limit) and held <= driver_bytes(spark)


def _gib(size: float) -> str:
    return f"{size / _GIB:.3g} GiB"
