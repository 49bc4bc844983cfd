"""registered_model ends at any of its writes; champions of another contract; rows that all have been seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.assets.registered_model import GateConfig
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import CARD_FILE, GOLDEN_FILE, LEDGER_HEAD_TAG, SBOM_FILE, VERDICT_FILE
from mlops_assets.registry.alias_moves import ChampionLedger
from mlops_assets.registry.gate import Verdict
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets.registry.golden import folder_of, require_golden
from mlops_assets.registry.ledger import CHAMPION_LEDGER, DeltaLedger, carried_out
from mlops_assets.registry.registration import register_tuned
from mlops_assets.registry.verified import load_verified
from mlops_assets.resources.tracking import Tracking
from mlops_assets.testing.stores import copy_mlflow, copy_tables, open_tracking
from mlops_assets.tracking.store import Store
from mlops_assets_tests.assets.conftest import Searched
from mlops_assets_tests.assets.harness import load, register, spec_of, split, tune
from mlops_assets_tests.assets.test_registered_model import MODEL, PATIENT, WEAK, aliases, point
from mlops_assets_tests.registry.fuse import Client, Fuse, KilledError

CONTRACT = spec_of().contract
# A tree of one split has other reasons than whatever replaces it.
RULE = GateRule(min_lift=1.0, beat_simple_scores=False, min_unseen_frauds=10, min_reason_overlap=0.0)
# Of these the value has a time in it; that they are there is compared.
TIMED = ("champion_since", "policy", "evidence", LEDGER_HEAD_TAG)


def register_in(store: Store, lakehouse: Lakehouse) -> Verdict | None:
    return register_tuned(store, lakehouse, CONTRACT, RULE, name=MODEL, dagster_run="a run").verdict


def told(store: Store, lakehouse: Lakehouse) -> dict[str, Any]:
    """Return what MLflow's own client and the ledger say of all versions."""
    versions = {}
    for found in store.client.search_model_versions(f"name = '{MODEL}'"):
        folder = folder_of(int(found.version))
        paths = {file.path.removeprefix(f"{folder}/") for file in store.client.list_artifacts(found.run_id, folder)}
        assert paths >= {CARD_FILE, GOLDEN_FILE, SBOM_FILE, VERDICT_FILE}
        tags = {name: "" if any(part in name for part in TIMED) else text for name, text in found.tags.items()}
        versions[int(found.version)] = (found.run_id, tags, paths, found.description)
    moves = carried_out(ChampionLedger.of(store, MODEL, lakehouse).entries())
    verdicts = [json.loads(move.verdict) for move in moves]
    for verdict in verdicts:
        verdict["details"].pop("champion_age_days", None)
    return {
        "versions": versions,
        "aliases": dict(store.client.get_registered_model(MODEL).aliases),
        "ledger": [(move.from_version, move.to_version, move.event, move.reason) for move in moves],
        "verdicts": verdicts,
    }


@pytest.mark.proof  # a search more, and two registrations for each write of a registration
@pytest.mark.parametrize("before", [None, 1], ids=["first version", "over a champion"])
def test_a_registration_that_ends_at_any_write_is_brought_to_its_end_by_the_next_one(
    searched_once: Searched,
    prepared: Lakehouse,
    tmp_path: Path,
    empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: int | None,
):
    made = tmp_path / "made"
    tracking = open_tracking(made, empty_mlflow)
    copy_mlflow(searched_once.home, made)
    if before:  # a poor champion, and then the search again, so that its model is the newest
        assert tune(prepared, tracking, WEAK).failure is None
        register_in(tracking.connect(), prepared)
        assert tune(prepared, tracking).failure is None
    tables = replace(prepared, root=str(Path(prepared.root).rename(tmp_path / "tables")))
    appended = DeltaLedger.append

    def at(name: str, fuse: Fuse) -> tuple[Store, Store, Lakehouse]:
        """Return a copy of it all: the store, the same for a process that ends early, and the tables."""
        place = open_tracking(tmp_path / name, empty_mlflow)
        copy_mlflow(made, tmp_path / name)
        lakehouse = replace(prepared, root=str(tmp_path / name / "tables"), locks=str(tmp_path / name / "locks"))
        copy_tables(tables, lakehouse)
        monkeypatch.setattr(DeltaLedger, "append", lambda table, entry: fuse.through(appended, table, entry))
        store = place.connect()
        return store, replace(store, client=Client(store.client, fuse)), lakehouse

    whole = Fuse()
    store, burning, lakehouse = at("whole", whole)
    verdict = register_in(burning, lakehouse)
    assert verdict is not None
    assert verdict.promoted, verdict.reason
    expected = told(store, lakehouse)
    number = 2 if before else 1
    assert expected["aliases"] == {"challenger": number, "champion": number}
    assert [move[:3] for move in expected["ledger"]][-1] == (before or 0, number, "promoted")
    assert whole.writes > 10

    for write in range(1, whole.writes + 1):
        store, burning, lakehouse = at(f"write {write}", Fuse(write))
        with pytest.raises(KilledError):
            register_in(burning, lakehouse)
        monkeypatch.setattr(DeltaLedger, "append", appended)
        found = store.client.search_registered_models(f"name = '{MODEL}'")
        champion = dict(found[0].aliases).get("champion") if found else None
        assert champion in {before, number}, "a kill takes no champion away"
        if champion is not None:
            require_golden(store, load_verified(store, MODEL, int(champion)))

        register_in(store, lakehouse)
        assert told(store, lakehouse) == expected, write


@pytest.mark.proof  # two searches
def test_a_champion_of_other_features_is_not_compared_with(tuned: Lakehouse, tracking: Tracking):
    """The contract has lost a feature since the champion was trained."""
    assert register(tuned, tracking).failure is None
    features = tuple(name for name in CONTRACT.features if name != "v28")
    fewer = CONTRACT.model_copy(update={"features": features, "version": CONTRACT.version + 1})
    assert split(tuned, contract=fewer).failure is None
    assert tune(tuned, tracking, contract=fewer).failure is None

    outcome = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=10), contract=fewer)

    assert "does not accept the features: v28" in outcome.message
    assert "set a new MLOPS_MODEL_NAME" in outcome.message
    assert aliases(tracking)["champion"] == 1


@pytest.mark.proof  # a load and two searches
def test_a_champion_of_another_database_is_not_compared_with(tuned: Lakehouse, tracking: Tracking):
    """What it has seen can't be told from the tables of this one."""
    assert register(tuned, tracking).failure is None
    other = replace(tuned, database="another", root=f"{tuned.root}-another")
    assert load(other).failure is None
    assert split(other).failure is None
    assert tune(other, tracking, WEAK).failure is None
    assert "the registry knows entry 1" in register(other, tracking, PATIENT).message, "the ledger is in the first one"
    shutil.copytree(tuned.location(CHAMPION_LEDGER), other.location(CHAMPION_LEDGER))

    outcome = register(other, tracking, PATIENT)

    assert outcome.failure is None
    assert "can't tell: what champion version 1 has seen is not known" in outcome.metadata["gate"]
    assert "trained on tables of database creditcard_synthetic" in outcome.metadata["gate"]
    assert aliases(tracking) == {"challenger": 2, "champion": 1}


@pytest.mark.proof  # two searches
def test_a_block_that_the_champion_was_trained_on_is_no_evidence(tuned: Lakehouse, tracking: Tracking):
    """It is the same version of the same tables: a production model has seen its test rows."""
    assert tune(tuned, tracking, point(3, 12)).failure is None
    assert register(tuned, tracking, PATIENT).failure is None
    assert tune(tuned, tracking, point(4, 20).model_copy(update={"production_refit": False})).failure is None

    outcome = register(tuned, tracking, GateConfig(min_lift=1.0, min_unseen_frauds=1))

    assert "can't tell: 1 more frauds needed" in outcome.metadata["gate"]
    assert outcome.checks["promotion_gate"].metadata["unseen_rows"].value == 0
    assert aliases(tracking) == {"challenger": 2, "champion": 1}
