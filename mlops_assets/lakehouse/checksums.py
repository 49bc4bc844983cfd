"""Checksums that Spark writes beside the files of a table on a local disk, compared before anything else reads them.

What belongs here: noticing a changed, cut or missing file by the checksums beside it. What does not: sizes and row
counts that the log knows, and reports of all damages (`diagnostics/table_files`), errors of readers (`damage`).

Hadoop's `ChecksumFileSystem` writes `.name.crc` beside each file: a header, then a CRC-32 of every 512 bytes. Spark
compares them when it reads; delta-rs, which reads logs and small tables here without a JVM, does not. A single changed
byte of the manifest could be another batch id, and rows would come twice. Volumes and object stores have checksums of
their own, and no such files.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlops_assets.errors import StorageError

LOG: Final = "_delta_log"
_MAGIC: Final = b"crc\x00"
_HEAD: Final = struct.Struct(">4si")  # the magic and the bytes of a block
_CHUNK: Final = 1 << 20
# Entries that delta-rs reads for the newest version: those since the checkpoint, and this many for the history.
_LOOK_BACK: Final = 100
_NUMBERED: Final = re.compile(r"\.{0,2}(\d{20})\.(json|crc)(\.crc)?$")
FIX: Final = "restore the file from a backup; `mlops verify` names every damaged file and the versions that need it"


def wrong_checksum(path: Path) -> str:
    """Return what is wrong if a file does not have the checksums that Spark wrote beside it; empty otherwise."""
    beside = path.with_name(f".{path.name}.crc")
    try:
        content = beside.read_bytes()
    except OSError:
        return ""
    magic, size = _HEAD.unpack_from(content.ljust(_HEAD.size, b"\0"))  # one that was cut has a size of 0
    if magic != _MAGIC or size <= 0 or len(content) % 4:
        return "has a damaged checksum file beside it"
    sums = struct.unpack(f">{len(content) // 4 - 2}I", content[_HEAD.size :])
    at = 0
    with path.open("rb") as file:
        while block := file.read(size * max(1, _CHUNK // size)):
            for start in range(0, len(block), size):
                if at >= len(sums) or zlib.crc32(block[start : start + size]) != sums[at]:
                    return "was changed since it was written (wrong checksum)"
                at += 1
    return "" if at == len(sums) else "was cut (fewer bytes than its checksums are for)"


def lost_entries(table: Path) -> list[int]:
    """Return the versions whose log entry is gone: a later one, or a checksum of its own, is there.

    Args:
        table: The table's folder. Without a log nothing is lost.
    """
    names = _names(table)
    matched = [match for match in map(_NUMBERED.match, names) if match]
    there = {int(match[1]) for match in matched if match[2] == "json" and match[3] is None}
    known = {int(match[1]) for match in matched}
    # Upkeep may delete the oldest entries, once a checkpoint holds what they say.
    held = {int(name.split(".")[0]) for name in names if ".checkpoint" in name and name[0].isdigit()}
    oldest = min(there, default=-1)
    first = oldest if held and {oldest, oldest - 1} & held else 0
    return [number for number in range(first, max(known, default=-1) + 1) if number not in there]


def require_sound_log(table: Path) -> None:
    """Check the log of a table before delta-rs reads its newest version.

    Args:
        table: The table's folder; it may not exist.

    Raises:
        StorageError: An entry is missing, or a file is not what was written.
    """
    names = _names(table)
    log, name = table / LOG, table.name
    if lost := lost_entries(table):
        raise StorageError(
            f"the log of {name} is damaged: the entry of version {lost[-1]} is missing",
            where=str(log / f"{lost[-1]:020d}.json"),
            fix=FIX,
        )
    written = sorted((entry for entry in names if entry[0].isdigit()), reverse=True)
    held = max((entry.split(".")[0] for entry in written if ".checkpoint" in entry), default="")
    entries = [entry for entry in written if entry.endswith(".json")][:_LOOK_BACK]
    needed = {entry for entry in written if entry >= held} | set(entries)
    for entry in [*sorted(needed), *(n for n in names if n == "_last_checkpoint")]:
        if f".{entry}.crc" in names and (what := wrong_checksum(log / entry)):
            raise StorageError(f"the log of {name} is damaged: {entry} {what}", where=str(log / entry), fix=FIX)


def require_sound_files(table: Path, files: Iterable[Path]) -> None:
    """Check data files of a table before anything but Spark reads them.

    Args:
        table: The table's folder.
        files: The files.

    Raises:
        StorageError: A file is not what was written.
    """
    for path in files:
        try:
            what = wrong_checksum(path)
        except FileNotFoundError:
            what = "is gone: it was deleted, or vacuumed by somebody else"
        if what:
            raise StorageError(f"a data file of {table.name} {what}", where=str(path), fix=FIX)


def _names(table: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in (table / LOG).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
