"""The main job on the loopback workspace by Pipes, and the same job on embedded Spark; see `main_job_ways`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets_tests.databricks.main_job import Finished
from mlops_assets_tests.databricks.main_job_ways import (
    Way,
    check_that_a_blocking_check_stops_what_follows,
    check_the_main_job,
    run_here,
)

pytestmark = [
    pytest.mark.proof,  # launched steps with Spark
    pytest.mark.timeout(1200),
]
WAYS = [
    pytest.param(Way("pipes", ""), id="path"),
    pytest.param(Way("pipes", "spark_catalog"), id="catalog"),
    pytest.param(Way("pipes", "spark_catalog", serverless=True), id="serverless"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Finished:
    return run_here(tmp_path_factory.mktemp("here") / "local", shared_home)


@pytest.mark.parametrize("way", WAYS)
def test_the_main_job_is_the_same(tmp_path: Path, here: Finished, shared_home: Path, way: Way):
    check_the_main_job(tmp_path, here, shared_home, way)


def test_a_blocking_check_stops_what_follows(tmp_path: Path, shared_home: Path):
    check_that_a_blocking_check_stops_what_follows(tmp_path, shared_home, "pipes")
