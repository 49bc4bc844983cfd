"""The batches that are in the tables, and their rows.

What belongs here: listing and choosing batches, finding and deleting their rows. What does not: records of batches
(`data/ingest/manifest`), what else a revert changes (`reverted_rows`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT, LABEL_HISTORY, SOURCE
from mlops_assets.data.ingest.manifest import LOAD, loaded
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.transaction_tables import LABELS, MANIFEST, RAW

if TYPE_CHECKING:
    from pyspark.sql import Column

    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse


@dataclass(frozen=True)
class Batch:
    """A loaded batch, as the manifest has it.

    Attributes:
        batch_id: Its id.
        source: The input's name when it was loaded.
        rows: Rows read.
        accepted: Rows written to the raw table.
        recorded_at: When it was loaded (UTC, ISO 8601).
        of_labels: Whether it is a batch of late labels.
    """

    batch_id: str
    source: str
    rows: int
    accepted: int
    recorded_at: str
    of_labels: bool = False


def batches(lakehouse: Lakehouse) -> list[Batch]:
    """Return the loaded batches that can be reverted, those of labels included, the newest first."""
    return sorted([*_of_transactions(lakehouse), *_of_labels(lakehouse)], key=lambda b: b.recorded_at, reverse=True)


def _of_transactions(lakehouse: Lakehouse) -> list[Batch]:
    manifest = lakehouse.current(MANIFEST)
    if manifest is None:
        return []
    names = ["batch_id", "kind", "source", "rows", "accepted", "recorded_at"]
    rows = lakehouse.fetch(manifest, names).sort_by("recorded_at").to_pylist()
    there = set(loaded((row["batch_id"], row["kind"]) for row in rows))
    newest = {row["batch_id"]: row for row in rows if row["kind"] == LOAD and row["batch_id"] in there}
    shown = ("batch_id", "source", "rows", "accepted", "recorded_at")
    return [Batch(*(row[name] for name in shown)) for row in newest.values()]


def _of_labels(lakehouse: Lakehouse) -> list[Batch]:
    table = lakehouse.current(LABELS)
    if table is None:
        return []
    return [
        Batch(batch_id, source, rows, rows, arrived.isoformat(), True)
        for (batch_id, source, arrived), rows in lakehouse.counted(table, [BATCH_ID, SOURCE, INGESTED_AT]).items()
    ]


def chosen(known: Sequence[Batch], wanted: Collection[str], *, where: str) -> list[Batch]:
    """Return the batches that ids, or beginnings of ids, are meant for.

    Raises:
        StorageError: There is no such batch, or there are several.
    """
    found: dict[str, Batch] = {}
    for text in wanted:
        matching = [batch for batch in known if text and batch.batch_id.startswith(text)]
        if len(matching) != 1:
            what = f"no batch {text!r} is loaded" if not matching else f"{len(matching)} batches begin with {text}"
            fix = "`mlops revert` without a batch lists them" if not matching else "give more of the id"
            raise StorageError(what, where=where, fix=fix)
        found[matching[0].batch_id] = matching[0]
    if not found:
        raise StorageError("no batch is named", where=where, fix="`mlops revert` without a batch lists them")
    return list(found.values())


def of_batches(names: Collection[str]) -> Column:
    """Return the condition that a row is of one of the batches."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    return F.col(BATCH_ID).isin(list(names))


def remove_batches(
    lakehouse: Lakehouse, base: TableVersion, names: Collection[str], metadata: Mapping[str, Any]
) -> TableVersion:
    """Delete the rows of batches from a table that has some, in one commit.

    Raises:
        StaleBaseError: Someone else is writing.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    listed = F.explode(F.array(*[F.lit(name) for name in names]))
    rows = lakehouse.session.range(1).select(listed.alias(BATCH_ID))
    return lakehouse.remove(
        base.name, rows, on=f"old.{quoted(BATCH_ID)} = new.{quoted(BATCH_ID)}", base=base, metadata=metadata
    )


def holding(lakehouse: Lakehouse, found: Collection[Batch], versions: Collection[int]) -> list[int]:
    """Return which versions of the raw table have rows, or late labels, of the batches.

    Raises:
        StorageError: A version can't be read any more.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    names = [batch.batch_id for batch in found if not batch.of_labels]
    arrivals = [datetime.fromisoformat(batch.recorded_at) for batch in found if batch.of_labels]

    def holds(version: int) -> bool:
        rows = lakehouse.read(RAW, version)
        held = of_batches(names)
        if arrivals and LABEL_HISTORY in rows.columns:  # a label keeps its arrival there, which no two batches share
            held = held | F.exists(LABEL_HISTORY, lambda label: label["arrived"].isin(arrivals))
        return not rows.where(held).isEmpty()

    return [version for version in sorted(set(versions)) if holds(version)]
