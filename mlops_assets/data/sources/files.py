"""Transactions from files: CSV, CSV.gz and Parquet, on this machine or anywhere that fsspec or HTTP reaches.

What belongs here: from a location to the bytes of its files. What does not: decoding them (`formats`), HTTP itself
(`download`), which files were loaded before (the raw table records it).

Web files go through `download`, not through fsspec's HTTP driver: that has retries and timeouts, and needs no aiohttp.
Other schemes (`s3://`, `abfss://`, `gs://`, `memory://` ...) need the driver that fsspec names for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops_assets.data.sources import formats, large_files
from mlops_assets.data.sources.base import (
    Division,
    Reach,
    ReadPart,
    SourceBatch,
    content_hash,
    lower_case_columns,
)
from mlops_assets.data.sources.download import HttpPolicy, download_bytes
from mlops_assets.data.sources.limits import DEFAULT_LIMITS, Limits, read_at_most
from mlops_assets.data.sources.locations import (
    MOUNTED,
    READABLE,
    FileKind,
    has_wildcard,
    is_hidden,
    is_web,
    kind_of,
    shown,
    split_list,
    web_path,
)
from mlops_assets.data.sources.storage import (
    ask,
    changed_while_read,
    disappeared,
    file_system,
    info_of,
    leaves,
    name_of,
    origin_of,
    revision_of,
)
from mlops_assets.errors import SettingsError, SourceError

_FIX_SUFFIX = f"use files whose names match one of {READABLE}"


@dataclass(frozen=True)
class _InputFile:
    origin: str
    kind: FileKind
    read: Callable[[Limits], bytes]
    stored: large_files.Stored | None = None

    def part(self, limits: Limits) -> ReadPart:
        """Return what reads it; a large file whose rows can be told apart may be read piece by piece."""
        whole, stored = partial(_read, self, limits), self.stored
        if stored is None or self.kind == "csv.gz" or stored.size < large_files.LARGE_BYTES:
            return whole
        return large_files.LargeFile(self.origin, self.kind, stored, limits, whole, large_files.PIECE_BYTES)


class FilesSource:
    """Yields one batch per file.

    Args:
        location: A file, a folder (its CSV, CSV.gz and Parquet files, not those of its sub-folders), a glob, or a
            comma-separated list of these; paths or URLs. Files of a folder or glob come sorted by name; files and, in
            a glob, folders that begin with `.` or `_` are left out. A file whose own name holds a comma is reached
            through its folder, or with a `?` in the comma's place. A sequence has files that were found before, by
            their names without wildcards; one that is gone is left out.
        http: Tries and timeouts of web files.
        may_be_empty: Whether a folder or a glob may match no file.
        limits: How large a file may be.

    Raises:
        SettingsError: The location is blank.
    """

    def __init__(
        self,
        location: str | Sequence[str],
        *,
        http: HttpPolicy | None = None,
        may_be_empty: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._items = split_list(location) if isinstance(location, str) else list(location)
        self._http = http or HttpPolicy()
        self._may_be_empty, self._may_be_gone = may_be_empty, not isinstance(location, str)
        self._limits = limits
        if not self._items and not self._may_be_gone:
            raise SettingsError("no location is given", where="files source", fix="name a file, a folder or a glob")

    def batches(self) -> Iterator[SourceBatch]:
        """Find all files and return an iterator of one batch per file, which can continue after a file it can't read.

        A batch's hash covers the file's bytes, for CSV.gz the decompressed ones.

        A file that is named twice is read twice: both batches have the same hash.

        Raises:
            SourceError: A location leads to no file (see `may_be_empty`), or a file can't be read as a table.
            SchemaMismatchError: Columns of a file differ only by case.
        """
        return map(call, self._reads())

    def divided(self, folder: Path, known: Collection[str]) -> Division:
        """Find all files, and return what reads each; errors as in `batches`.

        URLs, and what a workspace mounts on every machine, are seen by all.
        """
        del folder, known  # the files are there, and known by their content only
        there = [item.startswith(MOUNTED) or ("://" in item and not item.startswith("file:")) for item in self._items]
        seen_by: Reach = "all" if all(there) else "machine"
        if any(item.startswith("memory:") for item in self._items):
            seen_by = "process"
        return Division(self._reads(), seen_by)

    def _reads(self) -> list[ReadPart]:
        return [file.part(self._limits) for item in self._items for file in self._files_of(item)]

    def _files_of(self, item: str) -> list[_InputFile]:
        if is_web(item):
            return [self._web_file(item)]
        return _stored_files(item, may_be_empty=self._may_be_empty, may_be_gone=self._may_be_gone)

    def _web_file(self, url: str) -> _InputFile:
        try:
            path = web_path(url)
        except ValueError:
            raise SourceError("not a URL", where=shown(url), fix="check that it opens in a browser") from None
        if path.endswith("/") or any(character in path for character in "*["):
            raise SourceError(
                "web servers can't list folders", where=shown(url), fix="name the files, separated by commas"
            )
        return _InputFile(shown(url), _known_kind(path, where=shown(url)), partial(_read_web, url, self._http))


def _read(file: _InputFile, limits: Limits) -> SourceBatch:
    content = file.read(limits)
    if not content:
        raise SourceError("the file is empty (0 bytes)", where=file.origin, fix="leave it out, or export it again")
    if file.kind == "csv.gz":
        content = formats.gunzip(content, where=file.origin, limits=limits)
    table: pa.Table = (
        formats.read_parquet(content, where=file.origin, limits=limits)
        if file.kind == "parquet"
        else formats.read_csv(content, where=file.origin, limits=limits)
    )
    return SourceBatch(file.origin, content_hash(content), lower_case_columns(table, where=file.origin))


def _read_web(url: str, policy: HttpPolicy, limits: Limits) -> bytes:
    answer, content = download_bytes(url, policy, max_bytes=limits.size)
    if answer.ok:
        return content
    what, fix = {
        401: ("access is denied", "give user and password, or a signed URL"),
        403: ("access is denied", "ask for the right to read it, or renew the signed URL"),
        404: ("no such file", "check that the URL opens in a browser"),
    }.get(answer.status, ("the server refuses", "check that the URL opens in a browser"))
    raise SourceError(f"{what} (HTTP {answer.status})", where=shown(url), fix=fix)


def _stored_files(item: str, *, may_be_empty: bool, may_be_gone: bool) -> list[_InputFile]:
    fs, path = file_system(item)
    entry = ask(item, lambda: info_of(fs, path))
    if entry is None and has_wildcard(path):
        return _globbed(fs, path, item, may_be_empty=may_be_empty)
    if entry is None and may_be_gone:
        return []
    if entry is None:
        raise SourceError(
            "no such file or folder",
            where=origin_of(fs, path, item),
            fix="check the path, and the folder it is relative to",
        )
    if entry["type"] == "directory":
        return _listed(fs, path, item, may_be_empty=may_be_empty)
    # Whoever names a file may mean a link.
    return [_stored_file(fs, path, origin_of(fs, path, item), item, entry, within="/")]


def _globbed(fs: Any, pattern: str, item: str, *, may_be_empty: bool) -> list[_InputFile]:
    matched = ask(item, lambda: fs.glob(pattern, detail=True)) or {}
    # Origins follow what the user wrote: the driver's own paths may lack the host.
    literal, written = _before_wildcard(pattern), _before_wildcard(item)
    found = [
        (path, path.removeprefix(literal).lstrip("/"), entry)
        for path, entry in sorted(matched.items())
        if entry["type"] != "directory"
    ]
    # All other matches are read or refused: a pattern is a promise about all of its files.
    wanted = [(path, below, entry) for path, below, entry in found if not any(map(is_hidden, below.split("/")))]
    if not wanted and not may_be_empty:
        fix = "check the pattern, and that the folder is readable"
        raise SourceError("no file matches", where=origin_of(fs, pattern, item), fix=fix)
    return [
        _stored_file(fs, path, origin_of(fs, path, f"{written}/{below}"), item, entry, within=literal or ".")
        for path, below, entry in wanted
    ]


def _before_wildcard(pattern: str) -> str:
    """Return the folder part before the first wildcard."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _listed(fs: Any, folder: str, item: str, *, may_be_empty: bool) -> list[_InputFile]:
    entries = ask(item, lambda: fs.ls(folder, detail=True)) or []
    wanted = sorted(
        (
            (name_of(entry["name"]), entry)
            for entry in entries
            if entry["type"] != "directory"
            and not is_hidden(name_of(entry["name"]))
            and kind_of(name_of(entry["name"]))
        ),
        key=lambda named: named[0],
    )
    if not wanted and not may_be_empty:
        raise SourceError(
            f"the folder holds no file like {READABLE}",
            where=origin_of(fs, folder, item),
            fix="put files there, or name another folder; sub-folders are reached with a glob",
        )
    return [
        _stored_file(
            fs, entry["name"], origin_of(fs, entry["name"], f"{item.rstrip('/')}/{name}"), item, entry, within=folder
        )
        for name, entry in wanted
    ]


def _stored_file(fs: Any, path: str, origin: str, item: str, listed: Mapping[str, Any], *, within: str) -> _InputFile:
    if leaves(fs, path, within):
        raise SourceError(
            "a link that leads out of the folder", where=origin, fix="remove it, or put the file in its place"
        )
    entry = listed
    if listed["type"] != "file":
        # A link is followed; what it leads to is only known now.
        found = ask(item, lambda: info_of(fs, path))
        if found is None or found["type"] != "file":
            what = "a broken link" if found is None else "neither a file nor a folder"
            raise SourceError(what, where=origin, fix="remove it, or put a file in its place")
        entry = found
    kind_of_file = _known_kind(name_of(path), where=origin)
    stored = large_files.Stored(fs, path, item, int(entry.get("size") or 0))
    return _InputFile(origin, kind_of_file, partial(_contents, fs, path, origin, item), stored)


def _contents(fs: Any, path: str, origin: str, item: str, limits: Limits) -> bytes:
    def read() -> bytes:
        # No more than the limit and a byte, whatever the storage says of the size.
        with fs.open(path, "rb") as file:
            return read_at_most(file, limits.size)

    before = ask(item, lambda: info_of(fs, path), where=origin)
    content = ask(item, read, where=origin)
    after = ask(item, lambda: info_of(fs, path), where=origin)
    if before is not None and after is not None and revision_of(before) != revision_of(after):
        raise changed_while_read(origin)
    if content is None:
        raise disappeared(origin)
    limits.require_bytes(len(content), where=origin)
    return content


def _known_kind(name: str, *, where: str) -> FileKind:
    kind = kind_of(name)
    if kind is None:
        raise SourceError("a file of unknown kind", where=where, fix=_FIX_SUFFIX)
    return kind
