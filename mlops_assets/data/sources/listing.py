"""The files in a landing place that a source would read, each with a mark that changes when the file does.

What belongs here: listing, without opening a file. What does not: reading (`files`), which files were seen before and
what to do about the others (`automation/landing`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from mlops_assets.data.sources.locations import (
    has_wildcard,
    holds_secret,
    is_hidden,
    is_web,
    kind_of,
    shown,
    split_list,
)
from mlops_assets.data.sources.storage import Opener, ask, file_system, info_of, leaves, name_of, revision_of
from mlops_assets.errors import SourceError

# Times of writing among `REVISIONS`: of the local disk, S3, Azure, Google Cloud, memory.
_WRITTEN = ("mtime", "LastModified", "last_modified", "updated", "created")
_MARK_LENGTH = 12
_DAY_S = 86_400


@dataclass(frozen=True, order=True)
class LandedFile:
    """A file in the landing place.

    Attributes:
        location: How a files source reaches it: a path, or the URL it was found under.
        mark: 12 hex digits over location, size and revision or time of writing.
        day: Day on which it was last written, in days since 1970-01-01 (UTC); None if the storage does not say.
    """

    location: str
    mark: str
    day: int | None = None

    @property
    def folder(self) -> str:
        """The part of the location before its last slash."""
        return self.location.rpartition("/")[0]


def landed_files(locations: str, opened: Opener = file_system) -> list[LandedFile]:
    """List the CSV, CSV.gz and Parquet files of a landing place, sorted by location.

    Hidden files (`.`, `_`) and files of other kinds are left out: writers keep their drafts under such names. A glob
    may match nothing; a folder must be there, also that of a glob, where storage has folders. It costs one listing:
    10,000 files of a local folder take about 0.2 s.

    Args:
        locations: Folders, globs or files, separated by commas; paths or fsspec URLs.
        opened: Opens the file system of each.

    Raises:
        SourceError: A place can't be listed, does not exist, or has credentials in its URL.
    """
    found = {_marked(location, entry) for location, entry in _found(locations, opened)}
    return sorted(found, key=lambda file: (file.location, file.mark))  # three times as fast as comparing the objects


def arrived_on(locations: str, day: date) -> list[str]:
    """Return the files of a landing place that were last written on a day (UTC), oldest first.

    A file that is written again counts for that later day, and no longer for the earlier one.

    Args:
        locations: As in `landed_files`.
        day: The day, UTC.

    Raises:
        SourceError: As in `landed_files`, or a storage does not say when a file was written.
    """
    written = {location: _written_at(location, entry) for location, entry in _found(locations, file_system)}
    of_the_day = [(at, location) for location, at in written.items() if at.date() == day]
    return [location for _, location in sorted(of_the_day)]


def _found(locations: str, opened: Opener) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for item in split_list(locations):
        yield from _entries_of(item, opened)


def _entries_of(item: str, opened: Opener) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if is_web(item):
        raise SourceError(
            "web servers can't list folders", where=shown(item), fix="start `load_data` from a schedule, or by hand"
        )
    if holds_secret(item):
        raise SourceError(
            "a landing place with credentials in its URL would show them in the configuration of each run",
            where=shown(item),
            fix="give the credentials to its driver by environment variables or its configuration file",
        )
    fs, path = opened(item)
    entry = ask(item, lambda: info_of(fs, path))
    if entry is None and has_wildcard(path):
        folder = path[: _literal(path)].rstrip("/")
        if folder and _has_folders(fs) and ask(item, lambda: info_of(fs, folder)) is None:
            raise _no_folder(item)
        found: Mapping[str, Mapping[str, Any]] = ask(item, lambda: fs.glob(path, detail=True)) or {}
        return _readable(fs, found.values(), below=path[: _literal(path)])
    if entry is None:
        raise _no_folder(item)
    entries = (ask(item, lambda: fs.ls(path, detail=True)) or []) if entry["type"] == "directory" else [entry]
    return _readable(fs, entries, below=path.rpartition("/")[0] if entry["type"] != "directory" else path)


def _no_folder(item: str) -> SourceError:
    return SourceError("no such folder", where=shown(item), fix="create it, or correct MLOPS_SOURCE")


def _literal(pattern: str) -> int:
    """Return how long the folder part before the first wildcard is."""
    first = min(pattern.index(character) for character in "*?[" if character in pattern)
    return pattern.rfind("/", 0, first) + 1


def _readable(fs: Any, entries: Iterable[Mapping[str, Any]], *, below: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    is_here = _is_here(fs)
    for entry in entries:
        path = str(entry["name"])
        parts = path.removeprefix(below).strip("/").split("/")
        if entry["type"] == "directory" or kind_of(name_of(path)) is None or any(map(is_hidden, parts)):
            continue
        if leaves(fs, path, below):
            continue  # `files` refuses it, and here it would be refused again and again
        # On this machine the path is enough; elsewhere the scheme belongs to it.
        yield (path if is_here else str(fs.unstrip_protocol(path))), entry


def _marked(location: str, entry: Mapping[str, Any]) -> LandedFile:
    size, revision = revision_of(entry)
    text = f"{location}\n{size}\n{revision}"
    seconds = _written(entry)
    day = None if seconds is None else int(seconds // _DAY_S)
    return LandedFile(location, hashlib.sha256(text.encode()).hexdigest()[:_MARK_LENGTH], day)


def _written_at(location: str, entry: Mapping[str, Any]) -> datetime:
    seconds = _written(entry)
    if seconds is None:
        raise SourceError(
            "the storage does not say when the file was written",
            where=shown(location),
            fix="load it with `load_data`, which needs no day",
        )
    return datetime.fromtimestamp(seconds, UTC)


def _written(entry: Mapping[str, Any]) -> float | None:
    """Return when a file was last written, in seconds since 1970; None if the storage does not say."""
    found = next((entry[name] for name in _WRITTEN if entry.get(name) is not None), None)
    if isinstance(found, int | float):
        return found
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            return None
    if isinstance(found, datetime):
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).timestamp()
    return None


def _is_here(fs: Any) -> bool:
    return "file" in _protocols(fs)


def _has_folders(fs: Any) -> bool:
    """Return whether a folder can be there without files; in object storage it is the name of its files."""
    return _is_here(fs) or "volumes" in _protocols(fs)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
