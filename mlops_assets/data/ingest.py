"""From a source to Parquet files that Spark can append: one pass over the input, one file in memory at a time.

What belongs here: reading batches, conforming them, leaving out what is known, collecting findings. What does not:
the verdict on the findings (`validation`), the table (resources), Dagster.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.data.conform import ROW_NUMBER, conform
from mlops_assets.data.validation import LoadFindings

if TYPE_CHECKING:
    from mlops_assets.data.contract import Contract
    from mlops_assets.data.sources.base import TransactionSource

BATCH_ID = "_batch_id"
SOURCE = "_source"
INGESTED_AT = "_ingested_at"
TECHNICAL_COLUMNS: dict[str, str] = {
    ROW_NUMBER: "Position of the row in its input, from 0.",
    BATCH_ID: "SHA-256 of the input's content: the same content is loaded once, whatever its name.",
    SOURCE: "The input as it was named when it came in.",
    INGESTED_AT: "When the row was loaded (UTC).",
}


@dataclass
class StagedLoad:
    """What one look at the source brought.

    Attributes:
        findings: Counts over all that was read, known or new: they describe the source, not the table.
        new: Origin of each new batch, by batch id.
        known: Origins whose content the table has already.
        new_rows: Rows of the new batches.
    """

    findings: LoadFindings = field(default_factory=LoadFindings)
    new: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    new_rows: int = 0


def stage_load(source: TransactionSource, contract: Contract, folder: Path, known: Collection[str]) -> StagedLoad:
    """Write the source's new batches as Parquet files into `folder`.

    Args:
        source: Where the rows come from.
        contract: What they must look like.
        folder: Empty folder for one Parquet file a batch: the contract's columns, then `_row_number`, `_batch_id`
            and `_source`.
        known: Batch ids that the table holds.

    Raises:
        SourceError: The input can't be read.
        SchemaMismatchError: A batch has other columns than the contract.
    """
    load = StagedLoad()
    for batch in source.batches():
        conformed = conform(batch.table, contract, where=batch.origin)
        load.findings.add(conformed, contract, origin=batch.origin)
        if batch.content_hash in known or batch.content_hash in load.new:
            load.known.append(batch.origin)
            continue
        rows = conformed.table.num_rows
        table = conformed.table.append_column(BATCH_ID, _constant(batch.content_hash, rows))
        table = table.append_column(SOURCE, _constant(batch.origin, rows))
        pq.write_table(table, folder / f"{len(load.new):05d}.parquet", compression="lz4")
        load.new[batch.content_hash] = batch.origin
        load.new_rows += rows
    return load


def _constant(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)
