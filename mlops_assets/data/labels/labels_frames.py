"""Labels as Spark column expressions: which label counts for a transaction.

What belongs here: Spark expressions for it, the same for incoming rows and for rows of the raw table. What does not:
reading label files (`labels`), committing (`lakehouse`).

If a key has several labels, the one that became known last counts; on equal times, the one that arrived later. This is
the maximum of (known at, arrival, position), so neither the order of files nor a repeated delivery changes it, and an
older label never replaces the one in force. A label by entity applies to those of the entity's transactions that
happened before the label became known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, KNOWN_AT, LABEL, LABEL_COLUMNS, LABEL_KNOWN_AT, REASONS, ROW_NUMBER
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.labels.labels import require_labels

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def latest_labels(ledger: DataFrame, contract: Contract) -> DataFrame:
    """Return the label in force of each key: the key, `_label` and `_known_at`."""
    key = require_labels(contract).key
    ranked = F.max(F.struct(KNOWN_AT, INGESTED_AT, ROW_NUMBER, LABEL)).alias("last")
    good = ledger.where(F.size(REASONS) == 0).groupBy(key).agg(ranked)
    return good.select(key, F.col(f"last.{LABEL}").alias(LABEL), F.col(f"last.{KNOWN_AT}").alias(KNOWN_AT))


def is_about(contract: Contract) -> str:
    """Return the SQL condition under which a label (`new`) is about a transaction (`old`)."""
    key = require_labels(contract).key
    same = f"old.`{key}` = new.`{key}`"
    return same if key == contract.key else f"{same} AND old.`{contract.event_time}` <= new.`{KNOWN_AT}`"


def is_update(contract: Contract) -> str:
    """Return the SQL condition under which a label changes the raw table row that it is about."""
    return (
        f"(old.`{LABEL_KNOWN_AT}` IS NULL OR old.`{LABEL_KNOWN_AT}` <= new.`{KNOWN_AT}`) "
        f"AND NOT (old.`{contract.target}` <=> new.`{LABEL}` AND old.`{LABEL_KNOWN_AT}` <=> new.`{KNOWN_AT}`)"
    )


def updates(table: DataFrame, latest: DataFrame, contract: Contract) -> DataFrame:
    """Return one label for each row of the raw table that a label would change.

    Args:
        table: The raw table, with `_label_known_at`.
        latest: What `latest_labels` returns.
        contract: Names.
    """
    joined = table.alias("old").join(latest.alias("new"), F.expr(is_about(contract)))
    return joined.where(F.expr(is_update(contract))).select("new.*")


def labelled(rows: DataFrame, latest: DataFrame, contract: Contract) -> DataFrame:
    """Return incoming rows with the labels that arrived before them.

    Args:
        rows: Rows of the raw table without `_label_known_at`.
        latest: What `latest_labels` returns.
        contract: Names.

    Returns:
        The same rows. Where a label exists, it replaces the target. The last column is `_label_known_at`, null for rows
        without a label of their own.
    """
    joined = rows.alias("old").join(latest.alias("new"), F.expr(is_about(contract)), "left")
    columns = {name: F.col(f"old.`{name}`") for name in rows.columns}
    described = {"comment": contract.column(contract.target).description}
    merged = F.coalesce(f"new.{LABEL}", f"old.{contract.target}")
    columns[contract.target] = merged.alias(contract.target, metadata=described)
    known = F.col(f"new.{KNOWN_AT}").alias(LABEL_KNOWN_AT, metadata={"comment": LABEL_COLUMNS[LABEL_KNOWN_AT]})
    return joined.select(*columns.values(), known)


def waiting(table: DataFrame | None, latest: DataFrame, contract: Contract) -> int:
    """Return how many labels have no transaction in the raw table yet; `table` is None if there is no raw table."""
    if table is None:
        return latest.count()
    about = F.expr(is_about(contract))
    return latest.alias("new").join(table.alias("old"), about, "left_anti").count()
