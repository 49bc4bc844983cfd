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
import sys
import uuid
import zipimport
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import cloudpickle
from pyspark.errors import PySparkException

from mlops_assets.data.columns import QUARANTINE_SCHEMA
from mlops_assets.data.ingest.retried_rows import RetriedRows, retry
from mlops_assets.data.ingest.staged_files import BAD, GOOD, StagedFiles, leave_out, make_folders, stem_of
from mlops_assets.data.ingest.staging import StagedLoad, merged, stage_one
from mlops_assets.data.ingest.staging_pieces import StagedPiece, of_pieces, stage_piece, survey
from mlops_assets.data.sources.base import LargeInput, Piece, Survey
from mlops_assets.errors import StorageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.base import Reach, ReadPart

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")
# More than a cluster's cores, so that all of them have work; a task that finds its Python running costs 30 ms.
_TASKS: Final = 256


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
    make_folders(folder)
    begun, ids = datetime.now(UTC), frozenset(known)

    def arrived(number: int) -> datetime:
        return begun + timedelta(microseconds=number)

    def stage(parts: Sequence[_Part]) -> list[tuple[str, Any]]:
        """Stage some parts one after another; return what became of each, and in whose files its rows are."""
        staged, together = list[tuple[str, Any]](), StagedFiles(folder, parts[0].new_stem(), shared=True)
        for part in parts:
            moment = arrived(part.number)
            if part.survey is None or part.piece is None:
                staged.append((together.stem, stage_one(part.read, contract, together, ids, moment)))
            else:  # in files of its own, because only the whole input can tell whether it is refused
                files, large = StagedFiles(folder, part.new_stem()), cast("LargeInput", part.read)
                staged.append((files.stem, stage_piece(large, part.survey, part.piece, contract, files, moment)))
        together.close()
        return staged

    large = {number: read for number, read in enumerate(reads) if isinstance(read, LargeInput)}
    found = _on_executors(session, lambda inputs: [survey(one) for one in inputs], list(large.values()))
    surveys = dict(zip(large, found, strict=True))
    parts = [part for number, read in enumerate(reads) for part in _parts(number, read, surveys.get(number), ids)]
    done: list[list[tuple[str, Any]]] = [[] for _ in reads]
    for part, staged in zip(parts, _on_executors(session, stage, parts), strict=True):
        done[part.number].append(staged)

    def account(number: int) -> StagedLoad:
        results = [result for _, result in done[number]]
        if number not in large:
            return cast("StagedLoad", results[0])
        return of_pieces(large[number].origin, surveys[number], results, contract, ids, arrived(number))

    whole, used = merged(map(account, range(len(reads))))
    stems = [{stem for stem, result in staged if _has_rows(result)} for staged in done]
    wanted = set[str]().union(*(stems[number] for number in used))
    _keep(folder, wanted)
    for number in set(range(len(reads))) - used:  # content that came in twice, beside other inputs
        for stem in stems[number] & wanted:
            _leave_out(folder, stem, arrived(number))
    return whole


@dataclass(frozen=True)
class _Part:
    """What one call stages: an input, or a piece of a large one."""

    number: int
    read: ReadPart
    survey: Survey | None = None
    piece: Piece | None = None

    def new_stem(self) -> str:
        """Return a name for its files: in the order of the rows, and another one for each try."""
        first_row = 0 if self.piece is None else self.piece.first_row
        return f"{self.number:08d}_{first_row:012d}_{uuid.uuid4().hex}"


def _parts(number: int, read: ReadPart, found: Any, known: Collection[str]) -> Sequence[_Part]:
    """Return the parts of an input to stage; one without a survey is a part, and what is known has none."""
    if found is None:
        return [_Part(number, read)]
    if not isinstance(found, Survey) or found.content_hash in known:
        return []
    said = replace(found, pieces=())  # which would be sent with each of them
    return [_Part(number, read, said, piece) for piece in found.pieces]


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

    def retry_each(given: Sequence[Path]) -> list[tuple[str, RetriedRows]]:
        return [_retried(file, contract, replay, StagedFiles(folder, uuid.uuid4().hex)) for file in given]

    done = _on_executors(session, retry_each, files)
    _keep(folder, {stem for stem, part in done if part.rows})
    return RetriedRows.of_parts(part for _, part in done)


def _retried(file: Path, contract: Contract, replay: str, files: StagedFiles) -> tuple[str, RetriedRows]:
    with pq.ParquetFile(file) as reader:
        waiting = reader.read().cast(QUARANTINE_SCHEMA)
    return files.stem, retry(waiting, contract, replay, files)


def _has_rows(result: StagedLoad | StagedPiece) -> bool:
    """Return whether anything was written of an input or a piece."""
    if isinstance(result, StagedPiece):
        return bool(result.written.accepted or result.written.bad)
    return bool(result.staged_rows or result.bad_rows)


def _on_executors(
    session: SparkSession, action: Callable[[Sequence[_Given]], Sequence[_Result]], given: Sequence[_Given]
) -> list[_Result]:
    """Return what an action returns for each of some objects; an executor calls it with some of them at a time."""
    if not given:
        return []
    # Each by itself: a task that had to unpickle all of them would take longer for that than for its own.
    packed = [cloudpickle.dumps(one) for one in given]

    def act(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _forget_archives()
        for batch in batches:
            numbers = batch.column(0).to_pylist()
            results = action([cloudpickle.loads(packed[number]) for number in numbers])
            yield pa.RecordBatch.from_pydict({"number": numbers, "result": [pickle.dumps(one) for one in results]})

    numbers = session.range(0, len(given), 1, min(len(given), _TASKS))
    rows = sorted(numbers.mapInArrow(act, "number long, result binary").collect())
    # Of our own executors, by Spark's own channel, which pickles as well.
    return [pickle.loads(row["result"]) for row in rows]  # noqa: S301


def _forget_archives() -> None:
    """Spare the next task of this worker some 50 ms: PySpark has the directory of each archive on the path read anew.

    PySpark's `setup_spark_files` calls `importlib.invalidate_caches`, for which `zipimporter` reads at once, and
    Spark's own jar has thousands of entries. What is forgotten comes back with the next import that needs it.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


def _keep(folder: Path, wanted: set[str]) -> None:
    """Delete the files of other tries, and those in which no input has rows that count.

    Args:
        folder: The staging folder.
        wanted: Beginnings of the names of the files to keep; there is one at least for each.
    """
    there = set()
    for kind in (GOOD, BAD):
        for path in (folder / kind).glob("*.parquet"):
            if stem_of(path) in wanted:
                there.add(stem_of(path))
            else:
                path.unlink()
    if there != wanted:
        raise StorageError(
            f"executors have staged {len(wanted)} inputs, or parts of them, and {len(there)} are here",
            where=str(folder),
            fix="keep the tables where driver and workers see the same folder: a volume, DBFS, or a shared disk",
        )


def _leave_out(folder: Path, stem: str, arrival: datetime) -> None:
    for kind in (GOOD, BAD):
        for file in (folder / kind).glob(f"{stem}-*.parquet"):
            leave_out(file, [arrival])
