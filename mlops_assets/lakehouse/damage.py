"""Errors of Spark, delta-rs and the disk that mean damage, translated into which file it is and how to go on.

What belongs here: what such errors look like. What does not: looking for damage (`diagnostics`), errors of a catalog
(`catalog_errors`).

A damaged file comes to light in whatever reads it first: Spark's reader, its check of checksums, Delta's replay of the
log, delta-rs, Arrow. Each says it in its own words, most with a Java stack trace around them.
"""

from __future__ import annotations

import errno
import re
from pathlib import PurePosixPath
from typing import Final

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.checksums import FIX

_PATH: Final = re.compile(r"(?:file:|dbfs:)?(?P<path>/[^\s'\"`,;:()\[\]]+\.(?:parquet|json|crc|bin))")
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded|There is not enough space")
_GONE: Final = re.compile(r"FILE_NOT_EXIST|FileNotFoundException|DELTA_FILE_NOT_FOUND|Object at location .* not found")
_BROKEN: Final = re.compile(
    r"ChecksumException|Checksum error|is not a Parquet file|Parquet magic bytes|FAILED_READ_FILE|CANNOT_READ_FILE"
    r"|ParquetDecodingException|Could not read footer|JsonParseException|JsonEOFException|MALFORMED_RECORD"
    r"|Couldn't deserialize|Corrupt footer|corrupt|Invalid Parquet|Failed to parse|TProtocolException"
)
_LOG: Final = re.compile(
    r"DELTA_TRUNCATED_TRANSACTION_LOG|DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_LOG_FILE_NOT_FOUND|DELTA_STATE_RECOVER_ERROR"
    r"|Invalid JSON in log|InvalidTableVersion|Invalid table version|DELTA_CHECKPOINT_NON_EXIST_TABLE|_delta_log"
    r"|Kernel error|log segment|CRC file version"
)


def damage_of(error: BaseException) -> StorageError | None:
    """Return what an error of a reader or writer means for the user; None if it is about something else."""
    text = str(error)
    if _FULL.search(text) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return StorageError(
            "the disk is full: nothing was committed",
            where=_file_in(text) or "the disk of MLOPS_HOME, or that of temporary files",
            fix="free space and run again; `mlops upkeep` deletes files that no kept version needs",
        )
    if type(error).__module__.split(".")[0] not in ("pyspark", "py4j", "deltalake", "_internal", "pyarrow", "builtins"):
        return None
    path = _file_in(text)
    in_log = "/_delta_log/" in path
    table = PurePosixPath(path.split("/_delta_log/")[0] if in_log else path).parent.name if path else ""
    table = PurePosixPath(path.split("/_delta_log/")[0]).name if in_log else table
    if in_log or (not path and _LOG.search(text)):
        what = f"the log of {table or 'a table'} is damaged: {_condition(text)}"
        return StorageError(what, where=path or "the table's _delta_log", fix=FIX)
    if path and _GONE.search(text):
        what = f"a data file of {table} is gone: it was deleted, or vacuumed by somebody else"
    elif path and _BROKEN.search(text):
        what = f"a data file of {table} is damaged"
    else:
        return None
    return StorageError(what, where=path, fix=FIX)


def _file_in(text: str) -> str:
    found = _PATH.search(text)
    return found["path"] if found else ""


def _condition(text: str) -> str:
    """Return an error condition of Spark's, or the first line, shortened."""
    condition = re.search(r"\[([A-Z][A-Z_.]+)\]", text)
    return condition[1] if condition else (text.splitlines() or [""])[0][:160]
