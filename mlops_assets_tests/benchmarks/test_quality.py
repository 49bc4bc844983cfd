from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.quality import best_kappa_threshold, cut, read_handbook
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SourceError
from mlops_assets.evaluation.metrics import best_kappa, kappa

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run

DAY = np.datetime64("1970-01-01", "D")


def like_the_handbook(rows: int) -> pa.Table:
    """April and May, evenly spaced, with one column that tells something of frauds."""
    random = np.random.default_rng(3)
    contract = load_contract("handbook")
    fraud = (random.random(rows) < 0.2).astype(np.int64)
    start, span = datetime(2018, 4, 1), timedelta(days=61)  # noqa: DTZ001 - the files' times have no zone
    columns: dict[str, object] = {name: random.random(rows) for name in contract.features}
    columns["tx_amount"] = np.round(20 + 30 * fraud + 20 * random.standard_normal(rows) ** 2, 2)
    columns["TX_DATETIME"] = [start + span * (number / rows) for number in range(rows)]
    columns["customer_id"] = random.integers(0, 300, rows)
    columns["tx_fraud"] = fraud
    return pa.table(columns)


def write_months(folder: Path, rows: int = 3_000) -> Path:
    table = like_the_handbook(rows)
    pq.write_table(table.slice(0, rows // 2), folder / "handbook_2018-04.parquet")
    pq.write_table(table.slice(rows // 2), folder / "handbook_2018-05.parquet")
    return folder


def test_rows_are_cut_in_time_with_the_label_delay_left_out(tmp_path: Path):
    sets = cut(read_handbook(write_months(tmp_path)))

    days = [
        (str(DAY + int(each.days.min())), str(DAY + int(each.days.max())))
        for each in (sets.train, sets.validation, sets.test)
    ]
    assert days == [("2018-04-01", "2018-04-30"), ("2018-05-08", "2018-05-14"), ("2018-05-22", "2018-05-31")]
    assert "tx_fraud_scenario" not in sets.train.features


def test_a_folder_without_the_files_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="--data FOLDER"):
        read_handbook(tmp_path)


def test_the_threshold_reaches_the_best_kappa():
    random = np.random.default_rng(1)
    y = (random.random(500) < 0.1).astype(np.uint8)
    scores = np.round(0.4 * y + 0.6 * random.random(500), 2).astype(np.float32)  # many ties

    assert kappa(y, scores, best_kappa_threshold(y, scores)) == pytest.approx(best_kappa(y, scores))


@pytest.mark.proof
def test_make_bench(run: Run, tmp_path: Path):
    folder = write_months(tmp_path)

    document = run("quality", "--data", str(folder), "--trials", "2", "--rounds", "1")

    (found,) = document["details"]["rounds"]
    for metrics in found["metrics"].values():
        for metric in ("average_precision", "kappa", "brier"):
            assert metrics[metric]["low"] <= metrics[metric]["estimate"] <= metrics[metric]["high"]
    assert set(found["average_precision_ours_minus"]) == {"recipe", "random"}
