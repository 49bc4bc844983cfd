"""The rule of `merge` as Spark column expressions: which rows are kept, across inputs and against the raw table.

What belongs here: Spark expressions for it. What does not: the rule's meaning (`merge`), committing (`lakehouse`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses
from pyspark.sql.window import Window

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT, MERGE_OUTCOME, ROW_NUMBER
from mlops_assets.data.contract.contract import Contract

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

REPLACES, KNOWN = "replaces", "known"


def last_of_each_key(rows: DataFrame, key: str, contract: Contract) -> DataFrame:
    """Return the last write of each key among rows from several inputs."""
    latest = [F.col(name).desc() for name in _order(contract)]
    numbered = rows.withColumn(MERGE_OUTCOME, F.row_number().over(Window.partitionBy(key).orderBy(*latest)))
    return numbered.where(F.col(MERGE_OUTCOME) == 1).drop(MERGE_OUTCOME)


def merge_outcomes(
    rows: DataFrame, table: DataFrame, key: str, contract: Contract, key_range: tuple[Any, Any] | None
) -> DataFrame:
    """Return key, batch id, merge outcome and changes of the rows whose key is in the table.

    The outcome is `replaces` if the row is a later write than the table's row, and `known` if it is not, or if its
    values are equal: delivering a row again leaves the table's row unchanged. For each column of the contract
    `change_of(column)` says whether the row would replace a value that the table has by another one, or by none; that
    of the target holds the table's label then, and null otherwise.

    Args:
        rows: One row per key.
        table: The raw table; columns of the contract that it does not have yet count as null.
        key: The contract's key.
        contract: Names and types.
        key_range: Smallest and largest key of `rows`, so that Delta reads only the files with such keys.
    """
    if key_range is not None:
        table = table.where(F.col(key).between(F.lit(key_range[0]), F.lit(key_range[1])))
    old, new = table.alias("old"), rows.alias("new")
    same, order = F.lit(True), _order(contract)  # the neutral element of AND
    changed = []
    for name in contract.column_names:
        before = F.col(f"old.{name}") if name in table.columns else F.lit(None)
        equal = before.eqNullSafe(F.col(f"new.{name}"))
        same = same & equal
        change = before.isNotNull() & ~equal
        changed.append((F.when(change, before) if name == contract.target else change).alias(change_of(name)))
    later = _struct("new", order) > _struct("old", order)
    outcome = F.when(later & ~same, F.lit(REPLACES)).otherwise(F.lit(KNOWN))
    joined = new.join(old, F.col(f"new.{key}") == F.col(f"old.{key}"))
    return joined.select(
        F.col(f"new.{key}").alias(key), F.col(f"new.{BATCH_ID}").alias(BATCH_ID), outcome.alias(MERGE_OUTCOME), *changed
    )


def change_of(name: str) -> str:
    """Return the column of `merge_outcomes` that says whether a row changes the value of a column."""
    return f"_change_of_{name}"


def _order(contract: Contract) -> list[str]:
    versions = [] if contract.versioned_by is None else [contract.versioned_by]
    return [*versions, INGESTED_AT, ROW_NUMBER]


def _struct(side: str, names: list[str]) -> Column:
    return F.struct(*[F.col(f"{side}.{name}") for name in names])
