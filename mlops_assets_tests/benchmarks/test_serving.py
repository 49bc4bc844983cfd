from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks._servers import process
from benchmarks.serving import RATIO, SAME_PROTOCOL_RATIO, SEED_RATIO
from benchmarks.serving_load import RATIO as THROUGHPUT_RATIO
from benchmarks.serving_load import TAIL_RATIO

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run


def test_a_server_that_does_not_start_is_no_measurement():
    with pytest.raises(RuntimeError, match="did not start"), process(["-c", "import sys; sys.exit('no')"], 1):
        pass


@pytest.mark.proof  # a measurement
def test_make_bench(run: Run):
    document = run("serving", "--requests", "20", "--rounds", "2", "--sizes", "1", "3")

    assert {RATIO, SEED_RATIO, SAME_PROTOCOL_RATIO} < set(document["ratios"])
    assert {"C API", "empty uvicorn", "ours /v1/score", "mlflow 3"} < set(document["details"]["microseconds"])


@pytest.mark.proof  # a measurement
def test_make_bench_under_load(run: Run):
    document = run("serving_load", "--seconds", "0.5", "--rounds", "2", "--connections", "2")

    assert set(document["ratios"]) == {THROUGHPUT_RATIO, TAIL_RATIO}
    assert document["details"]["swaps"] >= 2
