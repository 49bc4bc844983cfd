"""All rows that a split could have used, whichever set they are in or none, from the raw table that was split.

What belongs here: finding them again. What does not: which rows are mature and which labels were known when
(`data/labels`), the sets themselves (`split_sets`).

A split by time leaves out the last days before each cut, and gives the sets before it the labels that were known at the
cut: so a model is chosen and judged as if the cut were now. Once that is done, the rows of the gaps are as good as any,
and labels that came later are better than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.data.columns import SET_COLUMN
from mlops_assets.lakehouse.replaced_rows import replaced_rows
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import AS_OF, RAW_VERSION, SPLIT_SPEC

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse

_KNOWN = "known"


@dataclass(frozen=True)
class MatureRows:
    """Rows with a mature label, with the contract's and the platform's columns.

    Attributes:
        now: All of them, with the labels known at the moment of the split.
        before_test: Those known when the test set begins, with the labels known then: training and validation set and
            what lies between. After a stratified split, the two sets.
        gap: Those of `before_test` that lie between training and validation set; None after a stratified split.
        earlier_frauds: Frauds of `now` from before the test set, those of both gaps too; None after a stratified split.
    """

    now: DataFrame
    before_test: DataFrame
    gap: DataFrame | None
    earlier_frauds: DataFrame | None


def mature_rows(lakehouse: Lakehouse, contract: Contract, sets: Mapping[str, TableVersion]) -> MatureRows:
    """Return the rows that the split of these sets could have used.

    Args:
        lakehouse: The database.
        contract: Names and roles of the columns.
        sets: The sets of one split, by name.

    Raises:
        StorageError: The raw table can't be read, or the files of the version that was split are gone.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.labels.as_known import labels_known_by
    from mlops_assets.data.labels.maturity_frames import event_seconds

    now = mature_now(lakehouse, contract, sets["test"])
    train, validation, test = (lakehouse.read(sets[n].name, sets[n].version) for n in ("train", "validation", "test"))
    if sets["test"].metadata[SPLIT_SPEC]["strategy"] != "time":
        return MatureRows(now, train.unionByName(validation), None, None)
    time = event_seconds(contract)
    (begin,) = test.agg(F.min(time)).collect()[0]
    first, last = validation.agg(F.min(time), F.max(time)).collect()[0]
    (fitted,) = train.agg(F.max(time)).collect()[0]
    before = now.where(time <= F.lit(last)).withColumn(SET_COLUMN, F.lit(_KNOWN))
    before = labels_known_by(before, replaced_rows(lakehouse), contract, {_KNOWN: begin})
    before = before.where(F.col(SET_COLUMN) == _KNOWN).drop(SET_COLUMN)
    return MatureRows(
        now,
        before,
        before.where((time > F.lit(fitted)) & (time < F.lit(first))),
        now.where((F.col(contract.target) == 1) & (time < F.lit(begin))),
    )


def mature_now(lakehouse: Lakehouse, contract: Contract, test: TableVersion) -> DataFrame:
    """Return all rows that the split of a test set could have used, as `MatureRows.now`.

    Raises:
        StorageError: The raw table can't be read, or the files of the version that was split are gone.
    """
    from mlops_assets.data.labels.as_known import known_at
    from mlops_assets.data.labels.maturity_frames import left_out, maturity_of

    rows, replaced = split_version(lakehouse, test), replaced_rows(lakehouse)
    maturity, as_of = None, test.metadata[AS_OF]
    if as_of is not None:
        maturity = maturity_of(rows, contract, None, replaced)
        if maturity is None or maturity.as_of != as_of:  # the split looked back
            maturity = maturity_of(rows, contract, float(as_of), replaced)
            if maturity is not None:
                rows = known_at(rows, replaced, contract, maturity)
    return rows.where(left_out(contract, maturity).isNull())


def split_version(lakehouse: Lakehouse, table: TableVersion) -> DataFrame:
    """Return the version of the raw table that a set was cut from.

    Raises:
        StorageError: It can't be read, or its files are gone.
    """
    version = int(table.metadata[RAW_VERSION])
    lakehouse.require_files(
        RAW,
        version,
        fix=f"materialize {', '.join(SET_TABLES.values())} again: they are cut from the newest version; `upkeep` keeps "
        "a week of versions, and those that registered models are pinned to",
    )
    return lakehouse.read(RAW, version)
