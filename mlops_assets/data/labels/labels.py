"""Labels that come later than their transactions: from label files to rows of the label table.

What belongs here: what a row of a label file must look like, one pass over the files, the columns of the label table.
What does not: which of several labels counts and which transactions it is about (`labels_frames`), when a label can be
trusted (`maturity`), committing (`lakehouse`).

The label table is a ledger: every row, good or bad, is appended once and never changed. So files may be delivered
again, under other names and in any order, and a label may come before its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.columns import (
    KNOWN_AT,
    LABEL,
    ORIGINAL,
    REASONS,
    ROW_NUMBER,
    TECHNICAL_COLUMNS,
)
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.conform import conform_column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.contract.diff import Difference, as_markdown
from mlops_assets.data.ingest.new_inputs import StagedInputs, origin_columns, stage_new
from mlops_assets.data.ingest.quarantine import count_reasons, set_aside
from mlops_assets.errors import ContractError, SchemaMismatchError, SourceError

if TYPE_CHECKING:
    from mlops_assets.data.sources.base import SourceBatch, TransactionSource

FROM_THE_FUTURE = "from_the_future"
LABELS_ACCOUNTED = "labels_accounted"
LABEL_CHECKS: dict[str, str] = {
    LABELS_ACCOUNTED: "Label rows in = accepted + set aside + already known.",
}
# About the files, not about the table: blocks nothing that follows.
LABEL_FILES_READABLE = "label_files_readable"


def require_labels(contract: Contract) -> LabelColumns:
    """Return the contract's columns of label files.

    Raises:
        ContractError: The contract has no `labels`.
    """
    if contract.labels is None:
        raise ContractError(
            "there are labels to merge, but the contract has no `labels`",
            where=f"contract {contract.name}",
            fix="name the columns of the label files under `labels` (key, label, known_at), or unset MLOPS_LABELS",
        )
    return contract.labels


def known_at_type(contract: Contract) -> Column:
    """Return the column that says when labels became known: timestamps or seconds, like the event time.

    Raises:
        ContractError: See `require_labels`.
    """
    on_calendar = contract.column(contract.event_time).type == "timestamp"
    return Column(name=require_labels(contract).known_at, type="timestamp" if on_calendar else "double")


def label_table_columns(contract: Contract) -> dict[str, str]:
    """Return the columns of the label table with their descriptions, in order.

    Raises:
        ContractError: See `require_labels`.
    """
    return {
        require_labels(contract).key: "Which transactions the label is about.",
        LABEL: "1 = fraud, 0 = genuine.",
        KNOWN_AT: "When the label became known, on the clock of the transactions.",
        REASONS: "What is wrong with the row, as <reason>:<column>; empty for a label that counts.",
        ORIGINAL: "Of a row with something wrong, its values as text, by column.",
        **TECHNICAL_COLUMNS,
    }


def stage_labels(
    source: TransactionSource,
    contract: Contract,
    folder: Path,
    known: Collection[str],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> StagedInputs:
    """Write the rows of new label files as Parquet files into `folder`, one per file.

    Args:
        source: The label files.
        contract: Names their columns.
        folder: Empty folder; the files have the columns of `label_table_columns`.
        known: Batch ids that were loaded before.
        now: The clock; each batch gets a distinct timestamp.

    Returns:
        The account of the files; bad rows are staged too, with their reasons. A file with too many of them is refused.

    Raises:
        SourceError: The source as a whole can't be read.
        ContractError: See `require_labels`.
    """
    staged = StagedInputs()
    stage_new(source, known, staged, lambda batch, arrived: _stage(batch, contract, folder, staged, arrived), now)
    return staged


def _stage(batch: SourceBatch, contract: Contract, folder: Path, staged: StagedInputs, arrived: datetime) -> None:
    rows = read_labels(batch.table, contract, arrived, where=batch.origin)
    bad = rows.filter(pc.greater(pc.list_value_length(rows.column(REASONS)), 0))
    reasons = count_reasons(bad)
    if bad.num_rows > contract.max_bad_share * rows.num_rows:
        listed = ", ".join(f"{code} ({count:,} rows)" for code, count in reasons.items())
        raise SourceError(
            f"{bad.num_rows:,} of {rows.num_rows:,} label rows are bad: {listed}",
            where=batch.origin,
            fix=f"fix the file; at most {contract.max_bad_share:.2%} of its rows may be set aside (`max_bad_share`)",
        )
    for name, value in origin_columns(batch.origin, batch.content_hash, arrived).items():
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    pq.write_table(rows, folder / f"{len(staged.records):05d}.parquet", compression="lz4")
    accepted = rows.num_rows - bad.num_rows
    staged.add(
        batch.origin,
        batch.content_hash,
        contract,
        arrived,
        kind="labels",
        rows=rows.num_rows,
        accepted=accepted,
        bad=bad.num_rows,
        reasons=reasons,
    )


def read_labels(raw: pa.Table, contract: Contract, arrived: datetime, *, where: str) -> pa.Table:
    """Return the rows of a label file in the form of the label table.

    A row is bad if one of its three values is missing or can't be parsed, if the label is neither 0 nor 1, if the key
    is out of the contract's range, or if the label became known after the file arrived.

    Args:
        raw: The file, column names in lower case.
        contract: Names the columns.
        arrived: When the file arrived.
        where: The file, for errors.

    Returns:
        Key (contract's type), `_label` (int64), `_known_at` (UTC microseconds, or double seconds), `reasons` (list of
        codes, empty for a good row), `original` (map, null for a good row), `_row_number` (int64); good rows first.

    Raises:
        SchemaMismatchError: A column is missing.
        ContractError: See `require_labels`.
    """
    named = require_labels(contract)
    key = contract.column(named.key).model_copy(update={"nullable": False})
    known_at = known_at_type(contract)
    columns = (key, Column(name=named.label, type="long"), known_at)
    missing = [column for column in columns if column.name not in raw.column_names]
    if missing:
        present = ", ".join(raw.column_names)
        raise SchemaMismatchError(
            f"the label file lacks {', '.join(column.name for column in missing)}; it has {present}",
            where=where,
            fix="load the right file, or name its columns under `labels` in the contract",
            diff=as_markdown([Difference(c.name, "missing", c.type) for c in missing], wanted="labels", found="input"),
        )
    faults: dict[str, pa.ChunkedArray] = {}
    values: list[pa.ChunkedArray] = []
    for column in columns:
        typed, bad = conform_column(raw.column(column.name), column, binary=column.name == named.label)
        values.append(typed)
        faults |= {f"{reason}:{column.name}": mask for reason, mask in bad.items()}
    if known_at.type == "timestamp":
        late = pc.fill_null(pc.greater(values[2], pa.scalar(arrived, values[2].type)), False)
        if pc.any(late).as_py():
            faults[f"{FROM_THE_FUTURE}:{known_at.name}"] = late
    rows = pa.table(values, names=[key.name, LABEL, KNOWN_AT])
    aside = set_aside(raw, faults, {column.name: column.type for column in columns})
    numbers = pa.array(np.arange(raw.num_rows, dtype=np.int64))
    good = numbers if not faults else numbers.filter(pc.invert(reduce(pc.or_, faults.values())))
    without_faults = pa.table(
        {
            REASONS: pa.ListArray.from_arrays(np.zeros(len(good) + 1, dtype=np.int32), pa.array([], pa.string())),
            ORIGINAL: pa.nulls(len(good), pa.map_(pa.string(), pa.large_string())),
            ROW_NUMBER: good,
        }
    )
    faulty = aside.select(without_faults.column_names).cast(without_faults.schema)
    described = pa.concat_tables([without_faults, faulty])
    rows = rows.take(described.column(ROW_NUMBER))
    for name in described.column_names:
        rows = rows.append_column(name, described.column(name))
    return rows


def labels_accounted(staged: StagedInputs, written: int) -> CheckOutcome:
    """Return the verdict of the check of `LABEL_CHECKS`: did every row that was read end up in the table, once?

    Args:
        staged: The staged files.
        written: Rows written to the label table, by its log.
    """
    accepted = sum(record.accepted for record in staged.records)
    aside = sum(record.quarantined for record in staged.records)
    total = staged.known_rows + sum(record.rows for record in staged.records)
    missing = total - written - staged.known_rows
    text = (
        f"{total:,} label rows in = {accepted:,} accepted + {aside:,} set aside + {staged.known_rows:,} already known"
    )
    if missing:
        text += f": {abs(missing):,} rows were {'lost' if missing > 0 else 'duplicated'}; report it with the run's log"
    counts: dict[str, str | int | float] = {
        "rows_in": total,
        "accepted": accepted,
        "set_aside": aside,
        "already_known": staged.known_rows,
    }
    return CheckOutcome(LABELS_ACCOUNTED, passed=not missing, description=text, details=counts)


def label_files_readable(staged: StagedInputs) -> CheckOutcome:
    """Return whether every label file can be read, has the columns that the contract names, and few bad rows."""
    summary = "; ".join(f"{error.where}: {error.what}" for error in staged.errors)
    return CheckOutcome(
        LABEL_FILES_READABLE,
        passed=not staged.errors,
        description=summary or f"{len(staged.records) + len(staged.known):,} files were read",
        details={"files_refused": len(staged.errors)},
    )
