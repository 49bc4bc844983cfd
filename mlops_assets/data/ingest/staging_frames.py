"""Staging over a cluster: each input is read, checked and written by an executor, and the driver judges the records.

What belongs here: sending inputs to executors, and what they return. What does not: what becomes of one input
(`staging`), the verdicts (`validation`), the commits (`lakehouse`).

Many files arrive at the speed of the cluster, and the driver holds a record of each and none of their rows. An executor
may run a task twice; each try writes files of its own, and only those of the try that returned are kept.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from mlops_assets.data.ingest.staging import BAD, GOOD, StagedLoad, merged, stage_one
from mlops_assets.errors import StorageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import DividedSource, ReadPart

_TASKS: Final = 64


def reads_apart(session: SparkSession, source: DividedSource) -> bool:
    """Return whether executors see a source's inputs as the driver does: on its machine, or in shared storage."""
    reach, master = source.seen_by(), str(session.conf.get("spark.master", ""))
    return reach == "all" or (reach == "machine" and master.startswith("local"))


def stage_over_cluster(
    session: SparkSession, reads: Sequence[ReadPart], contract: Contract, folder: Path, known: Collection[str]
) -> StagedLoad:
    """Stage the inputs of a source as `staging.stage_load` does, on the executors.

    Args:
        session: The session.
        reads: What reads each input.
        contract: The data contract.
        folder: Empty folder that the executors see, too; its contents as in `stage_load`, but for the files' names.
        known: Batch ids that were loaded before.

    Raises:
        StorageError: The executors do not write where the driver looks.
    """
    for kind in (GOOD, BAD):
        (folder / kind).mkdir()
    begun, ids = datetime.now(UTC), frozenset(known)

    def stage(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                stem = f"{number:08d}-{uuid.uuid4().hex}"
                arrived = begun + timedelta(microseconds=number)
                load = stage_one(reads[number], contract, folder, ids, arrived, stem)
                columns = {"number": [number], "stem": [stem], "load": [pickle.dumps(load)]}
                yield pa.RecordBatch.from_pydict(columns)

    numbers = session.range(0, len(reads), 1, min(len(reads), _TASKS))
    rows = sorted(numbers.mapInArrow(stage, "number long, stem string, load binary").collect())
    # Of our own executors, by Spark's own channel, which pickles as well.
    whole, used = merged([pickle.loads(row["load"]) for row in rows])  # noqa: S301
    _keep(folder, {rows[at]["stem"] for at in used}, whole)
    return whole


def _keep(folder: Path, stems: set[str], load: StagedLoad) -> None:
    """Delete the files of other tries, of refused inputs and of content that came in twice."""
    there = set()
    for kind in (GOOD, BAD):
        for path in (folder / kind).glob("*.parquet"):
            stem = path.name.rpartition("-")[0]
            if stem in stems:
                there.add(stem)
            else:
                path.unlink()
    with_rows = sum(bool(record.accepted or record.quarantined) for record in load.records)
    if len(there) < with_rows:
        raise StorageError(
            f"executors have staged {with_rows} inputs, and {len(there)} are here",
            where=str(folder),
            fix="keep the tables where driver and workers see the same folder: a volume, DBFS, or a shared disk",
        )
