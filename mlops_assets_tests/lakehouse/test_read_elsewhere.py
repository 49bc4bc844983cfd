"""The raw table says the same to every reader: Spark, delta-rs, pyarrow and DuckDB, also for times of any year."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from mlops_assets.data.contract.column import Column
from mlops_assets.data.ingest.staging import stage_load
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.lakehouse.test_reverting import KEYED, Listed

DATED = KEYED.model_copy(
    update={"columns": (KEYED.columns[0], Column(name="at", type="timestamp"), *KEYED.columns[2:])}
)
MOMENTS = {
    1: "2026-11-30T12:00:00.123456Z",
    2: "9999-12-31T23:59:59.999999Z",  # INT96 and nanoseconds end in 2262
    3: "0001-01-01T00:00:00Z",
    4: "1677-09-21T00:12:43Z",  # nanoseconds begin a second later
}
DUCKDB = """
import duckdb, json, sys
rows = duckdb.sql(f'SELECT id, epoch_us("at"), amount, fraud FROM read_parquet({sys.argv[1]}) ORDER BY id').fetchall()
print(json.dumps(rows))
"""


def microseconds(moment: datetime) -> int:
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@pytest.mark.proof  # installs DuckDB for itself
def test_every_reader_finds_the_same_rows(lakehouse: Lakehouse, tmp_path: Path):
    rows = [(key, at, key / 2, key % 2) for key, at in MOMENTS.items()]
    store = TransactionStore(lakehouse, DATED)
    with lakehouse.exclusive(RAW), lakehouse.staging(RAW) as folder:
        staged = stage_load(Listed("a", ("id", "at", "amount", "fraud"), rows), DATED, folder, [])
        store.commit(store.recover(folder), staged, folder)
    expected = [
        [key, microseconds(datetime.fromisoformat(at).replace(tzinfo=None)), key / 2, key % 2]
        for key, at in MOMENTS.items()
    ]
    names = ["id", "at", "amount", "fraud"]

    table = DeltaTable(lakehouse.location(RAW))
    plain = [pq.read_table(uri, columns=names) for uri in table.file_uris()]
    for found in (table.to_pyarrow_table(columns=names), *plain):
        ordered = found.sort_by("id").to_pylist()
        assert [[row["id"], microseconds(row["at"]), row["amount"], row["fraud"]] for row in ordered] == expected
    spark = lakehouse.read(RAW, 0).selectExpr("id", "unix_micros(at)", "amount", "fraud").orderBy("id").collect()
    assert [list(row) for row in spark] == expected
    own = tmp_path / "duckdb"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--target", str(own)]
    subprocess.run([*uv, "--python", sys.executable, "duckdb>=1.4"], check=True, timeout=300)
    asked = [sys.executable, "-c", DUCKDB, json.dumps(table.file_uris()).replace('"', "'")]
    environment = {**os.environ, "PYTHONPATH": str(own)}
    answer = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(answer.stdout) == expected
