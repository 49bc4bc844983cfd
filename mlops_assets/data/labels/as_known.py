"""What was known at an earlier moment, as Spark frames: which rows had arrived, in which version, with which labels.

What belongs here: Spark expressions for it. What does not: from which age on a label can be trusted
(`maturity_frames`), which of several labels counts (`labels_frames`).

- Rows are known from their arrival on, in the version that had arrived: a row that was corrected since has the values
  and the label that it had. Where arrivals are not on record at that moment (the data has a clock of its own, or a
  history was loaded later than it happened), the event time stands for the arrival (`Maturity.by_arrival`).
- Labels are known from `known_at` on and, where arrivals are on record, not before they arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, LABEL_HISTORY, LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.merge_frames import last_of_each_key
from mlops_assets.data.labels.labels_frames import history_type, label_columns, own_label
from mlops_assets.data.labels.maturity import UNLABELLED, Maturity
from mlops_assets.data.labels.maturity_frames import seconds

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_EARLIER = "_earlier"


def known_at(table: DataFrame, replaced: DataFrame | None, contract: Contract, maturity: Maturity) -> DataFrame:
    """Return the rows of the raw table in the version and with the labels known at the moment of `maturity`.

    Args:
        table: A version of the raw table.
        replaced: Rows that later writes of their key replaced; None if there are none.
        contract: Names.
        maturity: The moment.

    Returns:
        As many rows. Rows that had not arrived are still there: `left_out` says so of them.
    """
    if maturity.by_arrival and replaced is not None and contract.key is not None:
        moment = F.lit(maturity.as_of)
        arrived = seconds(F.col(INGESTED_AT), timestamp=True) <= moment
        before = last_of_each_key(replaced.where(arrived), contract.key, contract)
        since = table.where(~arrived).select(contract.key)
        before = before.join(since, contract.key, "left_semi")
        others = table.join(before.select(contract.key), contract.key, "left_anti")
        table = others.unionByName(before, allowMissingColumns=True).select(*table.columns)
    if LABEL_KNOWN_AT not in table.columns:
        return table
    history = _known(table, contract, F.lit(maturity.as_of), arrivals=maturity.by_arrival)
    return _with(table, table.columns, label_columns(history, own_label(table, contract), contract))


def labels_known_by(
    table: DataFrame, replaced: DataFrame | None, contract: Contract, moments: Mapping[str, float]
) -> DataFrame:
    """Return the rows of sets with the labels that were known at a moment of each set.

    A label that a corrected delivery brought later gives way to the one that the row was delivered with before.

    Args:
        table: Rows with a column `_set`.
        replaced: Rows that later writes of their key replaced; None if there are none.
        contract: Names.
        moments: The moment by the name of the set, in seconds on the clock of the event time; the rows of other sets
            keep their labels.

    Returns:
        As many rows; one that had no label at the moment of its set is `unlabelled` instead of in the set.
    """
    moment = F.lit(None).cast("double")
    for name, at in moments.items():
        moment = F.when(F.col(SET_COLUMN) == name, F.lit(at)).otherwise(moment)
    own, columns = own_label(table, contract), table.columns
    if replaced is not None and contract.key is not None and _on_calendar(contract):
        table = _with_earlier(table, replaced, contract, contract.key, moments)
        corrected = (seconds(F.col(INGESTED_AT), timestamp=True) > moment) & F.col(_EARLIER).isNotNull()
        own = F.when(corrected, F.col(_EARLIER)["label"]).otherwise(own)
    if LABEL_KNOWN_AT in columns:
        labels = label_columns(_known(table, contract, moment, arrivals=False), own, contract)
    else:
        labels = {contract.target: own}
    bare = moment.isNotNull() & labels[contract.target].isNull()
    labels[SET_COLUMN] = F.when(bare, F.lit(UNLABELLED)).otherwise(F.col(SET_COLUMN))
    return _with(table, columns, labels)


def _with_earlier(
    table: DataFrame, replaced: DataFrame, contract: Contract, key: str, moments: Mapping[str, float]
) -> DataFrame:
    """Return the rows with the label that an earlier version of them had at the moment of their set, as a struct."""
    arrived = seconds(F.col(INGESTED_AT), timestamp=True)
    label = F.struct(own_label(replaced, contract).alias("label")).alias(_EARLIER)
    versions = [
        last_of_each_key(replaced.where(arrived <= F.lit(at)), key, contract).select(
            key, F.lit(name).alias(SET_COLUMN), label
        )
        for name, at in moments.items()
    ]
    return table.join(reduce(lambda left, right: left.union(right), versions), [key, SET_COLUMN], "left")


def _known(table: DataFrame, contract: Contract, moment: Column, *, arrivals: bool) -> Column:
    """Return the late labels known at a moment (seconds; all of them where it is null), null if there are none."""
    one = F.struct(
        F.col(LABEL_KNOWN_AT).alias("known_at"),
        F.lit(None).cast("timestamp").alias("arrived"),
        F.col(contract.target).alias("label"),
    )
    # A version from before histories were kept has one label per row; nothing says when it arrived.
    history = F.when(F.col(LABEL_KNOWN_AT).isNotNull(), F.array(one)).cast(history_type(contract))
    if LABEL_HISTORY in table.columns:
        history = F.coalesce(F.col(LABEL_HISTORY), history)

    def known(label: Column) -> Column:
        by_then = seconds(label["known_at"], timestamp=_on_calendar(contract)) <= moment
        if arrivals:
            arrived = seconds(label["arrived"], timestamp=True) <= moment
            by_then = by_then & F.coalesce(arrived, F.lit(True))
        return F.coalesce(by_then, F.lit(True))

    left = F.filter(history, known)
    return F.when(F.size(left) > 0, left)


def _with(table: DataFrame, names: Sequence[str], changed: Mapping[str, Column]) -> DataFrame:
    """Return columns of the table in this order, some of them changed."""
    return table.select(*[changed.get(name, F.col(name)).alias(name) for name in names])


def _on_calendar(contract: Contract) -> bool:
    return contract.column(contract.event_time).type == "timestamp"
