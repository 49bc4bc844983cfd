r"""Dense ARFF to an Arrow table of strings.

What belongs here: the grammar (https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/). What does not:
where the bytes come from (`openml`), what the columns should be (`contract`).

The reader is strict: names, nominal values and strings with blanks must be quoted, each row has a value per attribute,
a nominal value must be among those declared. Sparse rows, relational attributes and instance weights are refused.

Most files need none of the grammar's subtleties in their rows. Those go through Arrow's CSV parser, several times
faster than a tokenizer in Python; any doubt sends a file to the tokenizer, which also writes the error messages.

liac-arff (2.5.0, of 2020) is not used. It knows no date attributes and no `@attribute d{0,1}` without a blank, reads
sparse rows as dense ones, names no line in its errors, turns numbers into floats so that one unreadable value fails the
whole file, and takes 24 s where this module takes 6 s (285,000 rows of 31 columns, 128 MB).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from mlops_assets.data.sources.formats import require_short
from mlops_assets.data.sources.limits import DEFAULT_LIMITS, Limits
from mlops_assets.errors import SourceError

_FIX = "download the file again; if it fails again, convert it to CSV or Parquet and load that"
_SINGLE = r"'((?:[^'\\]|\\.)*)'"
_DOUBLE = r'"((?:[^"\\]|\\.)*)"'
_FIELD = re.compile(rf"""[ \t]*(?:{_SINGLE}|{_DOUBLE}|([^ \t\r\n,'"{{}}%\\]*))[ \t]*(,|\Z)""")
_ATTRIBUTE = re.compile(rf"@attribute\s+(?:{_SINGLE}|{_DOUBLE}|([^\s,'\"{{}}%]+))\s*(\S.*)$", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_ROWS_PER_BATCH = 50_000


@dataclass(frozen=True)
class _Attribute:
    name: str
    nominal: tuple[str, ...] | None


def read_arff(content: bytes, *, where: str, limits: Limits = DEFAULT_LIMITS) -> pa.Table:
    """Read a dense ARFF file.

    Args:
        content: The file, UTF-8.
        where: Name of the file in errors.
        limits: How large it may be.

    Returns:
        One string column per attribute under its own name, values unquoted, null for `?` and for an empty value.

    Raises:
        SourceError: Not ARFF, not UTF-8, sparse, too large, or rows that do not fit the attributes.
    """
    limits.require_bytes(len(content), where=where)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"not UTF-8 text: line {line} can't be decoded", where=where, fix=_FIX) from None
    attributes, header_lines, data = _header(content, where)
    limits.require_shape(data.count(b"\n"), len(attributes), where=where)
    rows = _without_comments(data)
    table = _read_plain(rows, attributes) if _is_plain(rows) else None
    if table is None:
        table = _tokenized(rows, attributes, first_line=header_lines + 1, where=where)
    if table.num_rows == 0:
        raise SourceError("no rows after @data", where=where, fix=_FIX)
    for position, attribute in enumerate(attributes):
        _check_nominal(table.column(position), attribute, where)
        require_short(table.column(position), limits, where)
    return table.rename_columns([attribute.name for attribute in attributes])


def _header(content: bytes, where: str) -> tuple[list[_Attribute], int, bytes]:
    """Return the attributes, the number of lines up to @data, and the bytes after it."""
    attributes: list[_Attribute] = []
    start, number, named = 0, 0, False
    content = content.removeprefix(b"\xef\xbb\xbf")
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        number += 1
        line = content[start:end].decode().strip()
        start = end + 1
        keyword = line.lower()
        if not line or line.startswith("%"):
            continue
        if keyword.startswith("@relation") and not named:
            named = True
        elif keyword.startswith("@attribute") and named:
            attributes.append(_attribute(line, number, where))
        elif keyword == "@data" and attributes:
            return attributes, number, content[start:]
        else:
            raise SourceError(f"line {number} is not part of an ARFF header: {line[:40]!r}", where=where, fix=_FIX)
    raise SourceError("no @data line: not an ARFF file, or cut off", where=where, fix=_FIX)


def _attribute(line: str, number: int, where: str) -> _Attribute:
    match = _ATTRIBUTE.match(line)
    kind = match[4].strip() if match else ""
    name = next((group for group in match.groups()[:3] if group is not None), "") if match else ""
    if kind.startswith("{") and kind.endswith("}"):
        values = _fields(kind[1:-1].strip())
        if values and None not in values:
            return _Attribute(_unescaped(name), tuple(value for value in values if value is not None))
    elif re.fullmatch(r"(numeric|real|integer|string|date(\s.*)?)", kind, re.IGNORECASE):
        return _Attribute(_unescaped(name), None)
    raise SourceError(f"line {number} declares no dense attribute: {line[:60]!r}", where=where, fix=_FIX)


def _without_comments(data: bytes) -> bytes:
    """Blank the lines that are comments, keeping their place so that line numbers stay true."""
    if b"%" not in data:
        return data
    return b"\n".join(b"" if line.lstrip().startswith(b"%") else line for line in data.split(b"\n"))


def _is_plain(rows: bytes) -> bool:
    """Return whether Arrow's CSV parser reads the rows exactly as the grammar does.

    It does when there are no blanks, escapes or braces, and any single quotes enclose whole values.
    """
    if any(sign in rows for sign in (b" ", b"\t", b'"', b"\\", b"%", b"{", b"}")):
        return False
    if rows.count(b"\r") != rows.count(b"\r\n"):
        return False
    padded = np.frombuffer(b"\n" + rows + b"\n", dtype=np.uint8)
    quotes = np.flatnonzero(padded == ord("'"))
    edges = np.frombuffer(b",\r\n", dtype=np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    newlines = np.flatnonzero(padded == ord("\n")) if len(quotes) else quotes
    on_one_line = np.searchsorted(newlines, opening) == np.searchsorted(newlines, closing)
    whole = np.isin(padded[opening - 1], edges) & np.isin(padded[closing + 1], edges)
    return bool((on_one_line & whole).all())


def _read_plain(rows: bytes, attributes: list[_Attribute]) -> pa.Table | None:
    """Return the rows as read by Arrow, or None if it can't read them."""
    names = [str(position) for position in range(len(attributes))]
    try:
        return pa_csv.read_csv(
            pa.BufferReader(rows),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=8 << 20),
            parse_options=pa_csv.ParseOptions(quote_char="'", double_quote=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=["", "?"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None  # the tokenizer says which line, and why


def _tokenized(rows: bytes, attributes: list[_Attribute], *, first_line: int, where: str) -> pa.Table:
    schema = pa.schema([(str(position), pa.string()) for position in range(len(attributes))])
    batches: list[pa.RecordBatch] = []
    pending: list[list[str | None]] = []
    for number, raw in enumerate(rows.split(b"\n"), start=first_line):
        line = raw.decode().strip(" \t\r")
        if not line:
            continue
        if line.startswith("{"):
            raise SourceError(f"line {number} is a sparse row: only dense ARFF is read", where=where, fix=_FIX)
        values = _fields(line)
        if values is None:
            what = f"line {number} is not a list of values (an open quote, or a value that needs quotes)"
            raise SourceError(what, where=where, fix=_FIX)
        if len(values) != len(attributes):
            what = f"line {number} has {len(values)} values for {len(attributes)} attributes"
            raise SourceError(what, where=where, fix=_FIX)
        pending.append(values)
        if len(pending) == _ROWS_PER_BATCH:
            batches.append(_batch(pending, schema))
            pending = []
    if pending:
        batches.append(_batch(pending, schema))
    return pa.Table.from_batches(batches, schema)


def _batch(rows: list[list[str | None]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.string()) for values in zip(*rows, strict=True)], schema=schema)


def _fields(line: str) -> list[str | None] | None:
    """Split one line into values, None for a missing one; None instead of a list if the line breaks the grammar."""
    values: list[str | None] = []
    position = 0
    while match := _FIELD.match(line, position):
        single, double, bare, separator = match.groups()
        quoted = single if single is not None else double
        values.append(_unescaped(quoted) if quoted is not None else bare if bare not in ("", "?") else None)
        position = match.end()
        if not separator:
            return values
    return None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _CONTROLS.get(code, code)


def _check_nominal(values: pa.ChunkedArray, attribute: _Attribute, where: str) -> None:
    if attribute.nominal is None:
        return
    foreign = pc.invert(pc.is_in(values, value_set=pa.array([*attribute.nominal, None], pa.string())))
    count = pc.sum(foreign).as_py()
    if count:
        example = values.filter(foreign)[0].as_py()
        what = f"{count} value(s) of {attribute.name} are not among those declared, {example[:40]!r} for one"
        raise SourceError(what, where=where, fix=_FIX)
