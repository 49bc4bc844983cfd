"""Large files read piece by piece against the same files read at once, by our reader and by Python's own csv module."""

from __future__ import annotations

import csv
import io
import pickle
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.data.sources import formats, large_files
from mlops_assets.data.sources.base import LargeInput, content_hash
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SchemaMismatchError, SourceError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = st.text(st.sampled_from('ab,"\r\n é'), max_size=6)
ROWS = st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=30)


@pytest.fixture
def divided(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LargeInput]:
    """Return a function that writes a file and returns it as one that is read piece by piece."""
    folder = tmp_path_factory.mktemp("large")

    def make(name: str, content: bytes, *, piece_bytes: int = 40, block_bytes: int = 16) -> LargeInput:
        (folder / name).write_bytes(content)
        monkeypatch.setattr(large_files, "LARGE_BYTES", 1)
        monkeypatch.setattr(large_files, "PIECE_BYTES", piece_bytes)
        monkeypatch.setattr(large_files, "_BLOCK_BYTES", block_bytes)
        (part,) = FilesSource(str(folder / name)).divided(folder, ()).reads
        assert isinstance(part, LargeInput)
        return part

    return make


def rows_of(part: LargeInput) -> list[dict[str, Any]]:
    """Return the rows of all pieces, each read by a copy of the file's description, as an executor has one."""
    survey = part.survey()
    assert [piece.first_row for piece in survey.pieces] == np.cumsum([0, *(p.rows for p in survey.pieces)])[
        :-1
    ].tolist()
    rows = []
    for piece in survey.pieces:
        there, found = pickle.loads(pickle.dumps((part, survey)))  # noqa: S301 - our own
        rows += there.read(found, piece).to_pylist()
    assert len(rows) == survey.rows
    return rows


def text_of(rows: list[tuple[str, str]], end: str) -> str:
    """Return rows as CSV; with bare line feeds the writer would leave a carriage return in a field without quotes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL).writerows(
        [("A", "b"), *rows]
    )
    return text.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.integers(1, 90), st.integers(1, 60), st.booleans(), st.integers(0, 3))
def test_pieces_hold_the_rows_that_the_whole_file_does(
    divided: Callable[..., LargeInput],
    rows: list[tuple[str, str]],
    end: str,
    piece_bytes: int,
    block_bytes: int,
    mark: bool,
    blank: int,
):
    """Quotes, ends of lines within quotes, blank lines, a byte order mark; borders of pieces and blocks anywhere."""
    text = end * blank + text_of(rows, end)
    content = (b"\xef\xbb\xbf" if mark else b"") + text.removesuffix(end if blank else "").encode()
    whole = formats.read_csv(content, where="a.csv")

    # A block holds the header, as in a file that is large.
    part = divided("a.csv", content, piece_bytes=piece_bytes, block_bytes=block_bytes + 24)

    assert part.survey().content_hash == content_hash(content)
    assert rows_of(part) == whole.rename_columns(["a", "b"]).to_pylist()
    expected = [{"a": a or None, "b": b or None} for a, b in rows]
    assert rows_of(part) == expected, "what was written"


def test_a_parquet_file_is_divided_between_its_row_groups(divided: Callable[..., LargeInput]):
    table = pa.table({"N": range(1000), "text": [f"row {n}" for n in range(1000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=70)
    content = sink.getvalue().to_pybytes()

    part = divided("a.parquet", content, piece_bytes=3_000)

    survey = part.survey()
    assert survey.content_hash == content_hash(content)
    assert 3 < len(survey.pieces) < 15
    assert rows_of(part) == table.rename_columns(["n", "text"]).to_pylist()
    assert part().table.num_rows == 1000, "and all at once"


def test_only_large_files_whose_rows_can_be_told_apart_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        (tmp_path / name).write_bytes(b"x" * 100)

    def kinds() -> list[bool]:
        return [isinstance(part, LargeInput) for part in FilesSource(str(tmp_path)).divided(tmp_path, ()).reads]

    assert kinds() == [False, False, False]
    monkeypatch.setattr(large_files, "LARGE_BYTES", 100)
    assert kinds() == [True, False, True]
    monkeypatch.setattr(large_files, "LARGE_BYTES", 101)
    assert kinds() == [False, False, False]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a,b\n1,2\n3,4\n5\n", "row 4 has 1 field, the header .row 1. has 2"),
        (b"a,b\n1,2\n3,4\n5,\xff\n", "not UTF-8 text: line 4 holds the byte 0xff"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "a quoted field is never closed"),
        (b"a,b\n1,2\n3,\0\n", "NUL bytes"),
        (b"a,b\n\n\n", "a header but no rows"),
        (b"a,\n1,2\n", "column 2 of 2 has no name"),
    ],
)
def test_what_is_wrong_with_the_whole_is_said_of_a_piece(divided: Callable[..., LargeInput], content: bytes, what: str):
    part = divided("a.csv", content, piece_bytes=1)

    with pytest.raises(SourceError, match=what):
        part()
    with pytest.raises(SourceError, match=what):
        rows_of(part)


def test_columns_that_differ_by_case_are_refused(divided: Callable[..., LargeInput]):
    with pytest.raises(SchemaMismatchError, match="differ only by case"):
        rows_of(divided("a.csv", b"a,A\n1,2\n"))


def test_quotes_that_mislead_are_noticed(divided: Callable[..., LargeInput]):
    """To the parser these quotes are text, and to the pass over the file the end of the line lies within them."""
    content = b'a,b\n1,5" pipe\n2,6" pipe\n3,x\n4,x\n'
    assert formats.read_csv(content, where="a.csv").num_rows == 4

    with pytest.raises(SourceError, match=r"a quote stands within a field|never closed"):
        rows_of(divided("a.csv", content, piece_bytes=1))


def test_a_file_that_changes_after_the_survey_is_not_read(divided: Callable[..., LargeInput]):
    part = divided("a.csv", b"a,b\n1,2\n3,4\n")
    survey = part.survey()
    divided("a.csv", b"a,b\n1,2\n3,5\n9,9\n")

    with pytest.raises(UnreachableError, match="changed while it was read") as error:
        part.read(survey, survey.pieces[0])

    assert error.value.transient


def test_a_file_that_is_gone_after_the_survey_is_said(divided: Callable[..., LargeInput]):
    part = divided("a.csv", b"a,b\n1,2\n3,4\n")
    survey = part.survey()
    Path(part.origin).unlink()

    with pytest.raises(SourceError, match="disappeared before it was read"):
        part.read(survey, survey.pieces[0])
    with pytest.raises(SourceError, match="disappeared before it was read"):
        part()


def test_a_damaged_parquet_file_is_refused(divided: Callable[..., LargeInput]):
    with pytest.raises(SourceError, match="not a complete Parquet file"):
        divided("a.parquet", b"PAR1" + b"x" * 100).survey()


def test_memory_does_not_grow_with_the_file(divided: Callable[..., LargeInput]):
    lines = b"".join(b"%d,%d\n" % (n, n * 7919) for n in range(20_000))

    def peak(times: int) -> int:
        content = b"a,b\n" + lines * times
        part = divided("a.csv", content, piece_bytes=100_000, block_bytes=1 << 16)
        tracemalloc.start()
        survey = part.survey()
        part.read(survey, survey.pieces[-1])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(16) < 1.5 * peak(2)
