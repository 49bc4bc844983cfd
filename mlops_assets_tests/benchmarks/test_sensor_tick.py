from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from benchmarks.sensor_tick import FILES_RATIO, VERSIONS_RATIO, landing

if TYPE_CHECKING:
    from mlops_assets_tests.benchmarks.conftest import Run


def test_a_tick_that_finds_something_new_is_no_measurement(tmp_path: Path, instance: dg.DagsterInstance):
    tick = landing(tmp_path / "landing", 3, instance)
    tick()

    (tmp_path / "landing" / "new.csv").write_text("x")

    with pytest.raises(RuntimeError, match="something new"):
        tick()


@pytest.mark.proof  # a measurement
def test_make_bench(run: Run):
    document = run("sensor_tick", "--files", "20", "2", "--versions", "3", "1", "--rounds", "2")

    assert {FILES_RATIO, VERSIONS_RATIO} < set(document["ratios"])
    assert set(document["details"]["seconds"]) == {
        *(f"{kind} {count}" for kind in ("files", "listing") for count in (2, 20)),
        *(f"versions {count}" for count in (1, 3)),
    }
