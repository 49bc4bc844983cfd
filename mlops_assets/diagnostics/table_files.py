"""The files of a Delta table on this machine: is each one there, whole, and what its log says?

What belongs here: looking at one table's folder, read-only and without Spark. What does not: whether tables, sets and
models fit together (`consistency`), repairing anything.

Spark writes checksums beside each file on a local disk (`lakehouse/checksums`). Delta's log has the size and the number
of rows of each data file. The two together notice a file that was cut, changed in place, or replaced by another one. A
file without a checksum was written by another library; its size, rows and footer are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.lakehouse.checksums import LOG, lost_entries, wrong_checksum


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file.

    Attributes:
        version: Newest version of the table that needs the file.
        path: The file.
        what: What is wrong with it.
    """

    version: int
    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path.name} of version {self.version} {self.what}"


def check_log(table: Path) -> list[Damage]:
    """Return what is wrong with a table's log: entries that are missing, cut, changed or no JSON.

    Args:
        table: The table's folder, which has a log.
    """
    log = table / LOG
    lost = lost_entries(table)
    found = [Damage(number, log / f"{number:020d}.json", "is missing in the log") for number in lost]
    for path in sorted(entry for entry in log.iterdir() if entry.is_file() and not entry.name.startswith(".")):
        what = wrong_checksum(path) or (_no_log_entry(path) if path.suffix == ".json" else "")
        if what:
            named = path.name.split(".")[0]
            found.append(Damage(int(named) if named.isdigit() else -1, path, what))
    return found


def check_files(table: Path, versions: Iterator[int] | list[int], *, contents: bool) -> list[Damage]:
    """Return what is wrong with the data files of some versions; each file is looked at once.

    Args:
        table: The table's folder; its log is sound.
        versions: The versions that must be readable.
        contents: Whether to read every file from beginning to end, instead of its size and its footer.
    """
    from deltalake import DeltaTable

    found: dict[str, Damage] = {}
    seen: set[str] = set()
    for version in sorted(set(versions), reverse=True):
        actions = pa.table(DeltaTable(table, version=version).get_add_actions(flatten=True))
        for action in actions.to_pylist():
            name = action["path"]
            if name in seen:
                continue
            seen.add(name)
            path = table / unquote(name)
            what = _wrong_file(path, action["size_bytes"], action.get("num_records"), contents=contents)
            if what:
                found[name] = Damage(version, path, what)
    return list(found.values())


def _wrong_file(path: Path, size: int, rows: int | None, *, contents: bool) -> str:
    try:
        actual = path.stat().st_size
    except OSError:
        return "is missing"
    if actual != size:
        return f"has {actual:,} bytes instead of {size:,}"
    if contents and (what := wrong_checksum(path)):
        return what
    try:
        with pq.ParquetFile(path) as file:
            counted = file.metadata.num_rows
            if contents:
                for _ in file.iter_batches():
                    pass
    except (pa.ArrowException, OSError) as error:
        return f"can't be read ({str(error).splitlines()[0][:120]})"
    return "" if rows is None or counted == rows else f"has {counted:,} rows instead of {rows:,}"


def _no_log_entry(path: Path) -> str:
    """Return what is wrong with an entry of the log; empty if it is one JSON object per line."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        return f"is no log entry ({str(error)[:80]})"
    return "" if lines and all(isinstance(line, dict) for line in lines) else "is no log entry (no JSON objects)"
