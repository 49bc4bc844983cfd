"""table_upkeep: who pins is asked first, a load is waited for, and nothing that follows takes it for new data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.upkeep import MAINTAINED, UpkeepConfig, build_table_upkeep
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.pinned_sets import pinned_sets
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.resources.tracking import Tracking
from mlops_assets.testing.invoking import Outcome, collect, plain
from mlops_assets_tests.assets.harness import HERE, Databases, load, spec_of, split, transactions, write_csv
from mlops_assets_tests.registry.test_pins import registered, searched

MODEL = "fraud_creditcard_synthetic"


def maintain(lakehouse: Lakehouse, tracking: Tracking, **config: Any) -> Outcome:
    with dg.build_asset_context() as context:
        return collect(
            build_table_upkeep(spec_of())(
                context,
                config=UpkeepConfig(**config),
                lakehouse=Databases(lakehouse),
                tracking=tracking,
                loader_cluster=HERE,
            )
        )


def versions(lakehouse: Lakehouse) -> dict[str, int]:
    return {name: lakehouse.require(name, made_by=name).version for name in MAINTAINED if lakehouse.current(name)}


def facts(lakehouse: Lakehouse) -> dict[str, object]:
    """Return what the conditions compare after a load of nothing new and a cut of the same rows."""
    loaded, cut = load(lakehouse), split(lakehouse)
    named = ("delta_version", "raw_version", "split_id", "dagster/row_count")
    return {
        "raw": (loaded.metadata["delta_version"], loaded.metadata["rows_added"]),
        **{str(found.asset_key): [plain(found)[name] for name in named] for found in cut.results},
        "sets": {name: table.version for name, table in pinned_sets(lakehouse).items()},
    }


@pytest.mark.proof  # several loads, and upkeep of each table
def test_tables_are_kept_up_and_nothing_that_follows_takes_it_for_new_data(
    prepared: Lakehouse, tracking: Tracking, tmp_path: Path
):
    load(prepared, write_csv(transactions(days=6), tmp_path / "second.csv"))
    registered(tracking.connect(), searched(tracking.connect(), 0, 0, prepared.database), MODEL)
    before, was = facts(prepared), versions(prepared)

    outcome = maintain(prepared, tracking)

    assert outcome.failure is None
    reports = outcome.metadata["reports"]
    assert set(reports) == {name for name in MAINTAINED if prepared.current(name)}
    assert list(reports["raw_transactions"]["pinned_versions"]) == [0, 1]
    assert f"{MODEL} version 1: train_set version 0" in outcome.metadata["pins"]
    assert (reports["raw_transactions"]["files_before"], reports["raw_transactions"]["files_after"]) == (2, 1)
    assert versions(prepared)["raw_transactions"] > was["raw_transactions"]
    assert facts(prepared) == before
    assert {name: prepared.read(table, was[table]).count() > 0 for name, table in SET_TABLES.items()} == dict.fromkeys(
        SET_TABLES, True
    )


def test_when_the_registry_does_not_answer_nothing_is_touched(prepared: Lakehouse, tracking: Tracking):
    fields = {name: getattr(tracking, name) for name in type(tracking).model_fields}
    away = Tracking(**{**fields, "mlflow_tracking_uri": "http://127.0.0.1:9", "artifact_root": None})
    before = versions(prepared)

    outcome = maintain(prepared, away, retention_hours=0)

    assert "the MLflow server does not answer" in outcome.message
    assert versions(prepared) == before


def test_when_a_version_can_not_be_traced_nothing_is_touched(prepared: Lakehouse, tracking: Tracking):
    registered(tracking.connect(), None, MODEL)
    before = versions(prepared)

    outcome = maintain(prepared, tracking, retention_hours=0)

    assert "no tag names the version of raw_transactions" in outcome.message
    assert versions(prepared) == before


@pytest.mark.parametrize("lock", ["raw_transactions", "splits"])
def test_it_refuses_while_a_load_or_a_cut_goes_on(prepared: Lakehouse, tracking: Tracking, lock: str):
    before = versions(prepared)

    with prepared.exclusive(lock):
        outcome = maintain(prepared, tracking, wait_seconds=0.1)

    assert "another run has held the table" in outcome.message
    assert versions(prepared) == before


def test_where_no_table_is_there_is_nothing_to_do(lakehouse: Lakehouse, tracking: Tracking):
    outcome = maintain(lakehouse, tracking)

    assert outcome.failure is None
    assert "tables" not in outcome.metadata
