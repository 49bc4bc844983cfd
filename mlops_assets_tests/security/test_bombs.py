"""A small file that becomes a large one is refused before memory or time is taken for it.

The light tests set small limits; the proofs send the real bombs through the default ones, with little memory.
"""

from __future__ import annotations

import gzip
import io
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from mlops_assets.data.sources.arff import read_arff
from mlops_assets.data.sources.base import lower_case_columns
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.data.sources.formats import gunzip, read_csv, read_parquet
from mlops_assets.data.sources.limits import MIB, Limits
from mlops_assets.errors import SettingsError, SourceError
from mlops_assets.settings import Settings

SMALL = Limits(megabytes=1, rows=1_000, columns=10, cells=5_000, cell_kilobytes=2)


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pa_parquet.write_table(table, sink, **options)
    return sink.getvalue()


def repeated(text: str, rows: int) -> pa.Table:
    """One text, repeated: a dictionary of one entry, and a few bytes of indices."""
    indices = pa.repeat(pa.scalar(0, pa.int32()), rows)
    return pa.table({"a": pa.DictionaryArray.from_arrays(indices, pa.array([text]))})


LIST = pa.list_(pa.int8())
BOMBS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "gzip": (lambda: gzip.compress(b"a\n" + b"1\n" * MIB), "csv.gz", "megabytes"),
    "two gzips in one": (lambda: gzip.compress(b"a\n" * 400_000) * 2, "csv.gz", "megabytes"),
    "text": (lambda: b"a\n" + b"1\n" * MIB, "csv", "megabytes"),
    "rows of text": (lambda: b"a\n" + b"1\n" * 1_000, "csv", "rows"),
    "rows of an old Macintosh": (lambda: b"a\r" + b"1\r" * 1_000, "csv", "rows"),
    "columns of text": (lambda: b"a," * 10 + b"a\n" + b"1," * 10 + b"1\n", "csv", "columns"),
    "commas": (lambda: b"," * (MIB - 1), "csv", "columns"),
    "cells of text": (lambda: b"a,b,c,d,e,f\n" + b"1,2,3,4,5,6\n" * 999, "csv", "cells"),
    "a long cell": (lambda: b"a,b\n1," + b"x" * 3_000 + b"\n", "csv", "kilobytes"),
    "a long name": (lambda: b"x" * 3_000 + b",b\n1,2\n", "csv", "kilobytes"),
    "rows of Parquet": (lambda: parquet(pa.table({"a": pa.repeat(1.0, 1_001)})), "parquet", "rows"),
    "columns of Parquet": (lambda: parquet(pa.table({f"c{n}": [1] for n in range(11)})), "parquet", "columns"),
    "lists": (lambda: parquet(pa.table({"a": pa.array([[None] * 6_000], LIST)})), "parquet", "cells"),
    "a dictionary": (lambda: parquet(repeated("x" * 2_000, 900)), "parquet", "megabytes"),
    "a long text": (lambda: parquet(repeated("x" * 3_000, 2)), "parquet", "kilobytes"),
    "texts in lists": (lambda: parquet(pa.table({"a": [["x" * 1_000] * 9]})), "parquet", "nested"),
}  # fmt: skip


def decode(content: bytes, kind: str, limits: Limits) -> pa.Table:
    if kind == "csv.gz":
        content = gunzip(content, where="x", limits=limits)
    return (
        read_parquet(content, where="x", limits=limits)
        if kind == "parquet"
        else read_csv(content, where="x", limits=limits)
    )


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_by_the_limit_that_it_breaks(bomb: str):
    make, kind, limit = BOMBS[bomb]

    with pytest.raises(SourceError, match=limit):
        decode(make(), kind, SMALL)


@pytest.mark.parametrize("bomb", [name for name in BOMBS if name not in ("commas", "texts in lists")])
def test_the_same_file_is_read_where_it_is_expected(bomb: str):
    make, kind, _ = BOMBS[bomb]

    assert decode(make(), kind, Limits()).num_rows > 0


def test_a_file_at_the_limits_is_read_with_its_types(tmp_path: Path):
    table = pa.table(
        {
            "text": pa.array(["x" * 2_000] * 50),
            "large": pa.array(["y", None] * 25, pa.large_string()),
            "bytes": pa.array([b"z"] * 50),
            "category": pa.array(["a", "b"] * 25).dictionary_encode(),
            "number": pa.array(range(50), pa.int64()),
            "money": pa.array([1] * 50, pa.decimal128(9, 2)),
            "when": pa.array([0] * 50, pa.timestamp("us", "UTC")),
        }
    )
    (tmp_path / "a.parquet").write_bytes(parquet(table))

    (batch,) = FilesSource(str(tmp_path), limits=SMALL).batches()

    assert batch.table.equals(pa_parquet.read_table(tmp_path / "a.parquet").replace_schema_metadata(None))


def test_a_file_is_not_read_beyond_the_limit(tmp_path: Path):
    """It is sparse: nothing of it is on the disk."""
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(SourceError, match="more than 1 megabytes"):
        list(FilesSource(str(tmp_path / "a.csv"), limits=SMALL).batches())


def seconds_for(columns: int) -> float:
    names = [f"c{number}" for number in range(columns)]
    table = pa.table([pa.array([1])] * columns, names=names)
    before = time.process_time()
    lower_case_columns(table, where="x")
    return time.process_time() - before


def test_work_on_columns_grows_with_their_number():
    """20,000 took 7.8 s of this process, and each ten times more a hundred times that."""
    assert seconds_for(20_000) < 1


@pytest.mark.parametrize(
    "text",
    ['{"rows": 0}', '{"lines": 5}', '{"rows": -1}', "7", '{"rows": "many"}'],
)
def test_a_limit_that_is_none_is_a_readable_error(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("MLOPS_INPUT_LIMITS", text)

    with pytest.raises(SettingsError, match="MLOPS_INPUT_LIMITS"):
        Settings.from_environment()


def test_a_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_INPUT_LIMITS", '{"rows": 5}')

    assert Settings.from_environment().limits == Limits(rows=5)


# --- with little memory -----------------------------------------------------------------------------------------------

_READ = """
import resource, sys
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SourceError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), ) * 2)
try:
    for batch in FilesSource(sys.argv[1]).batches():
        print("read", batch.table.num_rows)
except SourceError as error:
    print("refused:", error)
"""


def zeros(count: int) -> bytes:
    """Return gzip of `count` MiB of rows of CSV, made a MiB at a time."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=9) as packed:
        packed.write(b"a\n")
        for _ in range(count):
            packed.write(b"1\n" * (MIB // 2))
    return sink.getvalue()


REAL: dict[str, tuple[Callable[[], bytes], str]] = {
    "gzip": (lambda: zeros(4_096), "csv.gz"),
    "rows": (lambda: parquet(pa.table({"a": pa.repeat(1.0, 30_000_000)}), compression="zstd"), "parquet"),
    "dictionary": (lambda: parquet(repeated("x" * 60_000, 5_000_000), compression="zstd"), "parquet"),
    "columns": (lambda: (b"a," * 1_000_000)[:-1] + b"\n" + (b"1," * 1_000_000)[:-1] + b"\n", "csv"),
}


@pytest.mark.proof  # gigabytes are decompressed
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only /proc shows how much is used")
@pytest.mark.parametrize("bomb", REAL)
def test_a_real_bomb_is_refused_with_little_memory(tmp_path: Path, bomb: str):
    make, kind = REAL[bomb]
    content = make()
    assert len(content) < 5 * MIB
    (tmp_path / f"bomb.{kind}").write_bytes(content)
    little = 5_000 if bomb == "gzip" else 400  # the limit is 2,048 MiB, and a bytes object is enlarged by copying

    command = [sys.executable, "-c", _READ, str(tmp_path / f"bomb.{kind}"), str(little * MIB)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert answer.stdout.startswith("refused: too large"), answer.stdout + answer.stderr[-2_000:]
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("columns", "rows", "cell", "text"),
    [
        (2_001, 2, "1", "more than 2,000 columns"),
        (2, 2, "x" * 70_000, "in a text: "),
        (1, 40, "1", "more than 30 rows"),
    ],
)
def test_an_arff_file_has_the_limits_of_other_files(columns: int, rows: int, cell: str, text: str):
    kind = "string" if cell.startswith("x") else "numeric"
    head = "".join(f"@attribute a{number} {kind}\n" for number in range(columns))
    content = f"@relation r\n{head}@data\n" + (",".join([cell] * columns) + "\n") * rows

    with pytest.raises(SourceError, match=text):
        read_arff(content.encode(), where="x", limits=Limits(rows=30))
