"""From the label table to the raw table: labels for rows already in it, and for incoming rows.

What belongs here: when labels have to be merged, and the commits that takes. What does not: which label counts
(`labels_frames`), the label table itself (`label_store`), the order of the other commits (`transactions`).
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
    """Merge labels into rows that came in before them; add the column `_label_known_at` if the raw table lacks it.

    This also finishes what a killed process left undone: the raw table's commit metadata says up to which version of
    the label table its labels were merged.

    Args:
        lakehouse: The database.
        contract: Names the columns.
        snapshot: The tables.
        metadata: Metadata for every commit made here.

    Returns:
        The tables afterwards, with `labels` and `labelled` set.

    Raises:
        ContractError: The raw table has late labels, but the contract has no `labels`.
        StaleBaseError: Someone else is writing.
        StorageError: The raw table has late labels, but the table they came from is gone.
    """
    from mlops_assets.data.labels.labels_frames import is_about, is_update, latest_labels, updates

    raw = snapshot.raw
    has_column = raw is not None and LABEL_KNOWN_AT in lakehouse.read(RAW, raw.version).columns
    if contract.labels is None and not has_column:
        return snapshot
    ledger = _label_table(lakehouse, contract, expected=has_column)
    if ledger is None:
        return snapshot
    snapshot = replace(snapshot, labels=ledger)
    if raw is None or raw.metadata.get(LABELS_VERSION) == ledger.rows_version:
        return snapshot
    if not has_column:
        column = (known_at_type(contract).type, LABEL_COLUMNS[LABEL_KNOWN_AT])
        raw = lakehouse.add_columns(raw, {LABEL_KNOWN_AT: column}, metadata)
        snapshot = replace(snapshot, raw=raw)
    latest = latest_labels(lakehouse.read(LABELS, ledger.version), contract)
    changes = updates(lakehouse.read(RAW, raw.version), latest, contract)
    rows = changes.count()
    if not rows:  # a commit that changes nothing would make the sets be split again
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
    """Return incoming rows with the labels that the label table has for them; see `labels_frames.labelled`."""
    from mlops_assets.data.labels.labels_frames import labelled, latest_labels

    if snapshot.labels is None:
        return rows
    return labelled(rows, latest_labels(lakehouse.read(LABELS, snapshot.labels.version), contract), contract)


def _label_table(lakehouse: Lakehouse, contract: Contract, *, expected: bool) -> TableVersion | None:
    if contract.labels is None:
        raise ContractError(
            "the table has late labels, but the contract has no `labels` any more",
            where=lakehouse.location(RAW),
            fix="put `labels` back into the contract, or set MLOPS_DATABASE to a new database",
        )
    ledger = LabelStore(lakehouse, contract).current()
    if ledger is None and expected:
        raise StorageError(
            f"{RAW} has late labels, but the table they came from is gone",
            where=lakehouse.location(LABELS),
            fix=f"restore the table, or materialize `{LABELS}` again from all label files",
        )
    return ledger
