"""From the bytes of a CSV or Parquet file to an Arrow table, or to an error that says what is wrong with them.

What belongs here: decoding and its failures. What does not: fetching the bytes (`files`), ARFF (`arff`), column names'
case (`base`), what the columns should be (`contract`).
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from mlops_assets.data.sources.limits import DEFAULT_LIMITS, Limits, read_at_most
from mlops_assets.errors import SourceError

_T = TypeVar("_T")
Content: TypeAlias = bytes | bytearray
# Bytes of a value by Parquet's physical type; texts are measured, and those of fixed length say theirs.
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 0}
_HEADER_BYTES = 1 << 20
_BLANK = b"\xef\xbb\xbf \t\r\n"
_BLOCK_BYTES = 8 << 20
_FIX_EXPORT = "export the file again, as comma-separated UTF-8 text"
_FIX_COPY = "copy or export the file again: it is damaged, or not in the format that its name says"


def gunzip(packed: bytes, *, where: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the decompressed content of a gzip file, of which no more is decompressed than the limits allow.

    Raises:
        SourceError: It is not a gzip file, or cut off, damaged, or too large.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            content = read_at_most(cast("BinaryIO", stream), limits.size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"not a complete gzip file: {error}", where=where, fix=_FIX_COPY) from None
    limits.require_bytes(len(content), where=where)
    return content


def read_csv(text: Content, *, where: str, limits: Limits = DEFAULT_LIMITS, rows_before: int = 0) -> pa.Table:
    """Read comma-separated UTF-8 text with a header (RFC 4180; a byte order mark and blank lines are skipped).

    Args:
        text: The text.
        where: The input, for errors.
        limits: How large it may be.
        rows_before: Rows of the input between its header and the first row of this text, for errors.

    Returns:
        One string column per field of the header, values as written, null for an empty field.

    Raises:
        SourceError: No rows, rows of another length than the header, an open quote, not UTF-8 text, or too large.
    """
    limits.require_bytes(len(text), where=where)
    require_text(text, where=where)
    # Its beginning first: what is stripped is copied, and in most files that says it all.
    if not text[:_HEADER_BYTES].strip(_BLANK) and not text.strip(_BLANK):
        raise SourceError("the file is empty", where=where, fix="leave the file out, or export it again")
    require_closed(open_quote=text.count(b'"') % 2 == 1, where=where)
    text = text if b"\n" in text else text + b"\n"
    fields, problem = _try(lambda: _header_length(text), text, rows_before)
    lines = text.count(b"\n")
    if b"\r" in text:
        lines += text.count(b"\r") - text.count(b"\r\n")
    limits.require_shape(lines, fields or 0, where=where)
    table = None
    if fields is not None:
        table, problem = _try(lambda: _parse_csv(text, fields=fields), text, rows_before)
    if table is None:
        raise SourceError(problem, where=where, fix=_FIX_EXPORT)
    if not all(pa.types.is_string(kind) for kind in table.schema.types):
        raise SourceError("the header can't be read", where=where, fix=_FIX_EXPORT)
    if table.num_rows == 1:
        raise without_rows("a header", where=where)
    for column in table.columns:
        require_short(column, limits, where)
    names = [column[0].as_py() or "" for column in table.columns]
    return table.slice(1).rename_columns(names)


def require_text(text: Content, *, where: str) -> None:
    """Refuse what no text file holds; as `read_csv`."""
    if b"\0" in text:
        raise SourceError("not a text file: it contains NUL bytes", where=where, fix=_FIX_EXPORT)


def without_rows(what: str, *, where: str) -> SourceError:
    """Return the error of a file that holds what rows would stand under, and no row."""
    return SourceError(f"{what} but no rows", where=where, fix="leave the file out, or export it again")


def require_closed(*, open_quote: bool, where: str) -> None:
    """Refuse a text that ends within quotes; as `read_csv`."""
    if open_quote:
        raise SourceError("a quoted field is never closed (odd number of quotes)", where=where, fix=_FIX_EXPORT)


def read_parquet(content: bytes, *, where: str, limits: Limits = DEFAULT_LIMITS) -> pa.Table:
    """Read a Parquet file; columns keep their types.

    Raises:
        SourceError: The file is damaged or cut off, has no rows, or is too large.
    """
    limits.require_bytes(len(content), where=where)
    with whole_parquet(where):
        table = read_row_groups(lambda: pa.BufferReader(content), where=where, limits=limits)
    if table.num_rows == 0:
        raise without_rows("columns", where=where)
    return table


@contextmanager
def whole_parquet(where: str) -> Iterator[None]:
    """Turn what a damaged Parquet file raises into a `SourceError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"not a complete Parquet file: {reason}", where=where, fix=_FIX_COPY) from None


def read_row_groups(
    opened: Callable[[], Any], *, where: str, limits: Limits, groups: Sequence[int] | None = None
) -> pa.Table:
    """Read a Parquet file once its metadata promise that it is small, and its texts once their lengths are known.

    Args:
        opened: Opens the file for reading.
        where: The input, for errors.
        limits: How large the row groups together may be.
        groups: The row groups to read; None for all.
    """
    file = pa_parquet.ParquetFile(opened())
    meta, schema = file.metadata, file.schema
    groups = range(meta.num_row_groups) if groups is None else groups
    limits.require_shape(sum(meta.row_group(g).num_rows for g in groups), meta.num_columns, where=where)
    chunks = [meta.row_group(g).column(c) for g in groups for c in range(meta.num_columns)]
    # Lists hold more values than there are rows.
    limits.require("cells", sum(chunk.num_values for chunk in chunks), where=where)
    leaves = [schema.column(number) for number in range(meta.num_columns)]
    width = {leaf.path: _WIDTHS.get(leaf.physical_type, leaf.length) for leaf in leaves}
    of_numbers = sum(chunk.num_values * width[chunk.path_in_schema] for chunk in chunks)
    limits.require_bytes(of_numbers + sum(chunk.total_uncompressed_size for chunk in chunks), where=where)
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type != "DECIMAL"]
    if nested := set(texts).difference(file.schema_arrow.names):
        raise SourceError(f"{len(nested)} nested columns hold text", where=where, fix="write one column per text")
    # As a dictionary, a text that is repeated a million times is one text.
    reader = pa_parquet.ParquetFile(opened(), page_checksum_verification=True, read_dictionary=texts)
    packed = reader.read_row_groups(groups) if len(groups) else reader.read()
    limits.require_bytes(of_numbers + sum(_decoded_bytes(packed[name], limits, where) for name in texts), where=where)
    return packed.cast(file.schema_arrow)


def _decoded_bytes(column: pa.ChunkedArray, limits: Limits, where: str) -> int:
    """Return how many bytes the texts of a column have, in a column that may be one of dictionaries."""
    total = 0
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            require_short(chunk, limits, where)
            total += chunk.nbytes
            continue
        require_short(chunk.dictionary, limits, where)
        lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
        total += pc.sum(lengths, min_count=0).as_py()
    return total


def require_short(texts: pa.Array | pa.ChunkedArray, limits: Limits, where: str) -> None:
    """Refuse texts of which one is longer than a cell may be.

    Raises:
        SourceError: One is.
    """
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    limits.require("cell_kilobytes", -(-longest // 1024), where=where)


def _try(step: Callable[[], _T], text: Content, rows_before: int) -> tuple[_T | None, str]:
    """Return a step's result or the problem; the parser's own error quotes rows, so it must not be chained to ours."""
    try:
        return step(), ""
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        return None, _csv_problem(text, error, rows_before)


def _header_length(text: Content) -> int:
    # A header of a billion commas is counted no further; what is cut off may be within a character.
    start = io.BytesIO(text[:_HEADER_BYTES])
    errors = "strict" if len(text) <= _HEADER_BYTES else "ignore"
    lines = csv.reader(io.TextIOWrapper(start, encoding="utf-8-sig", errors=errors, newline=""))
    return len(next((record for record in lines if record), []))


def _parse_csv(text: Content, *, fields: int) -> pa.Table:
    # Automatic names f0, f1, ... are known before the header is; types are set by name, so that none is guessed.
    strings = {f"f{position}": pa.string() for position in range(fields)}
    return pa_csv.read_csv(
        pa.BufferReader(text),
        read_options=pa_csv.ReadOptions(
            autogenerate_column_names=True, block_size=_BLOCK_BYTES, use_threads=len(text) > _BLOCK_BYTES
        ),
        parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in text),
        convert_options=pa_csv.ConvertOptions(column_types=strings, strings_can_be_null=True, null_values=[""]),
    )


def _csv_problem(text: Content, error: Exception, rows_before: int) -> str:
    """Locate the first fault; the fast parser does not say where it is."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        line = text.count(b"\n", 0, undecodable.start) + 1 + rows_before
        return f"not UTF-8 text: line {line} holds the byte 0x{text[undecodable.start]:02x}"
    first, count = _ragged_rows(text)
    if first is not None:
        return (
            f"row {first.number + rows_before} has {_fields(first.actual_columns)}, the header (row 1) has "
            f"{first.expected_columns}; {count} such row(s), blank lines not counted"
        )
    return f"not a CSV table: {' '.join(str(error).split())[:120]}"


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _ragged_rows(text: Content) -> tuple[pa_csv.InvalidRow | None, int]:
    """Return the first row of another length than the header, and how many there are."""
    found: list[pa_csv.InvalidRow] = []
    count = 0

    def note(row: pa_csv.InvalidRow) -> str:
        nonlocal count
        count += 1
        if not found:
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
        return found[0] if found else None, count  # another fault stopped this pass; what it saw is still ragged
    return found[0] if found else None, count
