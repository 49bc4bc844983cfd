"""Which files of a table's folder still hold a value: data, old data, log entries, checkpoints.

What belongs here: looking into files, without Spark and without trusting the log. What does not: erasing (`erasure`).

A table's log holds values, too: the smallest and the largest one of each data file. So every file is read, whether a
version needs it or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops_assets.data.columns import ORIGINAL

# Delta cuts texts in its statistics to so many characters.
_STATS_PREFIX: Final = 32
# Shorter values are part of others.
_DISTINCT: Final = 6


def files_holding(folder: Path, wanted: Mapping[str, Collection[str]]) -> list[Path]:
    """Return the files below a folder that hold one of the values.

    Args:
        folder: Folder of a table, or of a database; it may not exist.
        wanted: Values as text, by column.
    """
    wanted = {name: set(values) for name, values in wanted.items() if values}
    if not wanted:
        return []
    found = []
    for path in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        holds = _parquet_holds if path.suffix == ".parquet" else _text_holds
        if holds(path, wanted):
            found.append(path)
    return found


def _parquet_holds(path: Path, wanted: Mapping[str, Collection[str]]) -> bool:
    """Return whether a data file or a checkpoint holds a value; one that can't be read is searched as text."""
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in {*wanted, ORIGINAL, "add", "remove"}]
            table = file.read(columns=names) if names else None
    except (pa.ArrowException, OSError):
        return _text_holds(path, wanted)
    return table is not None and any(_column_holds(name, table.column(name), wanted) for name in names)


def _column_holds(name: str, column: pa.ChunkedArray, wanted: Mapping[str, Collection[str]]) -> bool:
    if pa.types.is_map(column.type):  # the original values of a row that was set aside
        rows = [dict(row) for row in column.to_pylist() if row]
        return any(
            str(row.get(key, "")).strip().removesuffix(".0") in values for row in rows for key, values in wanted.items()
        )
    if pa.types.is_nested(column.type):  # actions of the log
        return _mentions(json.dumps(column.to_pylist(), default=str), wanted)
    texts = pa.array(list(wanted.get(name, ())), pa.string())
    return bool(pc.any(pc.is_in(column.cast(pa.string()), texts)).as_py())


def _text_holds(path: Path, wanted: Mapping[str, Collection[str]]) -> bool:
    try:
        return _mentions(path.read_bytes().decode("utf-8", "replace"), wanted)
    except FileNotFoundError:  # a writer's temporary file
        return False


def _mentions(text: str, wanted: Mapping[str, Collection[str]]) -> bool:
    """Return whether JSON has a value under a column's name; it may be JSON within JSON, with its quotes escaped.

    A value that no number can be is looked for anywhere: an entry may name it in the condition of a statement.
    """
    for name, values in wanted.items():
        for value in values:
            if len(value) >= _DISTINCT and not value.isdecimal() and value in text:
                return True
            end = "" if len(value) > _STATS_PREFIX else r'(?:\.0)?(?=[\\",}\]\s]|$)'
            if re.search(rf'{re.escape(name)}\\*"\s*:\s*\\*"?{re.escape(value[:_STATS_PREFIX])}{end}', text):
                return True
    return False
