"""Reads the real files that lie beside a developer's checkout; skipped where they do not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.files import FilesSource

_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not _DATA.is_dir(), reason="the real files are not beside this checkout"),
]


def test_the_handbook_months():
    contract = load_contract("handbook")
    batches = list(FilesSource(str(_DATA / "handbook_*.parquet")).batches())

    assert [Path(batch.origin).name for batch in batches] == ["handbook_2018-04.parquet", "handbook_2018-05.parquet"]
    assert sum(batch.table.num_rows for batch in batches) == 585_177
    for batch in batches:
        assert set(batch.table.column_names) == {*contract.column_names, *contract.ignored}
        assert batch.table.schema.field("tx_datetime").type == pa.timestamp("us")


def test_the_credit_card_sample():
    (batch,) = FilesSource(str(_DATA / "creditcard_sample.csv.gz")).batches()

    assert tuple(batch.table.column_names) == load_contract("creditcard").column_names
    assert batch.table.num_rows == 11_102
    assert batch.table.column("class").to_pylist().count("1") == 473
    assert batch.table.column("v1")[0].as_py() == "-1.3598071336738"
