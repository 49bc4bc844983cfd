"""A search whose process was killed goes on where it was, and ends as one that was never disturbed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lineage import RESUMED_FROM_TAG, SEARCH_KEY_TAG
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets.testing.invoking import Outcome
from mlops_assets_tests.assets.harness import tune
from mlops_assets_tests.processes.conftest import on_shared_spark
from mlops_assets_tests.processes.control import ANSWER_SECONDS, TUNING, worker
from mlops_assets_tests.processes.points import Point, Then
from mlops_assets_tests.processes.state import Tracked, embedded_store

TRIALS = 12
LONGER = {**TUNING, "trials": TRIALS, "early_stopping_rounds": 3, "checkpoint_rounds": 2}


@pytest.mark.proof
@pytest.mark.timeout(3 * ANSWER_SECONDS)
def test_a_killed_search_is_resumed_and_finds_what_an_undisturbed_one_finds(
    inputs: list[Path],
    new_home: Callable[[], Path],
    undisturbed: Path,
    spark_resource: SparkResource,
    tmp_path: Path,
):
    home = new_home()
    shutil.copytree(undisturbed / "lakehouse", home / "lakehouse")
    tracked = Tracked(embedded_store(home))
    with worker(tmp_path / "worker.log") as process:
        process.begin(
            home,
            inputs[0],
            "tuned_model",
            stop_at=Point.SIXTH_TRIAL_HALF_RECORDED,
            then=Then.DIE,
            config={"tuned_model": {"config": LONGER}},
        )
        process.wait_killed()
    (killed,) = tracked.parents()
    left = tracked.children(killed)
    assert len(left) == 6

    resumed = searched(Settings(home=home, source=str(inputs[0])), spark_resource)

    assert resumed.failure is None
    assert (resumed.metadata["trials"], resumed.metadata["trials_resumed"]) == (TRIALS, 5)
    assert "5 of them resumed" in resumed.metadata["end_reason"]
    _, found = tracked.parents()
    whole = tracked.children(found)
    assert [child.info.run_name for child in whole] == [f"trial {number:03d}" for number in range(TRIALS)]
    origins = [child.data.tags.get(RESUMED_FROM_TAG, "") for child in whole]
    assert origins == [child.info.run_id for child in left[:5]] + [""] * (TRIALS - 5)
    assert found.data.tags[SEARCH_KEY_TAG] == killed.data.tags[SEARCH_KEY_TAG]

    # The same tables and a store that has never heard of the search.
    other = new_home()
    shutil.copytree(undisturbed / "lakehouse", other / "lakehouse")
    elsewhere = Settings(home=other, source=str(inputs[0]))
    straight = searched(elsewhere, spark_resource)
    reference = Tracked(embedded_store(other))
    assert straight.failure is None
    assert straight.metadata["trials_resumed"] == 0
    for name in ("best_point", "best_trial", "validation_average_precision", "threshold", "trials_pruned"):
        assert resumed.metadata[name] == straight.metadata[name], name
    assert tracked.results(found)["trials"] == reference.results(reference.parents()[0])["trials"]

    again = searched(Settings(home=home, source=str(inputs[0])), spark_resource)
    assert again.metadata["trials_resumed"] == 0, "a finished search is searched again"


def searched(settings: Settings, spark: SparkResource) -> Outcome:
    resources = build_resources(settings)
    lakehouse = on_shared_spark(resources["lakehouse"], settings, spark)
    return tune(lakehouse, resources["tracking"], TunedModelConfig(**LONGER))
