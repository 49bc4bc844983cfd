"""A load over executors of which some are killed, or whose driver is: what is in the tables is counted by pandas."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import pytest
from deltalake import DeltaTable

from mlops_assets.data.columns import ROW_NUMBER
from mlops_assets.diagnostics.consistency import verify_tables
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets_tests.lakehouse.load_over_cluster import PIECE_BYTES, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]

ROWS = 40_000
EXECUTOR = "CoarseGrainedExecutorBackend"
SECONDS = 240.0


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file with bad rows, keys that come twice far from each other, its copy, and small files."""
    folder, random = tmp_path_factory.mktemp("delivered"), Random(3)  # noqa: S311 - no secret
    large = pd.DataFrame(
        {
            "id": [n if n % 500 else n // 2 for n in range(ROWS)],
            "time": [float(n) for n in range(ROWS)],
            "amount": [round(random.expovariate(0.02), 2) for _ in range(ROWS)],
            "fraud": [int(random.random() < 0.01) for _ in range(ROWS)],
        }
    )
    large.loc[large.index % 97 == 0, "amount"] = -1.0
    large.to_csv(folder / "large.csv", index=False)
    large.to_csv(folder / "the same again.csv", index=False)
    for number in range(6):
        start = ROWS + 100 * number
        small = large.head(100).assign(id=range(start, start + 100), time=[float(start + n) for n in range(100)])
        small.to_csv(folder / f"small {number}.csv", index=False)
    assert (folder / "large.csv").stat().st_size > 8 * PIECE_BYTES
    return folder


def expected(folder: Path) -> tuple[pd.DataFrame, int]:
    """Return the rows that must be there, by key, and the number of bad ones."""
    names = sorted(path for path in folder.glob("*.csv") if path.name != "the same again.csv")
    rows = pd.concat([pd.read_csv(name) for name in names])
    bad = rows["amount"] < 0
    # By event time the last write of a key stands.
    good = rows[~bad].sort_values("time").drop_duplicates("id", keep="last")
    return good.sort_values("id").reset_index(drop=True), int(bad.sum())


def require_whole(home: Path, delivered: Path) -> None:
    """Compare the tables with pandas' own count, without Spark."""
    rows, bad = expected(delivered)
    root = home / "lakehouse"
    found = DeltaTable(str(root / "raw_transactions")).to_pandas()
    found = found.sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(found[list(rows.columns)], rows, check_dtype=False)
    assert (found.loc[found["id"] < ROWS, ROW_NUMBER] == found.loc[found["id"] < ROWS, "time"]).all(), "positions"
    assert len(DeltaTable(str(root / "quarantined_transactions")).to_pandas()) == bad


def begin(home: Path, location: Path | str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlops_assets_tests.lakehouse.load_over_cluster", str(home), str(location)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def executors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    below = psutil.Process(process.pid).children(recursive=True)
    found = []
    for one in below:
        try:
            if EXECUTOR in " ".join(one.cmdline()):
                found.append(one)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, f"it ended by itself with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.05)


def end_all(process: subprocess.Popen[str]) -> None:
    """Kill a driver and all that it started."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for one in below:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate(timeout=60)


def wait_for_staging(process: subprocess.Popen[str], home: Path, since: float) -> None:
    """Wait until executors have written something."""

    def begun() -> bool:
        with suppress(FileNotFoundError):  # files go while they are looked at
            return any(path.stat().st_mtime >= since for path in home.rglob("good/*.parquet"))
        return False

    wait_for(process, begun)


def test_an_executor_that_is_killed_at_work_costs_no_row_and_doubles_none(delivered: Path, tmp_path: Path):
    since, process = time.time(), begin(tmp_path, delivered)
    try:
        wait_for_staging(process, tmp_path, since)
        first = executors(process)
        assert first, "there are executors"
        first[0].kill()
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            end_all(process)

    assert process.returncode == 0
    assert said.startswith("accepted"), said
    assert "failed []" in said
    require_whole(tmp_path, delivered)


def test_a_driver_that_is_killed_again_and_again_ends_in_the_same_tables(delivered: Path, tmp_path: Path):
    random = Random(11)  # noqa: S311 - no secret
    for round_ in range(3):
        since, process = time.time(), begin(tmp_path, delivered)
        try:
            # While pieces are staged, and some time later: between the commits.
            wait_for_staging(process, tmp_path, since)
            time.sleep(round_ * random.uniform(1, 4))
        finally:
            if process.poll() is None:
                end_all(process)
    process = begin(tmp_path, delivered)
    said, _ = process.communicate(timeout=SECONDS)

    assert process.returncode == 0
    assert "failed [], lost []" in said, said
    require_whole(tmp_path, delivered)


def test_a_streams_load_that_is_killed_ends_in_the_same_tables(delivered: Path, tmp_path: Path):
    def is_listed() -> bool:
        return any(tmp_path.glob("lakehouse/_arrivals/*/lists/*/*/part-*.json"))

    for is_first in (True, False):
        since, process = time.time(), begin(tmp_path, f"{STREAM}{delivered}")
        try:
            if is_first:
                wait_for(process, is_listed)  # just found, and nothing is read
            else:
                wait_for_staging(process, tmp_path, since)
                time.sleep(3)
        finally:
            if process.poll() is None:
                end_all(process)
    process = begin(tmp_path, f"{STREAM}{delivered}")
    said, _ = process.communicate(timeout=SECONDS)

    assert process.returncode == 0
    assert "failed [], lost []" in said, said
    require_whole(tmp_path, delivered)
    assert not is_listed(), "each file is in the tables"
    tables = Lakehouse(_no_spark, database="payments", root=str(tmp_path / "lakehouse"))
    assert [finding.level for finding in verify_tables("payments", tables, None)] == ["ok"]


def _no_spark() -> SparkSession:
    raise AssertionError("`mlops verify` starts no Spark")
