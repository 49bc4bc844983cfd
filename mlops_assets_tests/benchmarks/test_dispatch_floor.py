from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from benchmarks.dispatch_floor import PARALLELISM, SPACE, seconds_per_trial
from mlops_assets.training.search.proposals import point_of
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.proof  # a measurement
def test_our_side_of_it_runs(spark: SparkSession):
    ours = EventDrivenSparkTrials(spark, PARALLELISM, partial(point_of, SPACE), lambda _: None)

    assert 0 < seconds_per_trial(ours) < 20
