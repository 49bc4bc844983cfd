"""The test rows that a version is verified and judged on, in memory or on the cluster, with the same figures.

What belongs here: both forms, and which one a test set takes. What does not: what is asked of the rows (`registration`,
`comparison`, `golden`).

In memory all features are collected. On the cluster they stay there: executors score them, and the driver gets label,
score, day, amount and entity of each row, and features of the few hundred rows that it explains or draws golden rows
from. A row is told apart by a hash of its batch and position, so scores come in any order and nothing is sorted twice,
and no cache is needed, which serverless compute has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.days import day_numbers, on_whole_days
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.drift import FeatureDrift, counts_in, drift_of, edges_of, feature_drift
from mlops_assets.registry.versions import accepted_features, score
from mlops_assets.tracking.category_codes import levels_of
from mlops_assets.training.baselines import LOGISTIC, by_amount, fitted_logistic, simple_scores
from mlops_assets.training.categories import recoded, union
from mlops_assets.training.engines.distributed_metrics import packed, predictor, values_of
from mlops_assets.training.engines.placed_rows import as_feature
from mlops_assets.training.matrix import (
    Matrix,
    doubles,
    entity_ids,
    event_seconds,
    hashed,
    matrix_columns,
    to_matrix,
)
from mlops_assets.training.objective import predict

if TYPE_CHECKING:
    import xgboost as xgb
    from pyspark.sql import Column, DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.training.categories import Levels

Scores = npt.NDArray[np.float32]
_PLACE: Final = "_place"
# Of a hundred million rows two share a hash with a chance of 0.03 %; then the next is tried.
_SEEDS: Final = (0, 1, 2)
_LABEL, _TIME, _AMOUNT, _ENTITY = "_y", "_time", "_amount", "_entity"  # a feature may have the plain name


class JudgedRows(Protocol):
    """The candidate's test rows, in the order of a `Matrix`."""

    @property
    def frame(self) -> DataFrame:
        """The contract's and the platform's columns, in any order."""
        ...

    @property
    def narrow(self) -> Matrix:
        """Labels, days, amounts and entities; it may lack the features."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def at(self, positions: npt.NDArray[np.int64]) -> Matrix:
        """Return the rows at ascending positions, with features; only for a few."""
        ...

    def score(self, model: VerifiedModel) -> Scores:
        """Return a version's scores, float32 [rows]; TrackingError if it does not accept the features."""
        ...

    def predict(self, booster: xgb.Booster) -> Scores:
        """Return the scores of a model of the contract's features, float32 [rows]."""
        ...

    def drift_from(self, train: Matrix) -> list[FeatureDrift]:
        """Return the drift of the features from training rows to these."""
        ...

    def simple_scores(self, train: Matrix) -> dict[str, npt.NDArray[np.float64]]:
        """Return simple scores [rows] by name, as `baselines.simple_scores` does."""
        ...


def judged_rows(frame: DataFrame, contract: Contract, *, on_cluster: bool) -> JudgedRows:
    """Return the test rows.

    Args:
        frame: The test set.
        contract: Names and roles of the columns.
        on_cluster: Whether the features stay on the cluster.
    """
    if on_cluster:
        return OnCluster.of(frame, contract)
    return InMemory(frame, to_matrix(frame.select(*matrix_columns(contract)).toArrow(), contract))


@dataclass(frozen=True)
class InMemory:
    """All rows with all features as arrays."""

    frame: DataFrame
    narrow: Matrix

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.narrow.rows

    def at(self, positions: npt.NDArray[np.int64]) -> Matrix:
        """Return the rows at ascending positions."""
        return self.narrow.at(positions)

    def score(self, model: VerifiedModel) -> Scores:
        """Return a version's scores."""
        return score(model, self.narrow)

    def predict(self, booster: xgb.Booster) -> Scores:
        """Return a model's scores."""
        return predict(booster, self.narrow)

    def drift_from(self, train: Matrix) -> list[FeatureDrift]:
        """Return the drift of the features."""
        levels = union([train.levels, self.narrow.levels])
        earlier, later = (recoded(rows.X, rows.features, rows.levels, levels) for rows in (train, self.narrow))
        return feature_drift(earlier, later, train.features)

    def simple_scores(self, train: Matrix) -> dict[str, npt.NDArray[np.float64]]:
        """Return simple scores."""
        return simple_scores(train, self.narrow)


@dataclass(frozen=True)
class OnCluster:
    """Rows whose features stay on the cluster.

    Attributes:
        frame: The test set.
        contract: Names and roles of the columns.
        narrow: Without features.
        places: Hash of each row's batch and position [rows], no two of them equal.
        order: Positions of the rows by rising hash [rows].
        seed: Of the hash.
    """

    frame: DataFrame
    contract: Contract
    narrow: Matrix
    places: npt.NDArray[np.int64]
    order: npt.NDArray[np.int32]
    seed: int

    @classmethod
    def of(cls, frame: DataFrame, contract: Contract) -> OnCluster:
        """Collect all but the features.

        Raises:
            EvaluationError: Two rows have the same batch and position.
        """
        for seed in _SEEDS:
            narrow, places = _collected(frame, contract, seed)
            order = np.argsort(places).astype(np.int32)  # a driver has no two billion rows
            rising = places[order]
            if (rising[1:] > rising[:-1]).all():
                return cls(frame, contract, narrow, places, order, seed)
        raise EvaluationError(
            "rows have the same batch and position as others",
            where="test set",
            fix="materialize train_set, validation_set and test_set again",
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.narrow.rows

    def at(self, positions: npt.NDArray[np.int64]) -> Matrix:
        """Return the rows at ascending positions."""
        wanted = _place(self.seed).isin(self.places[positions].tolist())
        return to_matrix(self.frame.where(wanted).select(*matrix_columns(self.contract)).toArrow(), self.contract)

    def score(self, model: VerifiedModel) -> Scores:
        """Return a version's scores."""
        features = accepted_features(model, self.contract.features, self.contract.categories)
        return self._predicted(model.booster, features)

    def predict(self, booster: xgb.Booster) -> Scores:
        """Return a model's scores."""
        return self._predicted(booster, self.contract.features)

    def drift_from(self, train: Matrix) -> list[FeatureDrift]:
        """Return the drift of the features."""
        levels = union([train.levels, self._levels()])
        earlier = recoded(train.X, train.features, train.levels, levels)
        if not len(earlier) or not self.rows:
            return []
        edges, names = edges_of(earlier), list(train.features)

        def counts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                bins = counts_in(values_of(batch, names), edges)
                sizes = [len(found) for found in bins]
                columns = {
                    "feature": np.repeat(np.arange(len(bins), dtype=np.int32), sizes),
                    "bin": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
                    "rows": np.concatenate(bins).astype(np.int64),
                }
                yield pa.RecordBatch.from_pydict(columns)

        counted = self._coded(names, levels).mapInArrow(counts, "feature int, bin int, rows long")
        after = [np.zeros(len(inner) + 2) for inner in edges]
        for feature, at, rows in counted.groupBy("feature", "bin").agg(F.sum("rows")).collect():
            after[feature][at] = rows
        return drift_of(counts_in(earlier, edges), after, names)

    def simple_scores(self, train: Matrix) -> dict[str, npt.NDArray[np.float64]]:
        """Return simple scores."""
        levels = union([train.levels, self._levels()])
        logistic, names = fitted_logistic(train, levels), list(train.features)
        found = by_amount(self.narrow.amounts)
        if logistic is not None:
            found[LOGISTIC] = self._scored(names, levels, lambda: lambda batch: logistic(values_of(batch, names)))
        return found

    def _predicted(self, booster: xgb.Booster, features: Sequence[str]) -> Scores:
        names, model = list(features), packed(booster)
        return self._scored(names, levels_of(booster), lambda: predictor(names, model)).astype(np.float32)

    def _scored(
        self,
        names: Sequence[str],
        levels: Mapping[str, Sequence[str]],
        made: Callable[[], Callable[[pa.RecordBatch], Any]],
    ) -> npt.NDArray[np.float64]:
        """Return what a function, made once for each part of the rows, says of them [rows]."""

        def score_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            scores_of = made()
            for batch in batches:
                scores = np.asarray(scores_of(batch), dtype=np.float64) if batch.num_rows else np.empty(0)
                yield pa.RecordBatch.from_arrays([batch.column(_PLACE), pa.array(scores)], ["place", "score"])

        found = self._coded(names, levels).mapInArrow(score_all, "place long, score double").toArrow()
        scores = np.empty(self.rows)
        for batch in found.to_batches():  # as one, the columns would be copied
            at = np.searchsorted(self.places, batch.column("place").to_numpy(), sorter=self.order)
            scores[self.order[at]] = batch.column("score").to_numpy()
        return scores

    def _levels(self) -> Levels:
        """Return the levels that the rows have, by category, in alphabetical order."""
        found = {}
        for name in self.contract.categories:
            distinct = self.frame.where(F.col(name).isNotNull()).select(name).distinct().collect()
            found[name] = tuple(sorted(str(row[0]) for row in distinct))
        return found

    def _coded(self, names: Sequence[str], levels: Mapping[str, Sequence[str]]) -> DataFrame:
        """Return features as float, and the hash; text as the place of its level, null where it is none of them."""

        def coded(name: str) -> Column:
            if name not in levels:
                return as_feature(name)
            if not levels[name]:
                return F.lit(None).cast("float").alias(name)
            place = F.array_position(F.array(*(F.lit(level) for level in levels[name])), F.col(name))
            return F.when(place > 0, place - 1).cast("float").alias(name)

        return self.frame.select(*(coded(name) for name in names), _place(self.seed).alias(_PLACE))


def _collected(frame: DataFrame, contract: Contract, seed: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Return all but the features of the rows, in order, and the hash of each."""
    amount, entity = contract.amount, contract.entity
    columns = frame.orderBy(contract.event_time, BATCH_ID, ROW_NUMBER).select(
        F.col(contract.target).cast("byte").alias(_LABEL),
        F.col(contract.event_time).alias(_TIME),
        (F.lit(None) if amount is None else F.col(amount)).cast("double").alias(_AMOUNT),
        _place(seed).alias(_PLACE),
        (F.lit(None).cast("string") if entity is None else F.col(entity)).alias(_ENTITY),
    )
    kept = [_LABEL, _TIME, _AMOUNT, _PLACE]
    schema = columns.select(*kept).withColumn(_ENTITY, F.lit(None).cast("long")).schema

    def without_names(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = [batch.column(name) for name in kept]
            yield pa.RecordBatch.from_arrays([*found, hashed(batch.column(_ENTITY))], [*kept, _ENTITY])

    table = columns.mapInArrow(without_names, schema).toArrow()
    held = dict(zip(table.column_names, table.columns, strict=True))
    del table  # each column is freed once there is an array of it
    at = event_seconds(held.pop(_TIME))
    narrow = Matrix(
        features=(),
        X=np.empty((len(at), 0), dtype=np.float32),
        y=held.pop(_LABEL).to_numpy().astype(np.uint8),
        days=day_numbers(at, contract.time_zone),
        amounts=None if amount is None else doubles(held.pop(_AMOUNT)),
        on_whole_day=on_whole_days(at, contract.time_zone),
        entities=None if entity is None else entity_ids(held.pop(_ENTITY)),
    )
    return narrow, held.pop(_PLACE).to_numpy()


def _place(seed: int) -> Column:
    return F.xxhash64(F.lit(seed), F.col(BATCH_ID), F.col(ROW_NUMBER))
