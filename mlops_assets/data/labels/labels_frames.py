"""Labels as Spark column expressions: which labels are about a transaction, and which of them counts.

What belongs here: Spark expressions for it, the same for incoming rows and for rows of the raw table. What does not:
reading label files (`labels`), what was known at an earlier moment (`as_known`), committing (`lakehouse`).

- A label by key is about one transaction. Of several, the one that became known last counts; of equal times, the one
  that arrived later, then the later row of its file. An older label never replaces the one in force.
- A label by entity is about the transactions in (max(previous label, known_at - window), known_at]. Seen from the
  transaction: the first label that became known at or after it counts, if that was less than the window later.

A row of the raw table keeps all labels that could ever count for it, in the order above (`_label_history`), and the
label that it was delivered with (`_own_label`). Both follow from the label table and the row alone, so neither the
order of files nor a repeated delivery changes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import (
    BATCH_ID,
    HISTORY_COLUMNS,
    INGESTED_AT,
    KNOWN_AT,
    LABEL,
    LABEL_COLUMNS,
    LABEL_HISTORY,
    LABEL_KNOWN_AT,
    OWN_LABEL,
    REASONS,
    ROW_NUMBER,
)
from mlops_assets.data.contract.contract import SECONDS_PER_DAY, Contract
from mlops_assets.data.labels.labels import require_labels
from mlops_assets.data.labels.maturity_frames import seconds

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_OF_KEY = "_labels_of_key"


def history_type(contract: Contract) -> str:
    """Return the SQL type of `_label_history`."""
    clock = "timestamp" if contract.column(contract.event_time).type == "timestamp" else "double"
    return f"array<struct<known_at:{clock},arrived:timestamp,label:bigint>>"


def own_label(table: DataFrame, contract: Contract) -> Column:
    """Return the label that each row was delivered with; null where a label of before this column took its place."""
    without_late = F.col(contract.target)
    if LABEL_KNOWN_AT in table.columns:
        without_late = F.when(F.col(LABEL_KNOWN_AT).isNull(), without_late)
    return F.coalesce(F.col(OWN_LABEL), without_late) if OWN_LABEL in table.columns else without_late


def in_force(history: Column, contract: Contract) -> Column:
    """Return the label of a history that counts, as a struct with `known_at` and `label`; null for an empty one."""
    if _by_entity(contract):
        first = F.get(history, F.lit(0))["known_at"]
        history = F.filter(history, lambda label: label["known_at"] == first)
    return F.get(history, F.size(history) - 1)


def label_columns(history: Column, own: Column, contract: Contract) -> dict[str, Column]:
    """Return the target and the label columns of a row that has these labels, by name.

    Args:
        history: Its late labels, in the order of `_label_history`.
        own: The label it was delivered with.
        contract: Names.
    """
    chosen = in_force(history, contract)
    target = contract.column(contract.target)
    columns = {
        target.name: F.coalesce(chosen["label"], own),
        LABEL_KNOWN_AT: chosen["known_at"],
        OWN_LABEL: own,
        LABEL_HISTORY: history,
    }
    described = {target.name: target.description, **LABEL_COLUMNS, **HISTORY_COLUMNS}
    return {name: column.alias(name, metadata={"comment": described[name]}) for name, column in columns.items()}


def labelled(rows: DataFrame, ledger: DataFrame, contract: Contract) -> DataFrame:
    """Return incoming rows with the labels that arrived before them.

    Args:
        rows: Rows of the raw table without its label columns.
        ledger: The label table.
        contract: Names.

    Returns:
        The same rows. Where a label exists, it replaces the target. `_label_known_at`, `_own_label` and
        `_label_history` follow the other columns.
    """
    columns = label_columns(F.col(_OF_KEY), own_label(rows, contract), contract)
    kept = [columns.pop(name) if name == contract.target else F.col(name) for name in rows.columns]
    return _with_history(rows, ledger, contract).select(*kept, *columns.values())


def changes(table: DataFrame, ledger: DataFrame, contract: Contract) -> DataFrame:
    """Return the rows of the raw table whose labels are not those of the label table.

    Args:
        table: The raw table, with all label columns.
        ledger: The label table.
        contract: Names.

    Returns:
        The place of each such row (`_batch_id`, `_row_number`), its new target and its new label columns.
    """
    columns = label_columns(F.col(_OF_KEY), own_label(table, contract), contract)
    found = _with_history(table, ledger, contract)
    behind = found.where(~F.col(_OF_KEY).eqNullSafe(F.col(LABEL_HISTORY)) | _has_unfounded_label())
    return behind.select(BATCH_ID, ROW_NUMBER, *columns.values())


def _has_unfounded_label() -> Column:
    """Return whether a row got a label before histories were kept, and none of the label table is about it today."""
    return F.col(_OF_KEY).isNull() & F.col(LABEL_KNOWN_AT).isNotNull()


def count_keys(ledger: DataFrame, contract: Contract) -> DataFrame:
    """Return one row with the number of keys that have a label (`keys`), and of those last called fraud (`frauds`)."""
    last = F.max(F.struct(KNOWN_AT, INGESTED_AT, ROW_NUMBER, LABEL))[LABEL].alias(LABEL)
    latest = _good(ledger).groupBy(require_labels(contract).key).agg(last)
    return latest.agg(F.count(F.lit(1)).alias("keys"), F.sum(LABEL).alias("frauds"))


def waiting(table: DataFrame | None, ledger: DataFrame, contract: Contract) -> int:
    """Return how many keys have labels, and none about a row of the raw table; `table` is None if there is no table."""
    key = require_labels(contract).key
    keys = _good(ledger).select(key).distinct()
    if table is None:
        return keys.count()
    met = _with_history(table, ledger, contract).where(F.col(_OF_KEY).isNotNull()).select(key).distinct()
    return keys.join(met, key, "left_anti").count()


def _good(ledger: DataFrame) -> DataFrame:
    return ledger.where(F.size(REASONS) == 0)


def _by_entity(contract: Contract) -> bool:
    return contract.labels is not None and contract.labels.key != contract.key


def _with_history(rows: DataFrame, ledger: DataFrame, contract: Contract) -> DataFrame:
    """Return the rows with their labels of today in a column `_labels_of_key`, null for rows without one."""
    named = require_labels(contract)
    in_order = F.array_sort(F.collect_list(F.struct(KNOWN_AT, INGESTED_AT, ROW_NUMBER, LABEL)))
    kept = F.transform(
        in_order,
        lambda label: F.struct(
            label[KNOWN_AT].alias("known_at"), label[INGESTED_AT].alias("arrived"), label[LABEL].alias("label")
        ),
    )
    of_key = _good(ledger).groupBy(F.col(named.key).alias("_key")).agg(kept.cast(history_type(contract)).alias(_OF_KEY))
    joined = rows.join(of_key, F.col(named.key) == F.col("_key"), "left").drop("_key")
    if named.window_days is None:
        return joined
    window = named.window_days * SECONDS_PER_DAY
    on_calendar = contract.column(contract.event_time).type == "timestamp"
    event = seconds(F.col(contract.event_time), timestamp=on_calendar)

    def local(time: Column) -> Column:
        """Return a time on the clock of the contract's zone: a window is in its days, which may have 23 or 25 hours."""
        shifted = F.from_utc_timestamp(time, contract.time_zone) if on_calendar else time
        return seconds(shifted, timestamp=on_calendar)

    def covers(label: Column) -> Column:
        known = label["known_at"]
        days = local(known) - local(F.col(contract.event_time))
        return (seconds(known, timestamp=on_calendar) >= event) & (days < F.lit(window))

    about = F.filter(F.col(_OF_KEY), covers)
    return joined.withColumn(_OF_KEY, F.when(F.size(about) > 0, about))
