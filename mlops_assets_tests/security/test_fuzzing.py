"""Whatever bytes a stranger sends, a parser gives what it promises or a readable error, and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pa_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.base import lower_case_columns
from mlops_assets.data.sources.formats import gunzip, read_csv, read_parquet
from mlops_assets.data.sources.limits import Limits
from mlops_assets.databricks.profile import load_profile
from mlops_assets.errors import PlatformError

SMALL = Limits(megabytes=1, rows=10_000, columns=50, cells=50_000)
TEXT = st.one_of(st.binary(max_size=300), st.text(alphabet='a1,."\n\r\t\0é\ufeff', max_size=200).map(str.encode))
YAML = st.one_of(st.binary(max_size=200), st.text(alphabet="name: -{}[]&*!\n'\"|>1ab", max_size=200).map(str.encode))


def whole_parquet() -> bytes:
    sink = io.BytesIO()
    pa_parquet.write_table(pa.table({"a": ["x", None, "y"], "b": [1.5, 2.5, None], "c": [1, 2, 3]}), sink)
    return sink.getvalue()


WHOLE = whole_parquet()


@given(data=TEXT)
@settings(deadline=None)
def test_csv(data: bytes):
    try:
        table = lower_case_columns(read_csv(data, where="x", limits=SMALL), where="x")
    except PlatformError:
        return
    assert table.num_rows > 0
    assert all(pa.types.is_string(kind) for kind in table.schema.types)


@given(data=TEXT, cut=st.integers(0, 40))
@settings(deadline=None)
def test_gzip(data: bytes, cut: int):
    for packed in (data, b"\x1f\x8b\x08" + data, data[cut:]):
        try:
            gunzip(packed, where="x", limits=SMALL)
        except PlatformError:
            continue


@given(at=st.integers(0, len(WHOLE) - 1), put=st.binary(min_size=1, max_size=8), cut=st.integers(0, 12))
@settings(deadline=None)
def test_parquet_with_damaged_metadata(at: int, put: bytes, cut: int):
    """A flipped byte may go unnoticed in a value; it never ends the process, and the table is within the limits."""
    damaged = (WHOLE[:at] + put + WHOLE[at + len(put) :])[: len(WHOLE) - cut]
    try:
        table = read_parquet(damaged, where="x", limits=SMALL)
    except PlatformError:
        return
    assert table.num_rows <= SMALL.rows


@given(data=YAML)
@settings(deadline=None)
def test_contracts_and_profiles(data: bytes):
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(data)
        for read in (lambda: load_contract(str(file)), lambda: load_profile(str(file), {})):
            try:
                read()
            except PlatformError:
                continue
