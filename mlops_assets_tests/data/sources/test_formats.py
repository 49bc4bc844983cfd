from __future__ import annotations

import csv
import gzip
import io
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.sources.formats import gunzip, read_csv, read_parquet
from mlops_assets.errors import SourceError

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@st.composite
def _tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = draw(st.lists(_TEXT.filter(bool), min_size=2, max_size=5, unique=True))
    row = st.lists(_TEXT, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=8))


# With bare line feeds the writer leaves a carriage return unquoted, and a reader must take it for the end of a line.
_DIALECTS = st.sampled_from([(csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\r\n")])


@given(_tables(), _DIALECTS, st.booleans())
def test_csv_text_comes_back_as_written(
    table: tuple[list[str], list[list[str]]], dialect: tuple[Literal[0, 1], str], mark: bool
):
    quoting, end = dialect
    names, rows = table
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator=end).writerows([names, *rows])

    read = read_csv(out.getvalue().encode("utf-8-sig" if mark else "utf-8"), where="x")

    assert read.column_names == names
    assert set(read.schema.types) == {pa.string()}
    assert [list(row.values()) for row in _positional(read)] == [[value or None for value in row] for row in rows]


def _positional(table: pa.Table) -> list[dict[str, str | None]]:
    return table.rename_columns([str(position) for position in range(table.num_columns)]).to_pylist()


def test_values_stay_text_and_empty_ones_are_null():
    text = b'Time,"V1",Class\r\n0,-1.50,"0"\r\n\r\n1e3,,""\r\n007, x ,NA\r\n'

    assert read_csv(text, where="x").to_pydict() == {
        "Time": ["0", "1e3", "007"],
        "V1": ["-1.50", None, " x "],
        "Class": ["0", None, "NA"],
    }


def test_a_quoted_field_may_hold_commas_quotes_and_lines():
    text = b'a,b\n"1,5","say ""x""\nand y"\n'

    assert read_csv(text, where="x").to_pydict() == {"a": ["1,5"], "b": ['say "x"\nand y']}


def test_rows_beyond_one_block_are_read_in_order():
    rows = 400_000
    text = b"a,b\n" + b"".join(b"%d,some text of a row\n" % number for number in range(rows))

    table = read_csv(text, where="x")

    assert len(text) > 8 << 20
    assert table.column("a").cast(pa.int64()).to_pylist() == list(range(rows))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"a,b\n1,2\n3\n4,5\n", r"row 3 has 1 field, the header \(row 1\) has 2; 1 such"),
        (b"a,b\n1,2\n3,4,5\n6\n", r"row 3 has 3 fields, the header \(row 1\) has 2; 2 such"),
        (b'a,b\n"x\ny",2\n3\n', r"row 3 has 1 field"),
        (b"a,b\n", "a header but no rows"),
        (b"a,b", "a header but no rows"),
        (b"\n\n \r\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"a,b\n1,\xff\n", "not UTF-8 text: line 2 holds the byte 0xff"),
        (b"a,\xe9\n1,2\n", "not UTF-8 text: line 1"),
        ("a,b\n1,2\n".encode("utf-16"), "contains NUL bytes"),
        (b'a,b\n1,"x\n2,3\n', "a quoted field is never closed"),
        (b"x" * 200_000 + b"\n1\n", "not a CSV table|the header"),
    ],
)
def test_text_that_is_no_csv_table_is_refused(text: bytes, problem: str):
    with pytest.raises(SourceError, match=problem) as raised:
        read_csv(text, where="the/file.csv")
    assert raised.value.where == "the/file.csv"


def test_an_error_does_not_quote_rows():
    with pytest.raises(SourceError) as raised:
        read_csv(b"card,amount\n4000123412341234\n", where="x")
    assert "4000" not in str(raised.value)
    assert raised.value.__context__ is None


def test_gzip_comes_back():
    assert gunzip(gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n"), where="x") == b"a,b\n1,2\n"


@pytest.mark.parametrize(
    "packed",
    [
        b"a,b\n1,2\n",
        gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9],
        gzip.compress(b"a,b\n1,2\n", mtime=0)[:12] + b"\xff" * 20,
        gzip.compress(b"a,b\n1,2\n", mtime=0)[:-8] + b"\0" * 8,
    ],
    ids=["plain", "cut", "garbled", "checksum"],
)
def test_damaged_gzip_is_refused(packed: bytes):
    with pytest.raises(SourceError, match="not a complete gzip file"):
        gunzip(packed, where="x")


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()


def test_parquet_keeps_types():
    table = pa.table(
        {
            "TX_DATETIME": pa.array([0, 1], pa.timestamp("us")),
            "AMOUNT": [1.5, None],
            "ID": pa.array([1, 2], pa.int32()),
            "NAME": ["a", ""],
        }
    )

    assert read_parquet(_parquet(table), where="x").equals(table)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "head only"])
def test_damaged_parquet_is_refused(damage: str):
    whole = _parquet(pa.table({"a": list(range(5000))}))
    flipped = bytearray(whole)
    flipped[2000] ^= 0xFF
    damaged = {"cut": whole[: len(whole) // 2], "flipped": bytes(flipped), "text": b"a,b\n1,2\n", "head only": b"PAR1"}

    with pytest.raises(SourceError, match="not a complete Parquet file"):
        read_parquet(damaged[damage], where="x")


def test_parquet_without_rows_is_refused():
    with pytest.raises(SourceError, match="columns but no rows"):
        read_parquet(_parquet(pa.table({"a": pa.array([], pa.int64())})), where="x")
