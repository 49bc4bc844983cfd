"""The two engines behind one interface: place the rows, search on them, make the final and the production model.

What belongs here: the differences between the engines that a caller sees. What does not: the rule that picks one
(`choice`), how they work (`search`, `distributed`), Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from mlops_assets.errors import SearchError
from mlops_assets.training.bagging import averaged
from mlops_assets.training.engines import distributed, placed_rows
from mlops_assets.training.engines.distributed_model import finish_on_cluster, refit_on_cluster
from mlops_assets.training.final_model import finish
from mlops_assets.training.folds import earlier_folds
from mlops_assets.training.matrix import matrix_columns, to_matrix
from mlops_assets.training.objective import fit_all, quantized
from mlops_assets.training.production import refit
from mlops_assets.training.recency import counted_rows
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.slots import Slots, choose_slots

if TYPE_CHECKING:
    import xgboost as xgb
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.mature_rows import MatureRows
    from mlops_assets.training.engines.choice import Engine
    from mlops_assets.training.final_model import EvaluationPlan, FinalModel
    from mlops_assets.training.folds import Fold
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.members import Bag
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.production import ProductionModel
    from mlops_assets.training.records import SearchResult, TrialRecord

SetName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SplitTables:
    """The pinned sets as Spark reads them.

    Attributes:
        spark: The session.
        read: Returns a set's table.
        contract: Names and roles of its columns.
        gap_days: Days that were left out before each cut.
        mature: Returns the rows that the split could have used, also outside the sets; None where nobody asks for them.
        earlier_frauds: Returns the frauds from before the test set that make cards known, those of the gaps too, or
            None; without it they are those of training and validation set.
    """

    spark: SparkSession
    read: Callable[[SetName], DataFrame]
    contract: Contract
    gap_days: float = 0.0
    mature: Callable[[], MatureRows] | None = None
    earlier_frauds: Callable[[], DataFrame | None] = lambda: None

    def rows(self, name: SetName) -> DataFrame:
        """Return the columns of a set that training and evaluation need."""
        return self.read(name).select(*matrix_columns(self.contract))

    def matrix(self, name: SetName) -> Matrix:
        """Return a set as arrays in this process."""
        return self.matrix_of(self.read(name))

    def gap(self) -> list[Matrix]:
        """Return the rows between training and validation set as one array in this process, or nothing."""
        rows = None if self.mature is None else self.mature().gap
        return [] if rows is None else [self.matrix_of(rows)]

    def between(self) -> list[Matrix]:
        """Return the frauds from before the test set as one array in this process, or nothing."""
        frauds = self.frauds_before_test()
        return [] if frauds is None else [self.matrix_of(frauds)]

    def frauds_before_test(self) -> DataFrame | None:
        """Return `earlier_frauds`, if the sets leave any out and the contract names an entity."""
        return self.earlier_frauds() if self.gap_days and self.contract.entity is not None else None

    def matrix_of(self, rows: DataFrame) -> Matrix:
        """Return rows of the contract as arrays in this process."""
        return to_matrix(rows.select(*matrix_columns(self.contract)).toArrow(), self.contract)

    def require_mature(self) -> MatureRows:
        """Return the rows that the split could have used.

        Raises:
            SearchError: These sets have no split behind them.
        """
        if self.mature is None:
            raise SearchError(
                "these sets do not come from a split of the raw table",
                where="production refit",
                fix="materialize train_set, validation_set and test_set, or set production_refit: false",
            )
        return self.mature()

    def searched_rows(self) -> int:
        """Return how many training plus validation rows a search uses; Delta counts them without reading them."""
        return self.read("train").count() + self.read("validation").count()


class TrainingEngine(Protocol):
    """An engine whose rows are loaded, ready for a search."""

    @property
    def train_rows(self) -> int:
        """Number of training rows."""

    @property
    def validation_rows(self) -> int:
        """Number of validation rows."""

    def slots(self, plan: SearchPlan) -> Slots:
        """Return how many trials run in parallel, and the threads of each."""

    def search(
        self, plan: SearchPlan, on_trial: Callable[[TrialRecord], None], resumed: Sequence[TrialRecord]
    ) -> SearchResult:
        """Search for the best point; arguments and errors as in `search.run_search`."""

    def finish(self, result: SearchResult, plan: SearchPlan, evaluation: EvaluationPlan) -> FinalModel:
        """Refit, choose the threshold, evaluate; the test rows are read only after every choice."""

    def refit(self, evaluated: FinalModel, result: SearchResult, plan: SearchPlan) -> ProductionModel:
        """Fit the winning point again on all rows with a mature label, and carry the threshold over."""


@contextmanager
def rows_in_place(engine: Engine, tables: SplitTables, *, folds: int) -> Iterator[TrainingEngine]:
    """Lend the engine, with training and validation rows where it needs them, for the length of a block.

    Args:
        engine: Which one.
        tables: The sets.
        folds: Most folds of the search; over the cluster there is one.

    Raises:
        SearchError: The rows can't be used for a search.
    """
    if engine == "memory":
        yield _InMemory.placed(tables, folds)
        return
    train, validation = tables.rows("train"), tables.rows("validation")
    with placed_rows.placed(tables.spark, train, validation, tables.contract) as data:
        yield _OverCluster(tables, data)


def fit_elsewhere(
    engine: Engine,
    spark: SparkSession,
    rows: DataFrame,
    judged: DataFrame,
    contract: Contract,
    bag: Bag,
    *,
    trees_per_row: float,
    threads: int,
) -> xgb.Booster:
    """Fit a model on other rows than those it was found on, its best point with as many trees a row.

    Args:
        engine: Where.
        spark: The session.
        rows: Rows to fit on: the contract's columns, batch id and row number.
        judged: Rows of both classes that the model will be judged on; never fitted on.
        contract: Names and roles of the columns.
        bag: The fits that it is the mean of.
        trees_per_row: Trees of the best point for each row, weighted by its age.
        threads: Threads of a fit in memory.

    Raises:
        SearchError: There are no rows, or the cluster can't run all workers at once.
    """
    columns = matrix_columns(contract)
    if engine == "memory":
        matrix = to_matrix(rows.select(*columns).toArrow(), contract)
        rounds = max(1, round(trees_per_row * counted_rows(bag.best, matrix.days)))
        return averaged(fit_all(bag.members(rounds), quantized(matrix, threads=threads), threads=threads))
    with placed_rows.placed(spark, rows.select(*columns), judged.select(*columns), contract) as data:
        rounds = max(1, round(trees_per_row * data.train.rows))
        return averaged(distributed.fit_all_on_cluster(data, bag.members(rounds)))


def key_of(engine: Engine, spark: SparkSession) -> dict[str, str]:
    """Return the engine's part of a search's key: over the cluster, values depend on the number of workers."""
    return {} if engine == "memory" else {"engine": engine, "workers": str(placed_rows.count_workers(spark))}


@dataclass(frozen=True)
class _InMemory:
    tables: SplitTables
    train: Matrix
    validation: Matrix
    older: tuple[Fold, ...]

    @classmethod
    def placed(cls, tables: SplitTables, folds: int) -> _InMemory:
        train, validation = tables.matrix("train"), tables.matrix("validation")
        gap = tables.gap() if folds > 1 and tables.gap_days else []
        older = earlier_folds(train, gap, validation, folds=folds, gap_days=tables.gap_days)
        return cls(tables, train, validation, older)

    @property
    def train_rows(self) -> int:
        return self.train.rows

    @property
    def validation_rows(self) -> int:
        return self.validation.rows

    def slots(self, plan: SearchPlan) -> Slots:
        slots = choose_slots(self.tables.spark, plan)
        if plan.folds == 1:
            return slots
        used = f"each trial is judged on {1 + len(self.older)} of at most {plan.folds} folds"
        return replace(slots, notes=(*slots.notes, used))

    def search(
        self, plan: SearchPlan, on_trial: Callable[[TrialRecord], None], resumed: Sequence[TrialRecord]
    ) -> SearchResult:
        return run_search(self.tables.spark, self.train, self.validation, plan, on_trial, resumed, self.older)

    def finish(self, result: SearchResult, plan: SearchPlan, evaluation: EvaluationPlan) -> FinalModel:
        return finish(
            self.train,
            self.validation,
            lambda: self.tables.matrix("test"),
            result,
            plan,
            evaluation,
            self.older,
            between=self.tables.between(),
            label_delay_days=self.tables.contract.label_delay_days,
        )

    def refit(self, evaluated: FinalModel, result: SearchResult, plan: SearchPlan) -> ProductionModel:
        tables, rows = self.tables, self.tables.require_mature()
        return refit(
            lambda: tables.matrix_of(rows.before_test),
            lambda: tables.matrix_of(rows.now),
            tables.matrix("test"),
            self.train.days,
            evaluated,
            result,
            plan,
        )


@dataclass(frozen=True)
class _OverCluster:
    tables: SplitTables
    data: placed_rows.PlacedRows

    @property
    def train_rows(self) -> int:
        return self.data.train.rows

    @property
    def validation_rows(self) -> int:
        return self.data.validation.rows

    def slots(self, plan: SearchPlan) -> Slots:
        notes = distributed.search_notes(self.data, plan)
        return Slots(parallelism=1, threads=placed_rows.task_cpus(self.tables.spark), notes=notes)

    def search(
        self, plan: SearchPlan, on_trial: Callable[[TrialRecord], None], resumed: Sequence[TrialRecord]
    ) -> SearchResult:
        return distributed.run_distributed_search(self.tables.spark, self.data, plan, on_trial, resumed)

    def finish(self, result: SearchResult, plan: SearchPlan, evaluation: EvaluationPlan) -> FinalModel:
        earlier = self.tables.frauds_before_test()
        return finish_on_cluster(
            self.tables.spark,
            self.data,
            self.tables.rows("train") if earlier is None else earlier,
            self.tables.rows("validation"),
            lambda: self.tables.rows("test"),
            self.tables.contract,
            result,
            plan,
            evaluation,
        )

    def refit(self, evaluated: FinalModel, result: SearchResult, plan: SearchPlan) -> ProductionModel:
        tables, rows = self.tables, self.tables.require_mature()
        return refit_on_cluster(
            tables.spark, rows, tables.rows("test"), self.train_rows, tables.contract, evaluated, result, plan
        )
