from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import _ours
from benchmarks._data import draw_points, ulb_shaped
from benchmarks._report import report
from benchmarks._sessions import LOCAL
from benchmarks.parallel_efficiency import ON_LOCAL, SIMULATED, USEFUL, WITH_DEFAULTS, Sizes, measure
from mlops_assets.training.space import search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from benchmarks._sessions import Sessions
    from mlops_assets_tests.benchmarks.conftest import Run


@pytest.mark.proof  # a measurement
def test_it_measures_and_simulates(sessions: Sessions, home: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = Sizes(rows=2_000, trials=6, rounds=2, idle_trials=4, masters=(LOCAL,))

    ratios, details, picture = measure(sessions, sizes)
    monkeypatch.setenv("MLOPS_HOME", str(home))
    report("parallel_efficiency", ratios=ratios, details=details)

    written = json.loads((home / "bench" / "parallel_efficiency.json").read_text("utf-8"))
    assert list(written["ratios"]) == [ON_LOCAL, WITH_DEFAULTS, SIMULATED, USEFUL]
    assert 0 < written["low"] <= written["ratio"] <= written["high"] <= 1
    assert len(details["trial_seconds"]) == 6
    assert 0.5 < written["details"]["simulated"]["seed_like"]["1"]["busy"] <= 1
    assert picture.startswith(b"\x89PNG")


def test_given_points_are_tried_and_metered(spark: SparkSession):
    points = draw_points(search_space("seed"), 4, seed=2)

    found = _ours.try_points(spark, *ulb_shaped(2_000), points, parallelism=2)

    assert [trial.point for trial in sorted(found.trials, key=lambda trial: trial.number)] == points
    assert all(trial.cpu_seconds > 0 and 0 < trial.base_bytes <= trial.peak_bytes for trial in found.trials)
    assert sum(trial.seconds for trial in found.trials) <= 2 * found.seconds


def test_a_failing_trial_ends_the_measurement(spark: SparkSession):
    train, validation = ulb_shaped(2_000)
    broken = type(train)(train.features[:3], train.X, train.y, train.days, None)

    with pytest.raises(RuntimeError, match="trial 0: ValueError"):
        _ours.try_points(spark, broken, validation, draw_points(search_space("seed"), 1, seed=2), parallelism=1)


@pytest.mark.proof
def test_make_bench(run: Run):
    document = run("parallel_efficiency", "--rows", "2000", "--trials", "4", "--rounds", "1")

    assert (
        len(document["ratios"]) == 5
    )  # local, local-cluster, with defaults, simulated, simulated with idle slots used
    assert all(0 < found["ratio"] <= 1 for found in document["ratios"].values())
