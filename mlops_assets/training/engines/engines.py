"""The two engines behind one interface: place the rows, search on them, make the final model.

What belongs here: the differences between the engines that a caller sees. What does not: the rule that picks one
(`choice`), how they work (`search`, `distributed`), Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mlops_assets.training.engines import distributed, placed_rows
from mlops_assets.training.engines.distributed_model import finish_on_cluster
from mlops_assets.training.final_model import finish
from mlops_assets.training.matrix import matrix_columns, to_matrix
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.slots import Slots, choose_slots

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.engines.choice import Engine
    from mlops_assets.training.final_model import EvaluationPlan, FinalModel
    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult, TrialRecord

SetName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SplitTables:
    """The pinned sets as Spark reads them.

    Attributes:
        spark: The session.
        read: Returns a set's table.
        contract: Names and roles of its columns.
    """

    spark: SparkSession
    read: Callable[[SetName], DataFrame]
    contract: Contract

    def rows(self, name: SetName) -> DataFrame:
        """Return the columns of a set that training and evaluation need."""
        return self.read(name).select(*matrix_columns(self.contract))

    def matrix(self, name: SetName) -> Matrix:
        """Return a set as arrays in this process."""
        return to_matrix(self.rows(name).toArrow(), self.contract)

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
        """Refit, choose the threshold, evaluate; the test rows are read only here."""


@contextmanager
def rows_in_place(engine: Engine, tables: SplitTables) -> Iterator[TrainingEngine]:
    """Lend the engine, with training and validation rows where it needs them, for the length of a block.

    Raises:
        SearchError: The rows can't be used for a search.
    """
    if engine == "memory":
        yield _InMemory(tables, tables.matrix("train"), tables.matrix("validation"))
        return
    train, validation = tables.rows("train"), tables.rows("validation")
    with placed_rows.placed(tables.spark, train, validation, tables.contract) as data:
        yield _OverCluster(tables, data)


def key_of(engine: Engine, spark: SparkSession) -> dict[str, str]:
    """Return the engine's part of a search's key: over the cluster, values depend on the number of workers."""
    return {} if engine == "memory" else {"engine": engine, "workers": str(placed_rows.count_workers(spark))}


@dataclass(frozen=True)
class _InMemory:
    tables: SplitTables
    train: Matrix
    validation: Matrix

    @property
    def train_rows(self) -> int:
        return self.train.rows

    @property
    def validation_rows(self) -> int:
        return self.validation.rows

    def slots(self, plan: SearchPlan) -> Slots:
        return choose_slots(self.tables.spark, plan)

    def search(
        self, plan: SearchPlan, on_trial: Callable[[TrialRecord], None], resumed: Sequence[TrialRecord]
    ) -> SearchResult:
        return run_search(self.tables.spark, self.train, self.validation, plan, on_trial, resumed)

    def finish(self, result: SearchResult, plan: SearchPlan, evaluation: EvaluationPlan) -> FinalModel:
        return finish(
            self.train,
            self.validation,
            lambda: self.tables.matrix("test"),
            result,
            plan,
            evaluation,
            label_delay_days=self.tables.contract.label_delay_days,
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
        return finish_on_cluster(
            self.tables.spark,
            self.data,
            self.tables.rows("train"),
            self.tables.rows("validation"),
            lambda: self.tables.rows("test"),
            self.tables.contract,
            result,
            plan,
            evaluation,
        )
