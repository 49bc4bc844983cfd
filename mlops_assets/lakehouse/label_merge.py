"""From the label table to the raw table: labels for rows that are there, and for rows on their way in.

What belongs here: when that is due, and the commits it takes. What does not: which label counts (`labels_frames`),
the label table itself (`label_store`), the order of the other commits (`transactions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import KNOWN_AT, LABEL, LABEL_COLUMNS, LABEL_KNOWN_AT
from mlops_assets.data.labels.labels import known_at_type
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import LABELS, RAW, Snapshot
from mlops_assets.lineage import LABELS_VERSION

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


def merge_labels(lakehouse: Lakehouse, contract: Contract, snapshot: Snapshot, metadata: Mapping[str, Any]) -> Snapshot:
    """Bring labels to the rows that came in before them; the column for it is added where it is missing.

    Whatever a killed process has left undone is done here: the note of a commit says up to which version of the label
    table the raw table has the labels.

    Args:
        lakehouse: Where the tables are.
        contract: Names the columns.
        snapshot: The tables.
        metadata: What any commit is to note.

    Returns:
        The tables afterwards, with `labels` and `labelled`.

    Raises:
        ContractError: The raw table has labels, and the contract does not tell about them.
        StaleBaseError: Someone else is writing.
        StorageError: The raw table has labels, and the table they came from is gone.
    """
    from mlops_assets.data.labels.labels_frames import is_about, is_update, latest_labels, updates

    raw = snapshot.raw
    there = raw is not None and LABEL_KNOWN_AT in lakehouse.read(RAW, raw.version).columns
    if contract.labels is None and not there:
        return snapshot
    ledger = _label_table(lakehouse, contract, expected=there)
    if ledger is None:
        return snapshot
    snapshot = replace(snapshot, labels=ledger)
    if raw is None or raw.metadata.get(LABELS_VERSION) == ledger.rows_version:
        return snapshot
    if not there:
        raw = _add_column(lakehouse, contract, raw, metadata)
        snapshot = replace(snapshot, raw=raw)
    latest = latest_labels(lakehouse.read(LABELS, ledger.version), contract)
    changes = updates(lakehouse.read(RAW, raw.version), latest, contract)
    rows = changes.count()
    if not rows:  # a commit that changes nothing would have the sets cut anew
        return snapshot
    written = lakehouse.update(
        RAW,
        changes.distinct(),
        on=is_about(contract),
        when=is_update(contract),
        values={contract.target: LABEL, LABEL_KNOWN_AT: KNOWN_AT},
        base=raw,
        metadata={**metadata, LABELS_VERSION: ledger.rows_version},
    )
    return replace(snapshot, raw=written, labelled=written.rows_written)


def with_labels(lakehouse: Lakehouse, contract: Contract, rows: DataFrame, snapshot: Snapshot) -> DataFrame:
    """Return rows on their way in with the labels that are there; see `labels_frames.labelled`."""
    from mlops_assets.data.labels.labels_frames import labelled, latest_labels

    if snapshot.labels is None:
        return rows
    return labelled(rows, latest_labels(lakehouse.read(LABELS, snapshot.labels.version), contract), contract)


def _label_table(lakehouse: Lakehouse, contract: Contract, *, expected: bool) -> TableVersion | None:
    if contract.labels is None:
        raise ContractError(
            "the table has labels that came late, and the contract has no `labels` any more",
            where=lakehouse.location(RAW),
            fix="put `labels` back into the contract, or set MLOPS_DATABASE to a new database",
        )
    ledger = LabelStore(lakehouse, contract).current()
    if ledger is None and expected:
        raise StorageError(
            f"the labels that {RAW} has are gone",
            where=lakehouse.location(LABELS),
            fix=f"restore the table, or materialize `{LABELS}` from all label files again",
        )
    return ledger


def _add_column(
    lakehouse: Lakehouse, contract: Contract, raw: TableVersion, metadata: Mapping[str, Any]
) -> TableVersion:
    """Add the column in a commit without rows."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    described = {"comment": LABEL_COLUMNS[LABEL_KNOWN_AT]}
    column = F.lit(None).cast(known_at_type(contract).type).alias(LABEL_KNOWN_AT, metadata=described)
    rows = lakehouse.read(RAW, raw.version).where(F.lit(False)).select("*", column)
    return lakehouse.append(RAW, rows, base=raw, metadata=metadata, new_columns=True)
