"""Staging over a cluster: inputs and pieces of large ones are read, checked and written by executors.

What belongs here: sending inputs, and rows of a large quarantine, to executors, and what they return. What does not:
what becomes of one input (`staging`), of a piece of it (`staging_pieces`) or of rows that are tried again
(`retried_rows`), the verdicts (`validation`), the commits (`lakehouse`).

Many or large files arrive at the speed of the cluster, and the driver holds a record of each piece and none of their
rows. An executor may run a task twice; each try writes files of its own, and only those of the try that returned are
kept.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException

from mlops_assets.data.columns import QUARANTINE_SCHEMA
from mlops_assets.data.ingest.retried_rows import RetriedRows, retry
from mlops_assets.data.ingest.staged_rows import BAD, GOOD
from mlops_assets.data.ingest.staging import StagedLoad, merged, stage_one
from mlops_assets.data.ingest.staging_pieces import StagedPiece, of_pieces, stage_piece, survey
from mlops_assets.data.sources.base import LargeInput, Survey
from mlops_assets.errors import StorageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import Reach, ReadPart

# More than a cluster's cores, so that all of them have work; a task that finds its Python running costs milliseconds.
_TASKS: Final = 512


def reads_apart(session: SparkSession, reach: Reach) -> bool:
    """Return whether executors see a source's inputs as the driver does: on its machine, or in shared storage."""
    if reach != "machine":
        return reach == "all"
    try:
        return str(session.conf.get("spark.master", "")).startswith("local")
    except PySparkException:  # serverless compute does not tell; its executors are elsewhere
        return False


def stage_over_cluster(
    session: SparkSession, reads: Sequence[ReadPart], contract: Contract, folder: Path, known: Collection[str]
) -> StagedLoad:
    """Stage the inputs of a source as `staging.stage_load` does, on the executors.

    Args:
        session: The session.
        reads: What reads each input; a `LargeInput` is staged piece by piece.
        contract: The data contract.
        folder: Empty folder that the executors see, too; its contents as in `stage_load`, but for the files' names.
        known: Batch ids that were loaded before.

    Raises:
        StorageError: The executors do not write where the driver looks.
    """
    for kind in (GOOD, BAD):
        (folder / kind).mkdir()
    begun, ids = datetime.now(UTC), frozenset(known)
    large = {number: read for number, read in enumerate(reads) if isinstance(read, LargeInput)}
    surveys = _surveys(session, large)
    # An input, and which of its pieces: None for all of it.
    tasks = [(number, piece) for number in range(len(reads)) for piece in _pieces(surveys.get(number), ids)]

    def arrived(number: int) -> datetime:
        return begun + timedelta(microseconds=number)

    def stage(at: int) -> tuple[str, Any]:
        (number, position), stem = tasks[at], f"{at:08d}-{uuid.uuid4().hex}"
        if position is None:
            return stem, stage_one(reads[number], contract, folder, ids, arrived(number), stem)
        found = surveys[number]
        return stem, stage_piece(large[number], found, found.pieces[position], contract, folder, arrived(number), stem)

    done: list[dict[str, Any]] = [{} for _ in reads]
    for (number, _), (stem, result) in zip(tasks, _on_executors(session, stage, len(tasks)), strict=True):
        done[number][stem] = result

    def account(number: int) -> StagedLoad:
        staged = list(done[number].values())
        if number not in large:
            return cast("StagedLoad", staged[0])
        return of_pieces(large[number].origin, surveys[number], staged, contract, ids, arrived(number))

    whole, used = merged(map(account, range(len(reads))))
    _keep(folder, {stem for number in used for stem, result in done[number].items() if _has_rows(result)})
    return whole


def retry_over_cluster(
    session: SparkSession, files: Sequence[Path], contract: Contract, replay: str, folder: Path
) -> RetriedRows:
    """Try rows of the quarantine again as `retried_rows.retry` does, on the executors.

    Args:
        session: The session.
        files: Parquet files with the rows, of which an executor reads one at a time; the executors see them, too.
        contract: The current contract.
        replay: Id of the replay.
        folder: Folder that the executors see, too, with the empty subfolders `good` and `bad`.

    Raises:
        StorageError: The executors do not write where the driver looks.
    """

    def retry_one(at: int) -> tuple[str, RetriedRows]:
        stem = f"{at:08d}-{uuid.uuid4().hex}"
        with pq.ParquetFile(files[at]) as file:
            waiting = file.read().cast(QUARANTINE_SCHEMA)
        return stem, retry(waiting, contract, replay, folder, stem)

    done = _on_executors(session, retry_one, len(files))
    _keep(folder, {stem for stem, part in done if part.rows})
    return RetriedRows.of_parts(part for _, part in done)


def _surveys(session: SparkSession, large: Mapping[int, LargeInput]) -> dict[int, Any]:
    """Return the survey of each large input, or why it can't be used, by the input's number."""
    numbers = list(large)
    return dict(zip(numbers, _on_executors(session, lambda at: survey(large[numbers[at]]), len(numbers)), strict=True))


def _pieces(found: Any, known: Collection[str]) -> Sequence[int | None]:
    """Return the pieces of an input to stage; an input without a survey is one piece."""
    if found is None:
        return [None]
    return range(len(found.pieces)) if isinstance(found, Survey) and found.content_hash not in known else ()


def _has_rows(result: StagedLoad | StagedPiece) -> bool:
    """Return whether anything was written of an input or a piece."""
    if isinstance(result, StagedPiece):
        return bool(result.written.accepted or result.written.bad)
    return bool(result.staged_rows or result.bad_rows)


def _on_executors(session: SparkSession, action: Callable[[int], Any], count: int) -> list[Any]:
    """Return what an action returns for the numbers from 0 on, each called on an executor."""
    if not count:
        return []

    def act(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield pa.RecordBatch.from_pydict({"number": [number], "result": [pickle.dumps(action(number))]})

    numbers = session.range(0, count, 1, min(count, _TASKS))
    rows = sorted(numbers.mapInArrow(act, "number long, result binary").collect())
    # Of our own executors, by Spark's own channel, which pickles as well.
    return [pickle.loads(row["result"]) for row in rows]  # noqa: S301


def _keep(folder: Path, wanted: set[str]) -> None:
    """Delete the files of other tries, of refused inputs and of content that came in twice.

    Args:
        folder: The staging folder.
        wanted: Beginnings of the names of the files to keep; there is one at least for each.
    """
    there = set()
    for kind in (GOOD, BAD):
        for path in (folder / kind).glob("*.parquet"):
            stem = path.name.rpartition("-")[0]
            if stem in wanted:
                there.add(stem)
            else:
                path.unlink()
    if there != wanted:
        raise StorageError(
            f"executors have staged {len(wanted)} inputs, or parts of them, and {len(there)} are here",
            where=str(folder),
            fix="keep the tables where driver and workers see the same folder: a volume, DBFS, or a shared disk",
        )
