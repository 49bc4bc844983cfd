"""Files of models, their store and the ledger, damaged in every way: the same scores, or one error; never a signal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlops_assets.diagnostics.mlflow_file import check_store
from mlops_assets.diagnostics.model_files import verify_models
from mlops_assets.errors import PlatformError
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.ledger import DeltaLedger
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, by_alias, score
from mlops_assets.tracking.connection import Address, connect
from mlops_assets.tracking.store import Store
from mlops_assets_tests.damage.homes import Damage, delete, exchange, flip, flip_at, truncate
from mlops_assets_tests.registry.test_verified import NAME, registered, rows, trained

# Each by the pattern of its files; the store's older copy is of the time of the first champion.
KINDS = {
    "booster": "artifacts/**/model.ubj",
    "description": "artifacts/**/MLmodel",
    "environment": "artifacts/**/requirements.txt",
    "database": "mlflow.db",
    "ledger's data": "ledger/*.parquet",
    "ledger's log": "ledger/_delta_log/*.json",
}


def store_of(home: Path) -> Store:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    return connect(Address("own", uri, uri, str(home / "artifacts")))


def ledger_of(home: Path) -> ChampionLedger:
    return ChampionLedger(store_of(home), NAME, DeltaLedger(str(home / "ledger")))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the home lies: MLflow keeps absolute addresses of artifacts, so it can't be moved."""
    return tmp_path_factory.mktemp("models") / "home"


@pytest.fixture(scope="module")
def kept(place: Path) -> tuple[Path, Path, Path]:
    """A home with two versions, the state of its database before the second one, and another home's database."""
    place.mkdir()
    older, others = place.with_name("older.db"), place.with_name("other")
    for seed in (1, 2):
        ledger = ledger_of(place)
        registered(ledger.store, trained(seed))
        ledger.move(seed, Move("promoted", "better"))
        if seed == 1:
            shutil.copy(place / "mlflow.db", older)
    others.mkdir()
    registered(store_of(others), trained(3))
    whole = place.with_name("whole")
    shutil.copytree(place, whole)
    return whole, older, others


def scored(home: Path) -> tuple[int, list[float]]:
    """Return the champion and its scores, as a gate or a server would get them."""
    store = store_of(home)
    with store.answering():
        champion = by_alias(store, NAME, CHAMPION)
    if champion is None:
        return 0, []
    return champion.number, score(load_verified(store, NAME, champion.number), rows()).tolist()


def ended(home: Path) -> tuple[int, list[float]] | str:
    """Return what `scored` does, or its error."""
    try:
        return scored(home)
    except PlatformError as error:
        return str(error)


def said(home: Path) -> list[str]:
    findings = check_store(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    if not any(finding.level == "error" for finding in findings):
        findings += verify_models("m", ledger_of(home), every=True)
    return [str(finding) for finding in findings if finding.level != "ok"]


# All versions have the same environment, so that no other copy of it differs.
CASES = [
    (kind, damage)
    for kind in KINDS
    for damage in (delete, truncate, flip, "older", exchange)
    if kind != "environment" or damage not in ("older", exchange)
]


@pytest.mark.proof  # 28 damages, each with a store of its own
@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_damaged_file_of_a_model_is_found_and_never_scores_otherwise(
    place: Path, kept: tuple[Path, Path, Path], kind: str, damage: Damage | str
):
    whole, older, others = kept
    shutil.rmtree(place)
    shutil.copytree(whole, place)
    champion, expected = scored(place)
    assert said(place) == []
    files = sorted(place.glob(KINDS[kind]), key=lambda path: path.stat().st_mtime)
    path = files[-1]
    like = {"database": older if damage == "older" else others / "mlflow.db"}
    other = like.get(kind, files[0] if damage == "older" else next(iter(others.glob(KINDS[kind])), files[0]))
    if damage in ("older", exchange):
        assert path.read_bytes() != other.read_bytes()
    if isinstance(damage, str):
        exchange(path, other)
    else:
        damage(path, other)

    found, now = said(place), ended(place)
    assert found or now == (champion, expected), f"verify says ok, a gate: {now}"


@pytest.mark.proof  # 60 damages of two files
def test_no_flipped_bit_of_a_booster_ends_the_process(place: Path, kept: tuple[Path, Path, Path]):
    whole, _, _ = kept
    shutil.rmtree(place)
    shutil.copytree(whole, place)
    store = store_of(place)
    path = max(place.glob(KINDS["booster"]), key=lambda found: found.stat().st_mtime)
    content = path.read_bytes()
    for seed in range(60):
        flip_at(path, seed * len(content) // 60, seed % 8)
        with pytest.raises(PlatformError, match=r"model.ubj differ"):
            load_verified(store, NAME, 2)
        path.write_bytes(content)
    assert load_verified(store, NAME, 2).number == 2
