"""The end of a model, in a real registry: what goes, what stays, and that half of it can be completed."""

from __future__ import annotations

import json

import pytest

from mlops_assets.errors import RetiredError, TrackingError
from mlops_assets.lineage import RETIRED_TAG
from mlops_assets.registry.retirement import bring_back, require_active, retire, retirement
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_pins import MODEL, registered, searched, versions


@pytest.fixture
def store(tracking: Tracking) -> Store:
    return tracking.connect()


@pytest.fixture
def served(store: Store) -> Store:
    """Two versions, each with an alias; versions of their tables are pinned."""
    for raw in (3, 9):
        registered(store, searched(store, raw, raw))
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    store.client.set_registered_model_alias(MODEL, "challenger", "2")
    return store


def aliases(store: Store) -> dict[str, int]:
    found = {alias: by_alias(store, MODEL, alias) for alias in ("challenger", "champion")}
    return {alias: version.number for alias, version in found.items() if version is not None}


def test_aliases_and_pins_go_and_versions_and_runs_stay(served: Store):
    runs = {run.info.run_id for run in served.client.search_runs([served.experiment_id])}

    mark = retire(served, MODEL)

    assert aliases(served) == {}
    assert mark.aliases == {"challenger": 2, "champion": 1}
    assert versions(served) == {}
    assert len(served.client.search_model_versions(f"name = '{MODEL}'")) == 2
    assert {run.info.run_id for run in served.client.search_runs([served.experiment_id])} == runs
    with pytest.raises(RetiredError) as caught:
        require_active(served, MODEL)
    assert caught.value.what == f"the model was retired on {mark.since}"


def test_another_model_is_not_touched(served: Store):
    registered(served, None, model="another")
    served.client.set_registered_model_alias("another", "champion", "1")

    retire(served, MODEL)

    assert by_alias(served, "another", "champion") is not None
    require_active(served, "another")
    require_active(served, "never registered")


def test_retiring_again_changes_nothing(served: Store):
    first = retire(served, MODEL)

    assert retire(served, MODEL) == first
    assert retirement(served, MODEL) == first


def test_what_was_interrupted_is_completed_and_remembers_the_aliases(served: Store):
    """The process died after the mark and the first of two aliases."""
    mark = {"since": "2026-01-02T03:04:05+00:00", "aliases": {"challenger": 2, "champion": 1}}
    served.client.set_registered_model_tag(MODEL, RETIRED_TAG, json.dumps(mark))
    served.client.delete_registered_model_alias(MODEL, "challenger")

    done = retire(served, MODEL)

    assert (done.since, done.aliases) == (mark["since"], mark["aliases"])
    assert aliases(served) == {}


def test_a_model_that_is_brought_back_has_its_aliases_and_pins_again(served: Store):
    before = versions(served)
    retire(served, MODEL)

    mark = bring_back(served, MODEL)

    assert mark is not None
    assert aliases(served) == {"challenger": 2, "champion": 1}
    assert versions(served) == before
    require_active(served, MODEL)
    assert bring_back(served, MODEL) is None


def test_an_alias_of_a_version_that_was_deleted_meanwhile_is_left_out(served: Store):
    retire(served, MODEL)
    served.client.delete_model_version(MODEL, "1")

    mark = bring_back(served, MODEL)

    assert mark is not None
    assert mark.aliases == {"challenger": 2}
    assert aliases(served) == {"challenger": 2}


def test_a_model_that_was_never_registered_can_be_retired(store: Store):
    mark = retire(store, MODEL)

    assert mark.aliases == {}
    assert retirement(store, MODEL) == mark
    assert store.client.search_model_versions(f"name = '{MODEL}'") == []


def test_a_registry_that_fails_is_one_clear_error(tracking: Tracking, monkeypatch: pytest.MonkeyPatch):
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - used here alone

    store = tracking.connect()

    def fails(name: str) -> None:
        raise MlflowException(f"{name}: the disk is full")

    monkeypatch.setattr(store.client, "get_registered_model", fails)
    with pytest.raises(TrackingError, match="the disk is full"):
        require_active(store, MODEL)
