from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks._later_days import generated, periods, read_handbook
from benchmarks.quality import FIXED, mean_interval, promises
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.cards import simulate
from mlops_assets.errors import SourceError
from mlops_assets.training.matrix import Matrix

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


def test_a_period_is_what_is_known_on_a_day_and_the_week_after_it(tmp_path: Path):
    first, last = (each for each in periods(read_handbook(write_months(tmp_path)), 2))

    def days(rows: Matrix) -> tuple[str, str]:
        return str(DAY + int(rows.days.min())), str(DAY + int(rows.days.max()))

    assert (first.start, last.start) == (33, 54)
    assert days(last.later) == ("2018-05-25", "2018-05-31")
    assert days(last.mature) == ("2018-04-01", "2018-05-17"), "labels of the last seven days are not known"
    # 47 days without two gaps of 7 are 33, cut into 20, 6 and 7.
    assert days(last.train) == ("2018-04-01", "2018-04-20")
    assert days(last.gap) == ("2018-04-21", "2018-04-27")
    assert days(last.validation) == ("2018-04-28", "2018-05-03")
    assert days(last.test) == ("2018-05-11", "2018-05-17")
    assert last.test.days.min() - last.validation.days.max() == 8
    assert last.before_test.rows == last.train.rows + last.gap.rows + last.validation.rows
    assert first.mature.rows < last.mature.rows
    assert "tx_fraud_scenario" not in last.train.features


def test_a_share_of_the_rows_is_whole_customers(tmp_path: Path):
    table = read_handbook(write_months(tmp_path))
    (whole,), (half,) = periods(table, 1), periods(table, 1, share=0.5)

    assert whole.mature.entities is not None
    assert half.mature.entities is not None
    ids, rows = np.unique(whole.mature.entities, return_counts=True)
    kept, of_kept = np.unique(half.mature.entities, return_counts=True)
    assert 0.35 < len(kept) / len(ids) < 0.65
    assert np.array_equal(of_kept, rows[np.isin(ids, kept)])


def test_a_generated_history_knows_the_reports_of_before_the_day_and_is_judged_by_the_truth():
    period = generated(3)
    simulated = simulate(2_500, 600, period.start + 7, 3)

    later = (simulated.transactions.column("happened_at").cast("int64").to_numpy() // (86_400 * 10**6)) >= int(
        period.later.days.min()
    )
    assert (period.start, int(period.mature.days.max()) + 8) == (40, int(period.later.days.min()))
    assert period.later.frauds == int(simulated.fraud[later].sum())
    true = int(simulated.fraud[: period.mature.rows].sum())
    assert 0.9 * true < period.mature.frauds < true, "a few are never reported, or later than in a week"


def test_weeks_that_overlap_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="5 weeks after day 33 do not fit into 61 days"):
        periods(read_handbook(write_months(tmp_path)), 5)


def test_a_folder_without_the_files_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="--data FOLDER"):
        read_handbook(tmp_path)


def test_the_interval_of_a_mean_is_that_of_independent_differences():
    found = mean_interval([{"estimate": 1.0, "low": 0.0, "high": 2.0}, {"estimate": 2.0, "low": 1.0, "high": 3.0}])

    assert found == pytest.approx({"estimate": 1.5, "low": 1.5 - 2**-0.5, "high": 1.5 + 2**-0.5})


def test_a_promise_is_off_by_its_difference_to_what_came():
    days = [
        {"average_precision": {"ours": {"estimate": came}}, "promised": {"ours": {"validation": said}}}
        for came, said in ((0.5, 0.6), (0.7, 0.6))
    ]

    assert promises(days) == {"ours, validation": pytest.approx({"mean": 0.0, "error": 0.1, "mean_of_absolute": 0.1})}


@pytest.mark.proof
@pytest.mark.timeout(900)  # four ways of making a model
def test_make_bench(run: Run, tmp_path: Path):
    folder = write_months(tmp_path)

    document = run("quality", "--data", str(folder), "--trials", "4", "--days", "1", "--share", "1")

    details = document["details"]
    (day,) = details["days"]
    assert len(day["average_precision"]) == 4 + len(FIXED)
    for interval in day["average_precision"].values():
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert set(day["average_precision_ours_minus"]) == set(day["average_precision"]) - {"ours"}
    assert details["best_fixed"] in FIXED
    assert set(details["promise_missed_by"]) == {"ours, validation", "ours, rehearsal", "random, validation"}
