"""One pass over a source: which of its inputs are new, and what became of each.

What belongs here: reading batches one at a time, skipping known ones, and an account of all of them. What does not:
what a row must look like, and the files that are written for it (`staging` for transactions, `data/labels` for labels).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT, SOURCE
from mlops_assets.data.ingest.manifest import BatchRecord
from mlops_assets.errors import SchemaMismatchError, SourceError

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import SourceBatch, TransactionSource


@dataclass
class StagedInputs:
    """What became of the inputs of a source.

    Attributes:
        records: New inputs to load.
        known: Origins whose content was loaded before.
        known_rows: Rows of those inputs.
        errors: Inputs that can't be read or can't be used: one error each.
        reasons: Rows set aside per reason code, in the inputs to load.
    """

    records: list[BatchRecord] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    known_rows: int = 0
    errors: list[SourceError | SchemaMismatchError] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        origin: str,
        content_hash: str,
        contract: Contract,
        arrived: datetime,
        *,
        kind: str,
        rows: int,
        accepted: int,
        bad: int,
        reasons: Mapping[str, int],
    ) -> None:
        """Record an input to load.

        Args:
            origin: The input.
            content_hash: Its identity.
            contract: The contract that it was checked against.
            arrived: When it arrived.
            kind: See `BatchRecord`.
            rows: Its rows.
            accepted: Rows to write; those that are neither accepted nor bad count as already known.
            bad: Rows set aside.
            reasons: Those rows per reason code.
        """
        for code, count in reasons.items():
            self.reasons[code] = self.reasons.get(code, 0) + count
        self.records.append(
            BatchRecord(
                batch_id=content_hash,
                kind=kind,
                source=origin,
                rows=rows,
                accepted=accepted,
                quarantined=bad,
                already_known=rows - bad - accepted,
                contract=contract.versioned_name,
                recorded_at=arrived.isoformat(),
            )
        )


def stage_new(
    source: TransactionSource,
    known: Collection[str],
    staged: StagedInputs,
    stage: Callable[[SourceBatch, datetime], None],
    now: Callable[[], datetime],
) -> None:
    """Stage each input that is not known, and account for all of them.

    Args:
        source: The source to read.
        known: Batch ids that were loaded before.
        staged: The account.
        stage: Stages one input, given when it arrived. A `SourceError` or `SchemaMismatchError` that it raises refuses
            that input only.
        now: The clock; each input gets a distinct time.

    Raises:
        SourceError: The source as a whole can't be read.
    """
    arrived = datetime.min.replace(tzinfo=UTC)
    for batch in _readable(source, staged.errors):
        if batch.content_hash in known or any(batch.content_hash == record.batch_id for record in staged.records):
            staged.known.append(batch.origin)
            staged.known_rows += batch.table.num_rows
            continue
        arrived = max(now(), arrived + timedelta(microseconds=1))
        try:
            stage(batch, arrived)
        except (SourceError, SchemaMismatchError) as error:
            staged.errors.append(error)


def origin_columns(origin: str, content_hash: str, arrived: datetime) -> dict[str, pa.Scalar]:
    """Return the technical columns that say where a row comes from: one value each for all rows of an input."""
    return {
        BATCH_ID: pa.scalar(content_hash, pa.string()),
        SOURCE: pa.scalar(origin, pa.string()),
        INGESTED_AT: pa.scalar(arrived, pa.timestamp("us", tz="UTC")),
    }


def _readable(source: TransactionSource, errors: list[SourceError | SchemaMismatchError]) -> Iterator[SourceBatch]:
    """Yield the readable batches, and append an error for each other one; a source may continue after an error."""
    batches = source.batches()
    while True:
        try:
            yield next(batches)
        except StopIteration:
            return
        except (SourceError, SchemaMismatchError) as error:
            errors.append(error)
