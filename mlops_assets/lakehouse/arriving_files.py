"""Files that arrive in a folder, found by Structured Streaming: by Auto Loader on Databricks, else by its file source.

What belongs here: which files have arrived and are not loaded yet. What does not: reading them (`data.sources.files`),
the load itself (`loading`).

The stream only finds files, by a schema of which no content is read. Its `foreachBatch` writes the names of a
micro-batch to a list beside the tables, and the load works through all lists. The stream's checkpoint moves on once a
list is written, and a list is removed once each of its files is in the tables. So a file is always in at least one of
folder, list and table, and since the table knows files by their content, one that comes twice adds nothing.

The load itself does not run inside `foreachBatch`. With Spark Connect (serverless compute) that function runs in a
process of the server, where neither this code nor the table's lock is. Besides, an error would come back as the JVM's,
and one refused file would stop the stream: now it stays on its list while later files are loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem

from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.limits import DEFAULT_LIMITS, Limits
from mlops_assets.data.sources.locations import holds_secret, is_hidden, kind_of, shown
from mlops_assets.data.sources.storage import ask, file_system, info_of, leaves, origin_of, revision_of
from mlops_assets.errors import SourceError, StorageError
from mlops_assets.lakehouse.catalog_errors import brief, spark_errors
from mlops_assets.lakehouse.load_report import LoadReport
from mlops_assets.lakehouse.loading import load
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import RAW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.transactions import TransactionStore

# What the format `binaryFile` gives (Spark documentation, "Binary File Data Source").
_SCHEMA: Final = "path string, modificationTime timestamp, length long, content binary"
_FILES_PER_BATCH: Final = "1000"
_DIGITS: Final = 16
# How far the clocks of this machine and of a file server may be apart, and how long listing may take.
_CLOCKS_APART_S: Final = 120.0
# Of a Spark Connect server, which starts a process for `foreachBatch`.
_PYTHON_NOT_UP: Final = "Python worker failed to connect back"
_SCHEME: Final = re.compile(r"^[a-z][\w+.-]*:(?=/)")


def reader_options(*, auto_loader: bool) -> tuple[str, dict[str, str]]:
    """Return the format of the stream and its options.

    Auto Loader: "Auto Loader options" of the Databricks documentation; it looks into sub-folders by itself, and with
    `allowOverwrites` a file that is written again comes again. Spark's file source (Spark documentation, "Input
    Sources"): it remembers paths only. It would skip a file that is a week older than the newest one, and take
    sub-folders for partitions.
    """
    if auto_loader:
        return "cloudFiles", {
            "cloudFiles.format": "binaryFile",
            "cloudFiles.allowOverwrites": "true",
            "cloudFiles.maxFilesPerTrigger": _FILES_PER_BATCH,
        }
    return "binaryFile", {
        "recursiveFileLookup": "true",
        "maxFileAge": "36500d",
        "maxFilesPerTrigger": _FILES_PER_BATCH,
    }


@dataclass(frozen=True)
class _Look:
    """Up to when changed files were taken, and when those of the last minutes were written: clocks may be apart."""

    until: float
    known: Mapping[str, float]


@dataclass(frozen=True)
class ArrivingFiles:
    """The CSV, CSV.gz and Parquet files of a folder, without hidden ones and sub-folders.

    Attributes:
        lakehouse: The database; checkpoint and lists are in its folder.
        folder: The folder, a path or URL.
        auto_loader: Whether Auto Loader finds the files.
        settle_seconds: A file that is younger than this is looked at twice with this pause between, and taken if it has
            not changed.
        limits: How large a file may be.
    """

    lakehouse: Lakehouse
    folder: str
    auto_loader: bool = False
    settle_seconds: float = 20.0
    limits: Limits = DEFAULT_LIMITS

    def load_into(self, store: TransactionStore, accept_changes: str = "", *, again: bool = False) -> LoadReport:
        """Find what has arrived, and load what the tables do not have yet.

        Args:
            store: The tables.
            accept_changes: Why the load may change more than the contract allows; empty if it may not.
            again: Whether to forget what was found, and find all files of the folder again.

        Raises:
            PlatformError: The folder can't be read, no file has arrived yet, or the tables can't be written.
            StaleBaseError: Someone else has written since; start over.
        """
        if holds_secret(self.folder):
            fix = "give them to Spark and to the driver of fsspec by their configuration"
            raise self._error("credentials in its URL would stand in each list", fix)
        is_new = self.lakehouse.current(RAW) is None
        if again or is_new:  # what an earlier table had says nothing about this one
            shutil.rmtree(self._state, ignore_errors=True)
        last = self._last_look()
        self._find()
        lists = self._lists()
        listed = {name: at for names in lists.values() for name, at in names.items()}
        changed = self._changed(last)
        arrived = listed | changed
        if is_new and not arrived:
            raise self._error("no file has arrived yet", "put *.csv, *.csv.gz or *.parquet files there")
        unsettled = self._unsettled(arrived)
        files = [self._location(name) for name in sorted(arrived.keys() - unsettled)]
        report = load(store, FilesSource(files, limits=self.limits), accept_changes)
        loaded = {*report.inputs_added, *report.inputs_known} - {*report.inputs_refused}
        done = {name for name in arrived if self._origin(name) in loaded} - unsettled
        if report.tables is not None:
            done |= self._gone(arrived.keys() - unsettled - done)
        for path, names in lists.items():
            if names.keys() <= done:
                shutil.rmtree(path, ignore_errors=True)
        # Lists keep what is on them; the others are looked at again.
        left = [at for name, at in changed.items() if name not in done and name not in listed]
        until = min([*left, max(changed.values(), default=last.until)])
        known = {**last.known, **{name: at for name, at in changed.items() if name in done}}
        known = {name: at for name, at in known.items() if at > until - _CLOCKS_APART_S}
        self._last_look(until=until, known=known)
        if unsettled:
            text = "left for the next load, because they are still being written: " + ", ".join(sorted(unsettled))
            return replace(report, summary=f"{report.summary}; {text}")
        return report

    @property
    def _state(self) -> Path:
        digest = hashlib.sha256(self.folder.encode()).hexdigest()[:_DIGITS]
        return Path(self.lakehouse.root) / "_arrivals" / digest

    def _find(self) -> None:
        """Run the stream over what has arrived since the last time."""
        # Micro-batches are numbered by the checkpoint, so a new one must not write over the lists of another.
        seen = next(iter(self._state.glob("seen-*")), self._state / f"seen-{uuid.uuid4().hex[:_DIGITS]}")
        lists = spark_path(self._state / "lists" / seen.name)

        def write_down(batch: DataFrame, batch_id: int) -> None:
            batch.coalesce(1).write.mode("overwrite").json(f"{lists}/{batch_id}")

        kind, options = reader_options(auto_loader=self.auto_loader)
        try:
            reader = self.lakehouse.session.readStream.format(kind).schema(_SCHEMA).options(**options)
            found = reader.load(self._spark_folder).selectExpr("path", "unix_millis(modificationTime) AS modified")
            writer = found.writeStream.foreachBatch(write_down).option("checkpointLocation", spark_path(seen))
            query = writer.trigger(availableNow=True).start()
            try:
                query.awaitTermination()
            finally:
                query.stop()
        except spark_errors() as error:
            problem = brief(error)
        else:
            return
        too_slow = _PYTHON_NOT_UP in problem
        raise StorageError(
            f"new files can't be found: {problem}",
            where=shown(self.folder),
            fix="run it again: Spark gives Python 10 s to start, and the machine was too busy for that"
            if too_slow
            else "check that the folder exists and that Spark may read it; if its checkpoint is damaged, load with "
            "`source: {again: true}`",
            transient=too_slow,
        )

    def _last_look(self, *, until: float | None = None, known: Mapping[str, float] | None = None) -> _Look:
        """Return up to when changed files were taken; set it if given, or the first time."""
        path = self._state / "last_look.json"
        if until is None and path.is_file():
            return _Look(**json.loads(path.read_text("utf-8")))
        look = _Look(time.time() if until is None else until, known or {})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(".new")
            written.write_text(json.dumps(asdict(look)), "utf-8")
            written.replace(path)
        except OSError as error:
            raise StorageError.not_writable(path, error) from error
        return look

    def _changed(self, last: _Look) -> dict[str, float]:
        """Return the files that were written since the last look, with the time; for a folder of this machine only.

        Spark's file source counts an empty file as seen and does not give it, so a file that is found just when its
        writer has opened it would never come. Nor does it give a file again that is written anew. Object storage shows
        whole files only.
        """
        fs, folder = self._at()
        if self.auto_loader or not isinstance(fs, LocalFileSystem):
            return {}
        found = {path.name: ask(folder, path.stat) for path in ask(folder, lambda: list(Path(folder).iterdir())) or ()}
        return {
            name: stat.st_mtime
            for name, stat in found.items()
            if stat
            and S_ISREG(stat.st_mode)
            and stat.st_mtime > last.until - _CLOCKS_APART_S
            and last.known.get(name) != stat.st_mtime
            and self._is_read(name)
        }

    def _lists(self) -> dict[Path, Mapping[str, float]]:
        """Return the files on each list, with the time of their last change in seconds since 1970.

        A list whose micro-batch is not committed is left out: without a lock, another run may be writing it now.
        """
        lists: dict[Path, Mapping[str, float]] = {}
        for path in sorted(self._state.glob("lists/*/*")):
            commits = [int(found.name) for found in self._state.glob(f"{path.parent.name}/commits/[0-9]*")]
            if commits and int(path.name) > max(commits):
                continue
            names: dict[str, float] = {}
            for part in path.glob("part-*.json"):
                for line in part.read_text("utf-8").splitlines():
                    row = json.loads(line)
                    names |= dict.fromkeys(self._names(row["path"]), row["modified"] / 1000)
            lists[path] = names
        return lists

    def _names(self, path: str) -> list[str]:
        """Return which files of the folder a path may be; none for one that is not loaded from a folder."""
        # Spark gives paths as they are; should a runtime give URIs, the file that is there is the one.
        beginning = f"{_SCHEME.sub('', self._spark_folder).rstrip('/')}/"
        below = {text.partition(beginning)[2] for text in (path, unquote(path))} - {""}
        if not below:
            raise self._error(f"Spark found {path}, which is not in the folder", "name the folder as Spark does")
        return [name for name in below if "/" not in name and self._is_read(name)]

    def _is_read(self, name: str) -> bool:
        return not is_hidden(name) and kind_of(name) is not None and not leaves(*self._at(name), self._at()[1])

    def _unsettled(self, arrived: Mapping[str, float]) -> set[str]:
        """Return the files that are still being written: Spark's file source does not give a path twice."""
        young = [name for name, at in arrived.items() if time.time() - at < self.settle_seconds]
        before = {name: self._revision(name) for name in young}
        if young:
            time.sleep(self.settle_seconds)
        return {name for name in young if self._revision(name) != before[name]}

    def _gone(self, names: set[str]) -> set[str]:
        """Return the files that were removed before they were loaded."""
        gone = {name for name in names if self._revision(name) is None}
        fs, path = self._at()
        if gone and not ask(self.folder, lambda: fs.ls(path, detail=False)):
            raise self._error(
                f"{len(gone)} files that were found there are gone, and the folder is empty",
                "mount it again; if they were removed on purpose, load with `source: {again: true}`",
            )
        return gone

    def _revision(self, name: str) -> tuple[object, object] | None:
        fs, path = self._at(name)
        entry = ask(self.folder, lambda: info_of(fs, path))
        return None if entry is None else revision_of(entry)

    def _location(self, name: str) -> str:
        return f"{self.folder.rstrip('/')}/{name}"

    def _origin(self, name: str) -> str:
        return origin_of(*self._at(name), self._location(name))

    def _at(self, name: str = "") -> tuple[Any, str]:
        """Return the file system, and the path of a file or of the folder."""
        fs, path = file_system(self.folder)
        return fs, f"{path.rstrip('/')}/{name}" if name else path

    @property
    def _spark_folder(self) -> str:
        fs, path = self._at()
        return spark_path(path) if isinstance(fs, LocalFileSystem) else self.folder

    def _error(self, what: str, fix: str) -> SourceError:
        return SourceError(what, where=shown(self.folder), fix=fix)
