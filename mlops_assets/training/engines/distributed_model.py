"""From the best point of a search over the cluster to the final and the production model, rows scored on the executors.

What belongs here: both refits over the cluster, and scored rows in the order of `Matrix`. What does not: threshold,
evaluation, pictures (`final_model`, the same for both engines), the search (`distributed`).

The threshold and the intervals of an evaluation need all scores at once, so the driver does collect labels, scores,
days, amounts and entities of the validation and test rows, 37 bytes a row: 3.7 GB for 100 million rows. The features
stay on the cluster, except those of the few thousand explained rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.days import day_numbers, on_whole_days
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.training.bagging import averaged
from mlops_assets.training.calibrated import calibrated
from mlops_assets.training.engines.choice import BYTES_PER_SCORED_ROW
from mlops_assets.training.engines.cluster_memory import result_limit
from mlops_assets.training.engines.distributed import broadcast_model, fit_all_on_cluster
from mlops_assets.training.engines.distributed_metrics import judge_on_cluster, predictor
from mlops_assets.training.engines.placed_rows import PlacedRows, as_feature, placed
from mlops_assets.training.final_model import conclude, judge_refit
from mlops_assets.training.matrix import doubles, entity_ids, event_seconds, hashed
from mlops_assets.training.production import ProductionModel, carried_over, refit_trees
from mlops_assets.training.scored_rows import ScoredRows, past_frauds

if TYPE_CHECKING:
    import xgboost as xgb
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.mature_rows import MatureRows
    from mlops_assets.training.engines.distributed_metrics import ScoredCounts
    from mlops_assets.training.final_model import EvaluationPlan, FinalModel
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult

_LABEL, _TIME, _AMOUNT, _ENTITY = "_y", "_time", "_amount", "_entity"  # a feature may have the plain name
_PLACE = "_place"
_SCORE = "_score"


def finish_on_cluster(
    spark: SparkSession,
    data: PlacedRows,
    earlier: DataFrame,
    validation: DataFrame,
    read_test: Callable[[], DataFrame],
    contract: Contract,
    result: SearchResult,
    search: SearchPlan,
    plan: EvaluationPlan,
) -> FinalModel:
    """Refit the best point over the cluster, then continue as `final_model.finish` does.

    Args:
        spark: The session.
        data: The rows that the search used: with the same number of workers the refit is the same model.
        earlier: Rows from before the test set, from which only the frauds' entities and days are read, as those of the
            validation rows: the contract's columns.
        validation: Rows for the threshold: the contract's columns, batch id and row number.
        read_test: Returns the test rows, the same columns; called once, after every choice has been made.
        contract: Names and roles of the columns.
        result: The finished search.
        search: What was searched.
        plan: How to evaluate.

    Raises:
        EvaluationError: A set is too large for its scores to be collected, the threshold rule needs amounts that the
            data do not have, or a metric is not defined.
    """
    best = result.best
    members = fit_all_on_cluster(data, search.bag(best.point).members(best.rounds))
    booster = averaged(members)
    with ExitStack() as held:
        first = held.enter_context(broadcast_model(spark, members[0]))
        value = judge_on_cluster(search.objective, data.validation_rows, data.features, first, data.validation)
        model = held.enter_context(broadcast_model(spark, booster)) if len(members) > 1 else first

        def scored(rows: DataFrame, by: Broadcast[bytes], dataset: str) -> ScoredRows:
            return score_in_order(rows, contract, by, held, result_limit(spark), where=dataset)

        def test(final: xgb.Booster) -> ScoredRows:
            by = model if final is booster else held.enter_context(broadcast_model(spark, final))
            return scored(read_test(), by, "test set")

        chosen_on = scored(validation, model, "validation set")
        return conclude(
            booster,
            judge_refit(value, result),
            chosen_on,
            test,
            result,
            search,
            plan,
            past=past_frauds(
                [_frauds(earlier, contract), (chosen_on.y, chosen_on.days, chosen_on.entities)],
                contract.label_delay_days,
            ),
        )


def refit_on_cluster(
    spark: SparkSession,
    mature: MatureRows,
    test: DataFrame,
    searched_rows: int,
    contract: Contract,
    evaluated: FinalModel,
    result: SearchResult,
    search: SearchPlan,
) -> ProductionModel:
    """Rehearse and fit the production model over the cluster, as `production.refit` does in memory.

    Args:
        spark: The session.
        mature: What to fit on: the contract's columns, batch id and row number.
        test: The rows that the evaluated model was evaluated on, the same columns.
        searched_rows: Training rows of the search.
        contract: Names and roles of the columns.
        evaluated: The evaluated model.
        result: The finished search.
        search: What was searched.

    Raises:
        EvaluationError: The test set is too large for its scores to be collected.
    """

    def fitted(rows: DataFrame) -> tuple[xgb.Booster, int, ScoredCounts, ScoredRows]:
        with ExitStack() as held:
            data = held.enter_context(placed(spark, rows, test, contract))
            trees = refit_trees(result, [searched_rows, *result.older_rows], data.train.rows)
            members = fit_all_on_cluster(data, search.bag(result.best.point).members(trees))
            booster = calibrated(averaged(members), evaluated.calibration)
            model = held.enter_context(broadcast_model(spark, booster))
            scored = score_in_order(test, contract, model, held, result_limit(spark), where="test set")
        return booster, trees, data.train, scored

    _, _, _, rehearsed = fitted(mature.before_test)
    booster, trees, counts, scored = fitted(mature.now)
    return ProductionModel(
        booster=booster,
        trees=trees,
        rows=counts.rows,
        counted=counts.rows,
        frauds=counts.frauds,
        threshold=carried_over(evaluated.threshold, evaluated.test_scores, rehearsed.scores),
        rehearsed_average_precision=average_precision(rehearsed.y, rehearsed.scores),
        rehearsed_scores=rehearsed.scores,
        test_scores=scored.scores,
    )


def score_in_order(
    rows: DataFrame,
    contract: Contract,
    model: Broadcast[bytes],
    held: ExitStack,
    limit: int | None,
    *,
    where: str,
) -> ScoredRows:
    """Score rows on the cluster and collect the columns that an evaluation needs, in the order of `Matrix`.

    Args:
        rows: The contract's columns, batch id and row number.
        contract: Names and roles of the columns.
        model: The model, as `distributed_metrics.packed`.
        held: Keeps the sorted rows on the executors' disks until it is closed, because `rows_at` reads them.
        limit: Most bytes that the driver may collect; None for no limit.
        where: Name of the set, for errors.

    Raises:
        EvaluationError: The set has more bytes of scores than `limit`.
    """
    count = rows.count()
    if limit is not None and count * BYTES_PER_SCORED_ROW > limit:
        raise EvaluationError(
            f"{count:,} rows have {count * BYTES_PER_SCORED_ROW:,} bytes of scores, the driver may collect {limit:,}",
            where=where,
            fix="raise spark.driver.maxResultSize, and the driver's memory with it, or use a shorter period",
        )
    features = list(contract.features)
    ordered = rows.orderBy(contract.event_time, BATCH_ID, ROW_NUMBER).select(
        *(as_feature(name) for name in features),
        F.col(contract.target).cast("byte").alias(_LABEL),
        F.col(contract.event_time).alias(_TIME),
        (F.lit(None) if contract.amount is None else F.col(contract.amount)).cast("double").alias(_AMOUNT),
        (F.lit(None).cast("string") if contract.entity is None else F.col(contract.entity)).alias(_ENTITY),
    )
    ordered = ordered.withColumn(_PLACE, F.monotonically_increasing_id()).persist(StorageLevel.DISK_ONLY)
    held.callback(ordered.unpersist)
    kept = [_LABEL, _TIME, _AMOUNT, _PLACE]
    added = {_ENTITY: F.lit(None).cast("long"), _SCORE: F.lit(0.0).cast("float")}
    schema, names = ordered.select(*kept).withColumns(added).schema, [*kept, *added]

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scores_of = predictor(features, model.value)
        for batch in batches:
            columns = [batch.column(name) for name in kept]
            columns += [hashed(batch.column(_ENTITY)), pa.array(scores_of(batch), pa.float32())]
            yield pa.RecordBatch.from_arrays(columns, names)

    table = ordered.mapInArrow(score, schema).toArrow()
    places = table.column(_PLACE).to_numpy()

    def rows_at(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        asked = places[positions]
        matches = ordered.where(F.col(_PLACE).isin(np.unique(asked).tolist())).select(_PLACE, *features).toArrow()
        at = np.searchsorted(matches.column(_PLACE).to_numpy(), asked)  # ascending, like the rows
        return np.column_stack([matches.column(name).to_numpy()[at] for name in features]).astype(np.float32)

    at = event_seconds(table.column(_TIME))
    return ScoredRows(
        y=table.column(_LABEL).to_numpy().astype(np.uint8),
        scores=table.column(_SCORE).to_numpy(),
        days=day_numbers(at, contract.time_zone),
        amounts=None if contract.amount is None else doubles(table.column(_AMOUNT)),
        entities=None if contract.entity is None else entity_ids(table.column(_ENTITY)),
        rows_at=rows_at,
        on_whole_day=on_whole_days(at, contract.time_zone),
    )


def _frauds(
    rows: DataFrame, contract: Contract
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Return labels, days and entities of the frauds among rows, as `past_frauds` takes them; only they are read."""
    if contract.entity is None:
        return np.empty(0, np.uint8), np.empty(0, np.int64), None
    table = rows.where(F.col(contract.target) == 1).select(contract.entity, contract.event_time).toArrow()
    ids = entity_ids(hashed(table.column(contract.entity)))
    days = day_numbers(event_seconds(table.column(contract.event_time)), contract.time_zone)
    return np.ones(table.num_rows, np.uint8), days, ids
