"""Registered versions, aliases and the ledger: whole ones are ok, each damage is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlops_assets.diagnostics.model_files import verify_models
from mlops_assets.lineage import FILES_SHA256_TAG
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.ledger import DeltaLedger
from mlops_assets.registry.versions import CHALLENGER, CHAMPION
from mlops_assets_tests.registry.test_verified import NAME, folder_of, registered, store_in, trained


@pytest.fixture(scope="module")
def ledger_once(tmp_path_factory: pytest.TempPathFactory) -> ChampionLedger:
    """Two versions, of which the second is champion."""
    home = tmp_path_factory.mktemp("models")
    ledger = ChampionLedger(store_in(home), NAME, DeltaLedger(str(home / "ledger")))
    for seed in (1, 2):
        registered(ledger.store, trained(seed))
        ledger.move(seed, Move("promoted", "better"))
    return ledger


def found(ledger: ChampionLedger, *, every: bool = True) -> list[str]:
    return [str(finding) for finding in verify_models("m", ledger, every=every)]


def test_what_was_registered_is_ok_and_a_model_without_versions_has_no_line(ledger_once: ChampionLedger):
    assert found(ledger_once) == ["ok      models of m: 2 versions, all as registered; champion: 2"]
    assert found(ChampionLedger(ledger_once.store, "another", ledger_once.table)) == []


def test_a_champion_that_is_challenger_as_well_is_champion(ledger_once: ChampionLedger):
    client = ledger_once.store.client
    client.set_registered_model_alias(NAME, CHALLENGER, "2")
    try:
        assert found(ledger_once) == ["ok      models of m: 2 versions, all as registered; champion: 2"]
    finally:
        client.delete_registered_model_alias(NAME, CHALLENGER)


def test_each_damage_of_a_version_is_one_line(ledger_once: ChampionLedger, tmp_path: Path):
    folder = folder_of(ledger_once.store, registered(ledger_once.store, trained(1)))
    champions = folder_of(ledger_once.store, registered(ledger_once.store, trained(2)))
    kept = shutil.copytree(champions, tmp_path / "kept")
    try:
        (champions / "model.ubj").write_bytes((folder / "model.ubj").read_bytes())
        (line,) = found(ledger_once, every=False)
        assert line.startswith("error   models of m: champion: ")
        assert "model.ubj differ from what was registered" in line
        assert "mlops rollback" in line
        for damaged in (b"", (kept / "model.ubj").read_bytes()[:100]):
            (champions / "model.ubj").write_bytes(damaged)
            assert len(found(ledger_once)) == 1
        (champions / "model.ubj").unlink()
        assert len(found(ledger_once)) == 1
    finally:
        shutil.copytree(kept, champions, dirs_exist_ok=True)
    assert len(found(ledger_once)) == 1
    assert found(ledger_once)[0].startswith("ok")


def test_an_alias_that_another_client_moved_is_a_warning(ledger_once: ChampionLedger):
    client = ledger_once.store.client
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    try:
        (line,) = found(ledger_once)
    finally:
        client.set_registered_model_alias(NAME, CHAMPION, "2")
    assert line.startswith("warning models of m: another client made version 1 champion; by the ledger it is 2")


def test_a_version_without_digests_is_a_warning(ledger_once: ChampionLedger):
    client = ledger_once.store.client
    noted = client.get_model_version(NAME, "1").tags[FILES_SHA256_TAG]
    client.delete_model_version_tag(NAME, "1", FILES_SHA256_TAG)
    try:
        (line,) = found(ledger_once)
    finally:
        client.set_model_version_tag(NAME, "1", FILES_SHA256_TAG, noted)
    assert line.startswith("warning models of m: the version can't be verified")


def test_a_ledger_that_was_changed_and_an_older_registry_are_errors(ledger_once: ChampionLedger, tmp_path: Path):
    table = ledger_once.table
    assert table is not None
    copied = shutil.copytree(Path(table.folder), tmp_path / "ledger")  # type: ignore[attr-defined]
    (copied / "_delta_log" / f"{1:020d}.json").unlink()
    cut = ChampionLedger(ledger_once.store, NAME, DeltaLedger(str(copied)))
    assert "the ledger of champions is not what was written" in found(cut)[0]
    older = ChampionLedger(store_in(tmp_path), NAME, table)
    registered(older.store, trained(1))
    assert "error" in found(older)[0]
