"""Which versions registered models are pinned to, read from a real store and registry."""

from __future__ import annotations

import pytest

from mlops_assets.errors import TrackingError
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lineage import DATABASE_TAG, RAW_VERSION_TAG, TEST_VERSION_TAG
from mlops_assets.registry.pins import pins_of_models
from mlops_assets.resources.tracking import Tracking
from mlops_assets.tracking.runs import TableInput
from mlops_assets.tracking.store import Store

MODEL = "fraud_t"


def tags(raw: int, test: int, database: str = "db") -> dict[str, str]:
    return {DATABASE_TAG: database, RAW_VERSION_TAG: str(raw), TEST_VERSION_TAG: str(test)}


def searched(store: Store, raw: int, sets: int, database: str = "db") -> str:
    """Return the run of a finished search as `tuned_model` leaves it."""
    with store.open_run("search", tags(raw, sets, database)) as run:
        named = {"train_set": "training", "validation_set": "validation", "test_set": "test"}
        run.log_inputs([TableInput(name, f"/tables/{name}", sets, role) for name, role in named.items()])
    return run.run_id


def registered(store: Store, run_id: str | None, model: str = MODEL, **version_tags: str) -> str:
    if not store.client.search_registered_models(f"name = '{model}'"):
        store.client.create_registered_model(model)
    made = store.client.create_model_version(model, "s3://models/t", run_id=run_id, tags=version_tags)
    return f"{model} version {made.version}"


def pinned(store: Store) -> list[Pin]:
    return pins_of_models(store, MODEL, "db", raw="raw_transactions", test="test_set")


def versions(store: Store) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for pin in pinned(store):
        found.setdefault(pin.table, set()).add(pin.version)
    return found


@pytest.fixture
def store(tracking: Tracking) -> Store:
    return tracking.connect()


def test_where_nothing_is_registered_nothing_is_pinned(store: Store):
    assert pinned(store) == []


def test_every_registered_version_pins_raw_table_and_sets_with_and_without_alias(store: Store):
    holders = [registered(store, searched(store, raw, raw + 1)) for raw in (0, 3, 9)]
    store.client.set_registered_model_alias(MODEL, "champion", "3")

    assert versions(store) == {
        "raw_transactions": {0, 3, 9},
        "train_set": {1, 4, 10},
        "validation_set": {1, 4, 10},
        "test_set": {1, 4, 10},
    }
    assert Pin("raw_transactions", 3, holders[1]) in pinned(store)


def test_more_versions_than_one_page_holds_all_count(store: Store, monkeypatch: pytest.MonkeyPatch):
    run_id = searched(store, 0, 0)
    for _ in range(3):
        registered(store, run_id)
    search = store.client.search_model_versions
    monkeypatch.setattr(store.client, "search_model_versions", lambda *args, **named: search(*args, 1, **named))

    assert {pin.holder for pin in pinned(store)} >= {f"{MODEL} version {number}" for number in (1, 2, 3)}


def test_models_of_another_database_pin_nothing_here(store: Store):
    registered(store, searched(store, 4, 4, database="other"))
    registered(store, searched(store, 5, 5), model="another_model")
    searched(store, 6, 6)

    assert versions(store)["raw_transactions"] == {6}, "the newest search of this database, and nothing else"


def test_a_search_that_runs_is_pinned(store: Store):
    with store.open_run("search", tags(7, 8)):
        assert {(pin.table, pin.version) for pin in pinned(store)} == {("raw_transactions", 7), ("test_set", 8)}


def test_a_version_that_says_nothing_of_its_data_is_refused_until_it_is_tagged(store: Store):
    holder = registered(store, None)

    with pytest.raises(TrackingError, match="the version of raw_transactions and test_set") as caught:
        pinned(store)
    for name, value in tags(2, 1).items():
        store.client.set_model_version_tag(MODEL, "1", name, value)

    assert caught.value.where == holder
    assert versions(store) == {"raw_transactions": {2}, "test_set": {1}}


def test_a_run_that_is_gone_is_one_clear_error(store: Store):
    registered(store, "0" * 32)

    with pytest.raises(TrackingError, match="no tag names the version"):
        pinned(store)
