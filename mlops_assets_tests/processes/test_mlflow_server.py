"""A real MLflow server: the models of a run are the same as with the embedded store, and its end is the run's end."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import register, tune
from mlops_assets_tests.mlflow_server import Server, running_server
from mlops_assets_tests.processes.conftest import on_shared_spark
from mlops_assets_tests.processes.control import ANSWER_SECONDS, TUNING, eventually
from mlops_assets_tests.processes.state import Tracked, embedded_store

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3 * ANSWER_SECONDS)]
# Four retries with 0, 2, 4 and 8 seconds between, twice: for the request that fails, and for the end of the run.
GIVES_UP_SECONDS = 60.0


def test_a_server_holds_what_an_embedded_store_holds_and_a_search_ends_with_it(
    undisturbed: Path, spark_resource: SparkResource, tmp_path: Path
):
    # The ledger of champions is about another registry.
    home, others = tmp_path / "home", shutil.ignore_patterns("champion_ledger")
    shutil.copytree(undisturbed / "lakehouse", home / "lakehouse", ignore=others)
    with running_server(tmp_path) as server:
        uri = server.uri.replace("://", "://user:hidden@")
        settings = Settings(home=home, source="a.csv", tracking_uri=uri)
        resources = build_resources(settings)
        lakehouse = on_shared_spark(resources["lakehouse"], settings, spark_resource)
        tracking = resources["tracking"]
        here, there = Tracked(server.store), Tracked(embedded_store(undisturbed))

        assert tune(lakehouse, tracking, TunedModelConfig(**TUNING)).failure is None
        outcome = register(lakehouse, tracking, model=settings.spec().registered_model)
        assert outcome.failure is None
        assert outcome.metadata["promoted"] is True
        (parent,) = here.parents()
        assert here.results(parent) == there.results(there.parents()[0])
        assert here.versions() == there.versions()

        with ThreadPoolExecutor() as pool:
            killed = pool.submit(kill_in_second_search, server, here)
            outcome = tune(lakehouse, tracking, TunedModelConfig(**{**TUNING, "trials": 500}))
            seconds = time.monotonic() - killed.result()

    assert "MLflow rejected a request or can't be reached" in outcome.message
    assert "Connection refused" in outcome.message
    assert server.uri in outcome.message
    assert "hidden" not in outcome.message
    assert "\n" not in outcome.message
    assert seconds < GIVES_UP_SECONDS


def kill_in_second_search(server: Server, tracked: Tracked) -> float:
    """Kill the server once the second search has a trial, and return when that was."""
    eventually(
        lambda: any(tracked.children(parent) for parent in tracked.parents()[1:]), ANSWER_SECONDS, "a second search"
    )
    server.kill()
    return time.monotonic()
