from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from benchmarks.ingest import KINDS, Case, Ours, measure, write_input

if TYPE_CHECKING:
    from mlops_assets.resources.spark import SparkResource
    from mlops_assets_tests.benchmarks.conftest import Run


@pytest.mark.proof  # a measurement
def test_both_sides_load_a_file_and_ours_accounts_for_its_bad_rows(spark_resource: SparkResource, tmp_path: Path):
    (found,) = measure(spark_resource, [Case("keyed", 2_000)], 1, tmp_path)

    assert found["bad_rows"] == 2
    assert [len(seconds) for seconds in found["seconds"].values()] == [1, 1]
    assert all(seconds[0] > 0 for seconds in found["cpu_seconds"].values())


def test_a_file_that_is_refused_ends_the_measurement(spark_resource: SparkResource, tmp_path: Path):
    write_input(Case("csv", 500), tmp_path / "input.csv", 500)

    with pytest.raises(RuntimeError, match="missing columns"):
        Ours(spark_resource, Case("keyed", 500), tmp_path / "ours").load(tmp_path / "input.csv")


def test_the_files_of_a_case_hold_different_rows_in_order_of_time(tmp_path: Path):
    case = Case("keyed", 700)
    bad = [write_input(case, tmp_path / f"{first}.parquet", 700, first=first) for first in (0, 500_000)]

    one, other = (pq.read_table(tmp_path / f"{first}.parquet") for first in (0, 500_000))
    assert bad == [1, 1]
    assert one.column("amount").to_pylist().count(-1.0) == 1
    assert not set(one.column("number").to_pylist()) & set(other.column("number").to_pylist())
    assert one.column("time").to_pylist() == sorted(one.column("time").to_pylist())
    assert max(one.column("time").to_pylist()) < min(other.column("time").to_pylist())


@pytest.mark.proof
def test_make_bench(run: Run):
    document = run("ingest", "--rows", "2000", "--rounds", "1")

    assert len(document["ratios"]) == 2 * len(KINDS)
    assert all(case["bad_rows"] == 2 for case in document["details"]["cases"])
