"""What a run says of its models, read from a real store."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import (
    DATABASE_TAG,
    EVALUATION_FILE,
    MODEL_URI_TAG,
    PRODUCTION_FILE,
    PRODUCTION_MODEL_URI_TAG,
    PRODUCTION_SCORES_FILE,
    SCORES_FILE,
    SPLIT_ID_TAG,
    TEST_VERSION_TAG,
)
from mlops_assets.registry.tuned_run import ITSELF, REHEARSAL, TunedRun
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.runs import TableInput
from mlops_assets.tracking.store import Store
from mlops_assets.training.members import Bag

TAGS = {DATABASE_TAG: "db", MODEL_URI_TAG: "models:/m-1", SPLIT_ID_TAG: "abc", TEST_VERSION_TAG: "3"}
POINT = {"max_depth": 5, "learning_rate": 0.1 + 0.2}


def threshold(value: float) -> dict[str, object]:
    return {"value": value, "rule": "cost", "setting": 10.0, "alerts": 3, "rows": 100}


@pytest.fixture
def store(tracking: Tracking) -> Store:
    return tracking.connect()


def recorded(store: Store, *, production: bool) -> str:
    """Return a run that `tuned_model` could have left."""
    report = {"metrics": {"average_precision": {"estimate": 0.7}}, "threshold": threshold(0.4)}
    files = {EVALUATION_FILE: json.dumps(report).encode()}
    tags = dict(TAGS)
    if production:
        again = {
            "rehearsed_average_precision": 0.72,
            "threshold": threshold(0.3),
            "point": POINT,
            "trees": 9,
            "rows": 90,
        }
        files[PRODUCTION_FILE] = json.dumps(again).encode()
        tags[PRODUCTION_MODEL_URI_TAG] = "models:/m-2"
    with store.open_run("search", tags) as run:
        run.log_files(files)
        run.log(params={**POINT, "trees": 7, "space": json.dumps({name: [1, 9] for name in POINT})})
        run.log_inputs([TableInput("train_set", "/tables/train_set", 0, "training")])
    return run.run_id


def test_an_evaluated_model_stands_for_itself(store: Store):
    run = TunedRun.read(store, recorded(store, production=False))

    assert (run.judged, run.average_precision, run.served_scores) == (ITSELF, 0.7, SCORES_FILE)
    assert run.production_uri == ""
    assert run.point == POINT, "to the last bit"
    assert run.tables == {"train_set": 0}
    assert run.threshold(production=False).value == 0.4
    with pytest.raises(TrackingError, match="it has no production model"):
        run.threshold(production=True)


def test_the_rehearsal_stands_for_a_production_model(store: Store):
    run = TunedRun.read(store, recorded(store, production=True))

    assert (run.judged, run.average_precision, run.served_scores) == (REHEARSAL, 0.72, PRODUCTION_SCORES_FILE)
    assert run.production_uri == "models:/m-2"
    assert run.point == POINT
    assert run.threshold(production=True).value == 0.3


def test_a_run_that_is_gone_or_is_no_search_is_refused(store: Store):
    with store.open_run("something else", {DATABASE_TAG: "db"}) as other:
        pass

    with pytest.raises(TrackingError, match=r"it has no mlops_assets_model_uri"):
        TunedRun.read(store, other.run_id)
    with pytest.raises(TrackingError, match="the run is gone"):
        TunedRun.read(store, "0" * 32)


def test_what_a_point_is_fitted_with_again_is_on_record_and_older_runs_have_one_model(store: Store):
    run = TunedRun.read(store, recorded(store, production=True))
    assert run.production is not None
    older = dataclasses.replace(run, params={"seed": "42"})
    newer = dataclasses.replace(
        run, params={"seed": "42", "bagging": "3"}, production={**run.production, "counted_rows": 36.0}
    )

    assert (older.bag, older.trees_per_row) == (Bag(run.point, None, size=1, seed=42), 0.1)
    assert (newer.bag, newer.trees_per_row) == (Bag(run.point, None, size=3, seed=42), 0.25)
    anchor = {"n_estimators": 300, "max_depth": 5}
    anchored = dataclasses.replace(newer, params={**newer.params, "anchor": json.dumps(anchor)})
    assert anchored.bag.anchor == anchor
    with pytest.raises(TrackingError, match="it has no production model"):
        dataclasses.replace(run, production=None).trees_per_row  # noqa: B018 - it raises
