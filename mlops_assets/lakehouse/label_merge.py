"""From the label table to the raw table: labels for rows already in it, and for incoming rows.

What belongs here: when labels have to be merged, and the commits that takes. What does not: which label counts
(`labels_frames`), the label table itself (`label_store`), the order of the other commits (`transactions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import (
    BATCH_ID,
    HISTORY_COLUMNS,
    LABEL_COLUMNS,
    LABEL_HISTORY,
    LABEL_KNOWN_AT,
    OWN_LABEL,
    ROW_NUMBER,
)
from mlops_assets.data.labels.labels import known_at_type
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.label_store import LabelStore
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.transaction_tables import LABELS, RAW, Snapshot
from mlops_assets.lineage import LABEL_WINDOW, LABELS_VERSION

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract


def merge_labels(lakehouse: Lakehouse, contract: Contract, snapshot: Snapshot, metadata: Mapping[str, Any]) -> Snapshot:
    """Merge labels into rows that came in before them; add the label columns that the raw table lacks.

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
    from mlops_assets.data.labels.labels_frames import changes

    raw = snapshot.raw
    present = [] if raw is None else lakehouse.read(RAW, raw.version).columns
    has_labels = LABEL_KNOWN_AT in present
    if contract.labels is None and not has_labels:
        return snapshot
    ledger = _label_table(lakehouse, contract, expected=has_labels)
    if ledger is None:
        return snapshot
    snapshot = replace(snapshot, labels=ledger)
    if raw is None:
        return snapshot
    missing = [name for name in LABEL_COLUMNS | HISTORY_COLUMNS if name not in present]
    if not missing and merged_labels(contract, ledger).items() <= raw.metadata.items():
        return snapshot
    if missing:
        columns = _new_columns(contract)
        raw = lakehouse.add_columns(raw, {name: columns[name] for name in missing}, metadata)
        snapshot = replace(snapshot, raw=raw)
    behind = changes(lakehouse.read(RAW, raw.version), lakehouse.read(LABELS, ledger.version), contract)
    if behind.isEmpty():  # a commit that changes nothing would make the sets be split again
        return snapshot
    written = lakehouse.update(
        RAW,
        behind,
        on=" AND ".join(f"old.{quoted(name)} = new.{quoted(name)}" for name in (BATCH_ID, ROW_NUMBER)),
        when="TRUE",
        values={name: name for name in (contract.target, *LABEL_COLUMNS, *HISTORY_COLUMNS)},
        base=raw,
        metadata={**metadata, **merged_labels(contract, ledger)},
    )
    return replace(snapshot, raw=written, labelled=written.rows_written)


def merged_labels(contract: Contract, ledger: TableVersion) -> dict[str, Any]:
    """Return the metadata of a commit after which the raw table has all labels of the label table."""
    window = None if contract.labels is None else contract.labels.window_days
    return {LABELS_VERSION: ledger.rows_version, LABEL_WINDOW: window}


def with_labels(lakehouse: Lakehouse, contract: Contract, rows: DataFrame, snapshot: Snapshot) -> DataFrame:
    """Return incoming rows with the labels that the label table has for them; see `labels_frames.labelled`."""
    from mlops_assets.data.labels.labels_frames import labelled

    if snapshot.labels is None:
        return rows
    return labelled(rows, lakehouse.read(LABELS, snapshot.labels.version), contract)


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


def _new_columns(contract: Contract) -> dict[str, tuple[str, str]]:
    """Return type and description of the label columns; rows that have labels get their history from the next merge."""
    from mlops_assets.data.labels.labels_frames import history_type

    types = {LABEL_KNOWN_AT: known_at_type(contract).type, OWN_LABEL: "long", LABEL_HISTORY: history_type(contract)}
    return {name: (types[name], description) for name, description in (LABEL_COLUMNS | HISTORY_COLUMNS).items()}
