"""How much of the raw table Spark reads to write the three sets: the files that are left in each plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from mlops_assets.assets.sources import FileTransactions
from mlops_assets.assets.splits import SplitConfig
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.session_settings import session_settings
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets_tests.assets.harness import load, split
from mlops_assets_tests.lakehouse.load_over_cluster import CONTRACT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from mlops_assets.data.contract.column import ColumnType
    from mlops_assets.lakehouse.commits import TableVersion

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]  # reason: a load and a cut
FILES, ROWS = 12, 1_200


@pytest.mark.parametrize("clock", ["double", "timestamp"])
def test_the_sets_together_read_each_file_about_once(
    lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ColumnType
):
    types = {"time": clock}
    columns = [one.model_copy(update={"type": types.get(one.name, one.type)}) for one in CONTRACT.columns]
    contract = CONTRACT.model_copy(update={"columns": tuple(columns), "key": None})
    hours = pd.Series(range(ROWS)) * 3600.0
    frauds = [int(number % 10 == 0) for number in range(ROWS)]
    rows = pd.DataFrame({"id": range(ROWS), "time": hours, "amount": 1.0, "fraud": frauds})
    if clock == "timestamp":
        rows["time"] = pd.to_datetime(hours, unit="s", utc=True)
    rows.to_parquet(tmp_path / "a.parquet")
    # One file after the other in time, as of days that came one by one.
    with session_settings(spark, {"spark.sql.files.maxRecordsPerFile": str(ROWS // FILES)}, purpose="a test"):
        assert load(lakehouse, FileTransactions(location=str(tmp_path / "a.parquet")), contract).failure is None
    assert len(DeltaTable(lakehouse.location(RAW)).file_uris()) == FILES
    folder, read, replace = Path(lakehouse.location(RAW)), dict[str, int](), Lakehouse.replace

    def replacing(self: Lakehouse, name: str, rows: DataFrame, **more: Any) -> TableVersion:
        read[name] = sum((folder / Path(file).name).stat().st_size for file in rows.inputFiles())
        return replace(self, name, rows, **more)

    monkeypatch.setattr(Lakehouse, "replace", replacing)
    outcome = split(lakehouse, SplitConfig(min_rows=10), contract)
    assert outcome.failure is None, outcome.message
    assert read.keys() == set(SET_TABLES.values())
    share = sum(read.values()) / sum(file.stat().st_size for file in folder.glob("*.parquet"))
    assert 1 <= share <= 1.3, read
