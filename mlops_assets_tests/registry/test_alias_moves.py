"""The alias and its ledger on a real registry: kills at every step, moves by others, and the way back."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.errors import LedgerError, TrackingError
from mlops_assets.lakehouse.locks import hold
from mlops_assets.lineage import (
    CHAMPION_SINCE_TAG,
    GOLDEN_FILE,
    GOLDEN_SHA256_TAG,
    LEDGER_HEAD_TAG,
    ROLLED_BACK_TAG,
)
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.golden import folder_of, keep_golden
from mlops_assets.registry.ledger import NOBODY, DeltaLedger, Entry, carried_out, champion_at
from mlops_assets.registry.verified import BrokenVersionError, load_verified
from mlops_assets.registry.versions import CHAMPION, by_alias
from mlops_assets.tracking.connection import Address, connect
from mlops_assets.tracking.store import Store
from mlops_assets_tests.mlflow_server import running_server
from mlops_assets_tests.registry.fuse import Client, Fuse, KilledError
from mlops_assets_tests.registry.test_verified import NAME, registered, rows, store_in, trained
from mlops_assets_tests.registry.test_verified import folder_of as files_of

PROMOTED = Move("promoted", "better", "{}")
BACK = Move("rolled back", "too many alerts")
VERSIONS = (1, 2, 3)


@dataclass(frozen=True)
class Table:
    """A ledger whose writes go through a fuse."""

    table: DeltaLedger
    fuse: Fuse

    def read(self, model: str) -> list[Entry]:
        return self.table.read(model)

    def append(self, entry: Entry) -> None:
        self.fuse.through(self.table.append, entry)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three versions with golden rows."""
    store = store_in(tmp_path_factory.mktemp("registry"))
    for number in VERSIONS:
        assert registered(store, trained(rounds=number)).number == number
        keep_golden(store, load_verified(store, NAME, number), rows())
    return store


@pytest.fixture
def store(shared: Store) -> Iterator[Store]:
    """The same versions, with no alias and no marks."""
    cleared(shared)
    yield shared
    cleared(shared)


def cleared(store: Store) -> None:
    if by_alias(store, NAME, CHAMPION) is not None:
        store.client.delete_registered_model_alias(NAME, CHAMPION)
    store.client.set_registered_model_tag(NAME, LEDGER_HEAD_TAG, "")
    for number in VERSIONS:
        for tag in (ROLLED_BACK_TAG, CHAMPION_SINCE_TAG):
            store.client.delete_model_version_tag(NAME, str(number), tag)


@pytest.fixture
def ledger(store: Store, tmp_path: Path) -> ChampionLedger:
    return ChampionLedger(store, NAME, DeltaLedger(str(tmp_path / "ledger")))


def champion(ledger: ChampionLedger) -> int:
    found = by_alias(ledger.store, NAME, CHAMPION)
    return NOBODY if found is None else found.number


def moved(entries: list[Entry]) -> list[tuple[int, int, str]]:
    return [(entry.from_version, entry.to_version, entry.event) for entry in entries]


def burning(ledger: ChampionLedger, fuse: Fuse) -> ChampionLedger:
    """Return the same ledger for a process that ends early."""
    assert isinstance(ledger.table, DeltaLedger)
    store = replace(ledger.store, client=Client(ledger.store.client, fuse))
    return replace(ledger, store=store, table=Table(ledger.table, fuse))


def outside(ledger: ChampionLedger, version: int) -> None:
    """Move the alias as MLflow's UI does."""
    if version == NOBODY:
        ledger.store.client.delete_registered_model_alias(NAME, CHAMPION)
    else:
        ledger.store.client.set_registered_model_alias(NAME, CHAMPION, str(version))


def test_a_registry_that_does_not_have_the_champion_of_the_ledger_is_refused(ledger: ChampionLedger, tmp_path: Path):
    assert ledger.require_registry() == []
    ledger.move(2, PROMOTED)
    assert moved(ledger.require_registry()) == [(0, 2, "promoted")]
    empty = replace(ledger, store=store_in(tmp_path))
    with pytest.raises(TrackingError, match=r"version 2 is champion, and the registry does not have it.*backup"):
        empty.require_registry()
    ledger.move(1, PROMOTED)
    with pytest.raises(LedgerError, match="the registry does not know the last 2 entries"):
        empty.require_registry()
    ledger.move(NOBODY, Move("retired", "over"))
    assert len(ledger.require_registry()) == 3


def test_each_move_is_on_record_with_its_reason_and_the_version_says_so(ledger: ChampionLedger):
    ledger.move(1, PROMOTED)
    ledger.move(2, replace(PROMOTED, dagster_run="run-7", verdict='{"a":1}'))
    ledger.move(2, PROMOTED)
    ledger.move(NOBODY, Move("retired", "over"))

    assert moved(ledger.entries()) == [(0, 1, "promoted"), (1, 2, "promoted"), (2, 0, "retired")]
    second = ledger.entries()[1]
    assert (second.reason, second.dagster_run, second.verdict) == ("better", "run-7", '{"a":1}')
    assert "@" in second.actor
    assert second.code
    assert champion(ledger) == NOBODY
    assert CHAMPION_SINCE_TAG in ledger.store.client.get_model_version(NAME, "1").tags


def test_another_client_s_move_is_noticed_once_and_named_as_such(ledger: ChampionLedger):
    outside(ledger, 1)
    ledger.settle()
    ledger.settle()
    outside(ledger, 3)
    ledger.move(2, PROMOTED)

    expected = [(0, 1, "moved outside"), (1, 3, "moved outside"), (3, 2, "promoted")]
    assert moved(ledger.entries()) == expected


def test_a_kill_at_any_step_is_repaired_at_the_next_look(ledger: ChampionLedger, tmp_path: Path):
    counted = Fuse()
    burning(ledger, counted).move(1, PROMOTED)
    assert counted.writes == 4, "table, alias, mark, head"
    for number in range(1, counted.writes + 1):
        for after in (False, True):
            cleared(ledger.store)
            fresh = replace(ledger, table=DeltaLedger(str(tmp_path / f"{number}{after}")))
            fresh.move(3, PROMOTED)
            with pytest.raises(KilledError):
                burning(fresh, Fuse(number, after=after)).move(1, PROMOTED)
            entries = fresh.settle()
            carried = [entry.to_version for entry in carried_out(entries)]
            assert carried == ([3, 1] if champion(fresh) == 1 else [3])
            assert entries[-1].to_version == champion(fresh)
            fresh.move(1, PROMOTED)
            assert [entry.to_version for entry in carried_out(fresh.entries())] == [3, 1]


def test_rollback_goes_to_the_champion_before_and_marks_the_one_it_left(ledger: ChampionLedger):
    for version in (1, 2, 3):
        ledger.move(version, PROMOTED)

    assert ledger.rollback(None, BACK) == (3, 2)
    assert ledger.rollback(1, BACK) == (2, 1)
    assert champion(ledger) == 1
    assert moved(ledger.entries())[-2:] == [(3, 2, "rolled back"), (2, 1, "rolled back")]
    tags = {number: ledger.store.client.get_model_version(NAME, str(number)).tags for number in VERSIONS}
    assert tags[3][ROLLED_BACK_TAG].endswith(": too many alerts")
    assert not tags[1].get(ROLLED_BACK_TAG)
    assert ledger.rollback(3, BACK) == (1, 3)
    assert not ledger.store.client.get_model_version(NAME, "3").tags.get(ROLLED_BACK_TAG)


def test_rollback_refuses_what_it_can_t_go_back_to(ledger: ChampionLedger):
    with pytest.raises(TrackingError, match="there is no champion to go back from"):
        ledger.rollback(None, BACK)
    ledger.move(2, PROMOTED)
    with pytest.raises(TrackingError, match="knows no champion before"):
        ledger.rollback(None, BACK)
    with pytest.raises(TrackingError, match="version 2 is champion already"):
        ledger.rollback(2, BACK)
    with pytest.raises(TrackingError):
        ledger.rollback(99, BACK)
    assert champion(ledger) == 2
    assert len(ledger.entries()) == 1


def test_rollback_refuses_a_version_whose_files_or_golden_rows_are_not_what_they_were(ledger: ChampionLedger):
    ledger.move(2, PROMOTED)
    store = ledger.store
    booster = files_of(store, registered(store, trained(rounds=1))) / "model.ubj"
    whole = booster.read_bytes()
    booster.write_bytes(whole[:-5])
    with pytest.raises(BrokenVersionError, match=r"model\.ubj differ"):
        ledger.rollback(1, BACK)
    booster.write_bytes(whole)

    run = store.client.get_run(store.client.get_model_version(NAME, "1").run_id)
    golden = Path(run.info.artifact_uri.removeprefix("file://")) / folder_of(1) / GOLDEN_FILE
    kept = golden.read_text()
    noted = store.client.get_model_version(NAME, "1").tags[GOLDEN_SHA256_TAG]
    other = json.loads(kept)
    other["scores"][0] += 0.01
    golden.write_text(json.dumps(other))
    with pytest.raises(BrokenVersionError, match="are not those that were kept"):
        ledger.rollback(1, BACK)
    digest = hashlib.sha256(golden.read_bytes()).hexdigest()
    store.client.set_model_version_tag(NAME, "1", GOLDEN_SHA256_TAG, digest)
    with pytest.raises(BrokenVersionError, match=r"scores its golden rows otherwise, by up to 0\.01"):
        ledger.rollback(1, BACK)
    golden.write_text(kept)
    store.client.set_model_version_tag(NAME, "1", GOLDEN_SHA256_TAG, noted)
    assert champion(ledger) == 2
    assert ledger.rollback(1, BACK) == (2, 1), "the control"


def test_nothing_moves_on_a_ledger_that_was_tampered_with(ledger: ChampionLedger, tmp_path: Path):
    for version in (1, 2):
        ledger.move(version, PROMOTED)
    (tmp_path / "ledger").rename(tmp_path / "gone")

    for act in (lambda: ledger.move(3, PROMOTED), lambda: ledger.rollback(1, BACK), ledger.settle, ledger.entries):
        with pytest.raises(LedgerError, match="the registry knows entry 2"):
            act()
    assert champion(ledger) == 2


def test_an_entry_that_someone_else_added_makes_no_champion(ledger: ChampionLedger):
    ledger.move(1, PROMOTED)
    assert isinstance(ledger.table, DeltaLedger)
    with pytest.raises(KilledError):  # the row that such a person would write, chain and all
        burning(ledger, Fuse(1, after=True)).move(3, PROMOTED)

    ledger.settle()

    assert champion(ledger) == 1
    assert moved(ledger.entries())[-1] == (3, 1, "not carried out")


def test_two_gates_at_once_make_one_champion_and_two_honest_rows(ledger: ChampionLedger, tmp_path: Path):
    def gate(version: int) -> None:
        with hold(tmp_path / "registration.lock", None, where="here"):
            ledger.move(version, PROMOTED)

    racing = [threading.Thread(target=gate, args=(version,)) for version in (1, 2)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()

    entries = ledger.entries()
    assert {entry.to_version for entry in entries} == {1, 2}
    assert entries[0].from_version == NOBODY
    assert entries[1].from_version == entries[0].to_version
    assert champion(ledger) == entries[1].to_version


@pytest.mark.proof  # a server of its own
def test_the_same_through_a_real_server(tmp_path: Path):
    """Files and tags go over HTTP; then the server is gone, which is no broken version."""
    with running_server(tmp_path) as server:
        store = connect(Address("served", server.uri, server.uri))
        for number in (1, 2):
            assert registered(store, trained(rounds=number)).number == number
            keep_golden(store, load_verified(store, NAME, number), rows())
        served = ChampionLedger(store, NAME, DeltaLedger(str(tmp_path / "ledger")))
        for number in (1, 2):
            served.move(number, PROMOTED)
        assert served.rollback(None, BACK) == (2, 1)
        assert moved(served.entries()) == [(0, 1, "promoted"), (1, 2, "promoted"), (2, 1, "rolled back")]

        (booster, *_) = [
            path for path in (tmp_path / "artifacts").rglob("model.ubj") if path.read_bytes() == bytes_of(rounds=2)
        ]
        booster.write_bytes(bytes_of(rounds=3))
        with pytest.raises(BrokenVersionError, match=r"model\.ubj differ"):
            served.rollback(2, BACK)
        server.kill()
        with pytest.raises(TrackingError) as caught:
            served.rollback(2, BACK)
    assert caught.value.transient
    assert not isinstance(caught.value, BrokenVersionError)


def bytes_of(rounds: int) -> bytes:
    return bytes(trained(rounds=rounds).save_raw())


@dataclass
class Plain:
    """What the ledger must say, as a list of (champion, event): the plain model of the histories below."""

    alias: int = NOBODY
    said: int = NOBODY
    pending: tuple[int, int, str] | None = None

    def __post_init__(self) -> None:
        self.moves: list[tuple[int, str]] = []
        self.marked: set[int] = set()

    def look(self) -> None:
        """Whoever looks first finds what a process that ended has left, and what others have moved."""
        if self.pending is not None:
            before, after, event = self.pending
            self.pending = None
            if self.alias != before:  # carried out, or not known
                self.moves.append((after, event))
                self.said = after
            if self.alias == after:
                self.marked.add(after)
        if self.alias != self.said:
            self.moves.append((self.alias, "moved outside"))
            self.said = self.alias

    def move(self, version: int, event: str, steps: str) -> None:
        """Move; `steps` says how far the process came: "", "written", "moved" or "confirmed"."""
        self.look()
        if version == self.alias or not steps:
            return
        self.pending = (self.alias, version, event)
        if steps != "written":
            self.alias = version
        if steps == "confirmed":
            self.marked.add(version)
            self.look()


@pytest.mark.proof  # 200 histories
@pytest.mark.parametrize("seed", range(200))
def test_a_random_history_is_told_as_a_plain_model_tells_it(ledger: ChampionLedger, seed: int):
    drawn, plain = np.random.default_rng(seed), Plain()
    for _ in range(drawn.integers(4, 13)):
        acted(ledger, plain, drawn)
    entries = ledger.settle()
    plain.look()

    assert [(entry.to_version, entry.event) for entry in carried_out(entries)] == plain.moves
    assert champion(ledger) == plain.alias
    for entry in carried_out(entries):
        found = champion_at(entries, datetime.fromisoformat(entry.at))
        assert found is not None
        assert found.number == entry.number
    for before, after in pairwise(entries):
        assert after.from_version == before.to_version


def acted(ledger: ChampionLedger, plain: Plain, drawn: np.random.Generator) -> None:
    """Do one thing to the ledger and to its plain model."""
    act = drawn.choice(["promote", "promote", "roll back", "outside", "look", "kill", "kill"])
    version = int(drawn.integers(1, len(VERSIONS) + 1))
    if act == "look":
        ledger.settle()
        plain.look()
    elif act == "outside":
        version = int(drawn.integers(0, len(VERSIONS) + 1))
        if version != plain.alias:
            outside(ledger, version)
            plain.alias = version
    elif act == "promote":
        ledger.move(version, PROMOTED)
        plain.move(version, "promoted", "confirmed")
    elif act == "roll back" and version != plain.alias:
        ledger.rollback(version, BACK)
        plain.move(version, "rolled back", "confirmed")
    elif act == "kill" and version != plain.alias:
        # Settled first, so that the steps counted are those of the move.
        ledger.settle()
        plain.look()
        step, after = int(drawn.integers(1, 4)), bool(drawn.integers(2))
        reached = {(1, False): "", (1, True): "written", (2, False): "written"}.get((step, after), "moved")
        if (step, after) == (3, True):  # the head, or the mark of a version that was never champion before
            reached = "confirmed" if version in plain.marked else "moved"
        with pytest.raises(KilledError):
            burning(ledger, Fuse(step, after=after)).move(version, PROMOTED)
        plain.move(version, "promoted", reached)
        if (step, after) == (3, True):
            plain.marked.add(version)
