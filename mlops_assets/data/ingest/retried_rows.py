"""Rows of the quarantine, tried again under the current contract: written for Spark to commit.

What belongs here: marking the rows that a replay takes, renewing the reasons of those that stay, and writing both. What
does not: reading a row from its text (`quarantine`), many rows at once (`staging_frames`), the commits (`lakehouse`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import BATCH_ID, CONTRACT, QUARANTINE_SCHEMA, REPLAY
from mlops_assets.data.ingest.merge import key_range, spanned
from mlops_assets.data.ingest.quarantine import accepted_again, try_again
from mlops_assets.data.ingest.staged_files import BAD, GOOD, StagedFiles

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract


@dataclass(frozen=True)
class RetriedRows:
    """What became of rows that were tried again.

    Attributes:
        rows: How many there were.
        accepted: Rows that meet the contract now, by batch.
        key_range: Smallest and largest key of those, if there are any and the contract has a key.
    """

    rows: int = 0
    accepted: Mapping[str, int] = field(default_factory=dict)
    key_range: tuple[Any, Any] | None = None

    @classmethod
    def of_parts(cls, parts: Iterable[RetriedRows]) -> RetriedRows:
        """Return what became of all rows of several parts."""
        rows, accepted, ranges = 0, Counter[str](), list[tuple[Any, Any] | None]()
        for part in parts:
            rows += part.rows
            accepted.update(part.accepted)
            ranges.append(part.key_range)
        return cls(rows, dict(accepted), spanned(ranges))


def retry(waiting: pa.Table, contract: Contract, replay: str, files: StagedFiles) -> RetriedRows:
    """Try rows again, and write them into a staging folder.

    Args:
        waiting: Rows of the quarantine (`QUARANTINE_COLUMNS`); without any, nothing is written.
        contract: The current contract.
        replay: Id of the replay.
        files: Where to write the rows that meet the contract as good ones (the contract's columns, then
            `TECHNICAL_COLUMNS`), and all rows as bad ones (`QUARANTINE_COLUMNS`): those with the mark of the replay,
            the others with the current contract's reasons.
    """
    if not waiting.num_rows:
        return RetriedRows()
    batch, judged = try_again(waiting, contract)
    good, rows = accepted_again(waiting, batch, contract)
    # A marked row keeps its reasons: if the replay is killed, the row is still in quarantine and needs them.
    marked = _with(waiting.filter(good), REPLAY, replay)
    stays = _with(_with(judged.filter(pc.invert(good)), REPLAY, None), CONTRACT, contract.versioned_name)
    after = pa.concat_tables([part.cast(QUARANTINE_SCHEMA) for part in (marked, stays)])
    files.write(BAD, after, {})
    if not rows.num_rows:
        return RetriedRows(waiting.num_rows)
    files.write(GOOD, rows, {})
    counted = pc.value_counts(rows.column(BATCH_ID)).to_pylist()
    counts = {pair["values"]: int(pair["counts"]) for pair in counted}
    return RetriedRows(waiting.num_rows, counts, key_range(rows, contract))


def _with(rows: pa.Table, name: str, value: str | None) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.repeat(pa.scalar(value, pa.string()), rows.num_rows))
