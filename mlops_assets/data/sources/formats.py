"""From the bytes of a CSV or Parquet file to an Arrow table, or to an error that says what is wrong with them.

What belongs here: decoding and its failures. What does not: fetching the bytes (`files`), ARFF (`arff`), column names'
case (`base`), what the columns should be (`contract`).
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from mlops_assets.errors import SourceError

_BLOCK_BYTES = 8 << 20
_FIX_EXPORT = "export the file again, as comma-separated UTF-8 text"
_FIX_COPY = "copy or export the file again: it is damaged, or not in the format that its name says"


def gunzip(packed: bytes, *, where: str) -> bytes:
    """Return the decompressed content of a gzip file.

    Raises:
        SourceError: It is not a gzip file, or cut off, or damaged.
    """
    try:
        return gzip.decompress(packed)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"not a complete gzip file: {error}", where=where, fix=_FIX_COPY) from None


def read_csv(text: bytes, *, where: str) -> pa.Table:
    """Read comma-separated UTF-8 text with a header (RFC 4180; a byte order mark and blank lines are skipped).

    Returns:
        One string column per field of the header, values as written, null for an empty field.

    Raises:
        SourceError: No rows, rows of another length than the header, an open quote, or not UTF-8 text.
    """
    if b"\0" in text:
        raise SourceError("not a text file: it contains NUL bytes", where=where, fix=_FIX_EXPORT)
    if not text.strip(b"\xef\xbb\xbf \t\r\n"):
        raise SourceError("the file is empty", where=where, fix="leave the file out, or export it again")
    if text.count(b'"') % 2:
        raise SourceError("a quoted field is never closed (odd number of quotes)", where=where, fix=_FIX_EXPORT)
    table, problem = _try_csv(text if b"\n" in text else text + b"\n")
    if table is None:
        raise SourceError(problem, where=where, fix=_FIX_EXPORT)
    if not all(pa.types.is_string(kind) for kind in table.schema.types):
        raise SourceError("the header can't be read", where=where, fix=_FIX_EXPORT)
    if table.num_rows == 1:
        raise SourceError("a header but no rows", where=where, fix="leave the file out, or export it again")
    names = [column[0].as_py() or "" for column in table.columns]
    return table.slice(1).rename_columns(names)


def read_parquet(content: bytes, *, where: str) -> pa.Table:
    """Read a Parquet file; columns keep their types.

    Raises:
        SourceError: The file is damaged or cut off, or has no rows.
    """
    try:
        table = pa_parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"not a complete Parquet file: {reason}", where=where, fix=_FIX_COPY) from None
    if table.num_rows == 0:
        raise SourceError("columns but no rows", where=where, fix="leave the file out, or export it again")
    return table


def _try_csv(text: bytes) -> tuple[pa.Table | None, str]:
    """Return the table or the problem; the parser's own error quotes rows, so it must not be chained to ours."""
    try:
        # The header is read as a row, so that a field count that differs from it is found by the parser itself.
        return _parse_csv(text, fields=_header_length(text)), ""
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        return None, _csv_problem(text, error)


def _header_length(text: bytes) -> int:
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(text), encoding="utf-8-sig", newline=""))
    return len(next((record for record in lines if record), []))


def _parse_csv(text: bytes, *, fields: int) -> pa.Table:
    # Automatic names f0, f1, ... are known before the header is; types are set by name, so that none is guessed.
    strings = {f"f{position}": pa.string() for position in range(fields)}
    return pa_csv.read_csv(
        pa.BufferReader(text),
        read_options=pa_csv.ReadOptions(autogenerate_column_names=True, block_size=_BLOCK_BYTES),
        parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in text),
        convert_options=pa_csv.ConvertOptions(column_types=strings, strings_can_be_null=True, null_values=[""]),
    )


def _csv_problem(text: bytes, error: Exception) -> str:
    """Locate the first fault; the fast parser does not say where it is."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        line = text.count(b"\n", 0, undecodable.start) + 1
        return f"not UTF-8 text: line {line} holds the byte 0x{text[undecodable.start]:02x}"
    ragged = _ragged_rows(text)
    if ragged:
        first = ragged[0]
        return (
            f"row {first.number} has {_fields(first.actual_columns)}, the header (row 1) has {first.expected_columns}; "
            f"{len(ragged)} such row(s), blank lines not counted"
        )
    return f"not a CSV table: {' '.join(str(error).split())[:120]}"


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _ragged_rows(text: bytes) -> list[pa_csv.InvalidRow]:
    found: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        found.append(row)
        return "skip"

    # Row numbers are only known when one thread reads.
    try:
        pa_csv.read_csv(
            pa.BufferReader(text),
            read_options=pa_csv.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in text, invalid_row_handler=note),
        )
    except pa.ArrowInvalid:
        return found  # another fault stopped this pass; the rows it saw before are still ragged
    return found
