"""Transactions from a Delta table that someone else writes, commit by commit, without a JVM.

What belongs here: which rows a commit added, read through the `deltalake` package. What does not: when to look
(`automation/watched_table`), which commits were loaded before (the raw table records it).

A commit is a batch. It never changes once it is written, so table id and version are its identity. Commits that only
rearrange rows (OPTIMIZE) add nothing. Commits that rewrite or delete rows can't be followed without a key: the whole
file that holds a changed row comes again, and nothing says which of its rows were there before; with a key the rows
are merged, and deleted ones stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import call
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mlops_assets.data.sources import large_files
from mlops_assets.data.sources.base import (
    Division,
    Piece,
    Reach,
    SourceBatch,
    Survey,
    found_of,
    lower_case_columns,
)
from mlops_assets.data.sources.locations import MOUNTED, holds_secret, shown
from mlops_assets.errors import SourceError, UnreachableError

Answered = TypeVar("Answered")
_REARRANGES = frozenset({"OPTIMIZE", "REORG", "CLUSTER BY"})


class DeltaSource:
    """Yields one batch per commit that added rows.

    Args:
        location: Folder or URL of the table.
        after_version: The last version to skip; -1 starts with the first.
        up_to_version: The last version to read; the newest when None.
        has_key: Whether rows are merged by a key, so that rewritten ones may come again.
    """

    def __init__(
        self, location: str, *, after_version: int = -1, up_to_version: int | None = None, has_key: bool = False
    ) -> None:
        self._location, self._after, self._up_to, self._has_key = location, after_version, up_to_version, has_key

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the rows that each commit added, oldest first.

        Raises:
            SourceError: There is no such table, a commit is no longer readable, or rewrote rows that have no key.
            UnreachableError: The storage does not answer.
        """
        return map(call, self._commits())

    def divided(self, folder: Path, known: Collection[str]) -> Division:
        """Return what reads each commit; errors as in `batches`."""
        del folder, known  # the files are there, and a known commit counts as read
        commits, refused = found_of(self._commits())
        reads = [commit if commit.size >= large_files.LARGE_BYTES else commit.whole for commit in commits]
        seen_by: Reach = "all" if "://" in self._location or self._location.startswith(MOUNTED) else "machine"
        return Division([*reads, *refused], seen_by)

    def _commits(self) -> Iterator[DeltaCommit]:
        newest = _opened(self._location)
        last = newest.version() if self._up_to is None else self._up_to
        if last > newest.version():
            raise SourceError(
                f"version {last} was requested but the newest is {newest.version()}: the table was recreated",
                where=shown(self._location),
                fix="reset the cursor of the sensor of the watched table",
            )
        operations = {int(commit["version"]): str(commit.get("operation")) for commit in newest.history()}
        identity = str(newest.metadata().id)
        before = _files(_opened(self._location, self._after)) if self._after >= 0 else frozenset()
        for version in range(self._after + 1, last + 1):
            table = _opened(self._location, version)
            files = _files(table)
            added, removed = files - before, before - files
            before = files
            if not added or operations.get(version) in _REARRANGES:
                continue
            if removed and not self._has_key:
                raise SourceError(
                    f"version {version} ({operations.get(version, 'unknown operation')}) rewrote rows, and without a "
                    "key there is no telling which ones",
                    where=shown(self._location),
                    fix="name the key column in the contract, or have the table written by appending only",
                )
            digest = hashlib.sha256(f"delta:{identity}:{version}".encode()).hexdigest()
            size = sum(bytes_of for path, bytes_of in _sizes(table).items() if path in added)
            yield DeltaCommit(f"{shown(self._location)}@v{version}", digest, self._location, version, added, size)


@dataclass(frozen=True)
class DeltaCommit:
    """The rows that a commit added; a `base.LargeInput` whose pieces are files.

    Attributes:
        origin: Table and version, safe to show.
        content_hash: Its identity.
        location: Folder or URL of the table.
        version: The version.
        files: The files that it added.
        size: Their bytes.
    """

    origin: str
    content_hash: str
    location: str
    version: int
    files: frozenset[str]
    size: int

    def __call__(self) -> SourceBatch:
        """Read all of it."""
        return SourceBatch(self.origin, self.content_hash, self._rows(0, None))

    def whole(self) -> SourceBatch:
        """Read all of it at once: what stands for a commit that is not large."""
        return self()

    def survey(self) -> Survey:
        """Return its pieces; see `base.LargeInput`."""
        counts = _ask(self.location, lambda: [fragment.count_rows() for fragment in self._fragments(self._dataset())])
        starts = accumulate(counts, initial=0)
        pieces = [Piece(at, at + 1, start, rows) for at, (start, rows) in enumerate(zip(starts, counts, strict=False))]
        return Survey(self.content_hash, tuple(piece for piece in pieces if piece.rows), revision=self.version)

    def read(self, survey: Survey, piece: Piece) -> pa.Table:
        """Return the rows of a piece; see `base.LargeInput`."""
        del survey  # a version never changes
        return self._rows(piece.start, piece.stop)

    def _rows(self, start: int, stop: int | None) -> pa.Table:
        def rows() -> pa.Table:
            dataset = self._dataset()
            wanted = self._fragments(dataset)[start:stop]
            return ds.FileSystemDataset(wanted, dataset.schema, wanted[0].format, wanted[0].filesystem).to_table()

        return lower_case_columns(_ask(self.location, rows), where=self.origin)

    def _dataset(self) -> Any:
        return _opened(self.location, self.version).to_pyarrow_dataset()

    def _fragments(self, dataset: Any) -> list[Any]:
        """Return the added files, in the same order each time."""
        found = sorted(dataset.get_fragments(), key=lambda fragment: str(fragment.path))
        wanted = [fragment for fragment in found if _plain(fragment.path) in self.files]
        if len(wanted) != len(self.files):
            raise FileNotFoundError(f"{len(self.files) - len(wanted)} of {len(self.files)} files")
        return wanted


def newest_version(location: str) -> tuple[str, int]:
    """Return id and newest version of a Delta table; this reads the table's log and starts no JVM (milliseconds).

    Raises:
        SourceError: There is no such table.
        UnreachableError: The storage does not answer.
    """
    table = _opened(location)
    return str(table.metadata().id), int(table.version())


def _opened(location: str, version: int | None = None) -> DeltaTable:
    return _ask(location, lambda: DeltaTable(location, version=version))


def _ask(location: str, action: Callable[[], Answered]) -> Answered:
    where, fix = shown(location), "check the location, and the right to read it"
    try:
        return action()
    except TableNotFoundError:
        problem: SourceError = SourceError("no Delta table there", where=where, fix=fix)
    except DeltaError as error:
        fix = "load the newest rows by hand, then reset the cursor; keep the table's log and files for longer"
        problem = SourceError(f"a version is no longer readable{_said(error, location)}", where=where, fix=fix)
    except (OSError, pa.ArrowException) as error:
        lasting = isinstance(error, PermissionError | FileNotFoundError)
        problem = UnreachableError(
            f"the table can't be read{_said(error, location)}", where=where, fix=fix, transient=not lasting
        )
    raise problem  # outside of the handlers, so that no foreign message, which may repeat a secret, is chained to it


def _said(error: Exception, location: str) -> str:
    return "" if holds_secret(location) else f": {' '.join(str(error).split())[:200]}"


def _files(table: DeltaTable) -> frozenset[str]:
    return frozenset(_sizes(table))


def _sizes(table: DeltaTable) -> dict[str, int]:
    """Return the bytes of each file of a version."""
    actions: Any = table.get_add_actions(flatten=True)
    found = pa.table(actions)
    paths = map(_plain, found.column("path").to_pylist())
    return dict(zip(paths, found.column("size_bytes").to_pylist(), strict=True))


def _plain(path: str) -> str:
    """Return a path without percent-encoding: partition values are encoded in folder names, and those in the log."""
    while (plain := unquote(path)) != path:
        path = plain
    return path
