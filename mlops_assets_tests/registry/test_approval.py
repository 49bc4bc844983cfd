"""A challenger that passed waits for persons: not for the one who trained it, and for nobody twice."""

from __future__ import annotations

import getpass
from collections.abc import Iterator

import pytest

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import APPROVALS_TAG, VERDICT_FILE
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.approval import APPROVAL_CHECK, approve, wait_for_approval
from mlops_assets.registry.gate import Verdict
from mlops_assets.registry.golden import write_into_version
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import Version
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_alias_moves import champion, ledger, shared, store  # noqa: F401 - fixtures
from mlops_assets_tests.registry.test_verified import NAME

FIRST, SECOND = Version(NAME, 1, ""), Version(NAME, 2, "")


@pytest.fixture
def waiting(
    ledger: ChampionLedger,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ChampionLedger]:
    """Version 2 has passed against version 1, and waits for two persons; `ann` looks at it."""
    ledger.move(1, Move("promoted", "first"))
    write_into_version(ledger.store, load_verified(ledger.store, NAME, 2), {VERDICT_FILE: b"{}"})
    wait_for_approval(ledger, SECOND, FIRST, approvals=2)
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    yield ledger
    ledger.store.client.set_model_version_tag(NAME, "2", APPROVALS_TAG, "")


def check(store: Store) -> str:  # noqa: F811
    return str(store.client.get_model_version(NAME, "2").tags[APPROVAL_CHECK])


def test_it_takes_two_persons(waiting: ChampionLedger, monkeypatch: pytest.MonkeyPatch):
    assert approve(waiting, 2, "looks good") == (1, 2)
    assert (champion(waiting), check(waiting.store)) == (1, "Pending")
    with pytest.raises(TrackingError, match=r"ann@.* has approved it already"):
        approve(waiting, 2, "again")

    monkeypatch.setattr(getpass, "getuser", lambda: "bob")
    assert approve(waiting, 2, "misses looked at") == (2, 2)

    assert (champion(waiting), check(waiting.store)) == (2, "Approved")
    last = waiting.entries()[-1]
    assert (last.event, last.from_version, last.to_version) == ("approved", 1, 2)
    assert "misses looked at" in last.reason
    assert "ann@" in last.reason
    with pytest.raises(TrackingError, match="does not wait"):
        approve(waiting, 2, "once more")


def test_whoever_trained_it_does_not_count(waiting: ChampionLedger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    with pytest.raises(TrackingError, match="has trained it"):
        approve(waiting, 2, "mine")
    assert champion(waiting) == 1


def test_an_approval_is_for_the_champion_that_it_was_compared_with(waiting: ChampionLedger):
    waiting.move(3, Move("promoted", "meanwhile"))

    with pytest.raises(TrackingError, match="is not the one that it was compared with"):
        approve(waiting, 2, "looks good")
    assert champion(waiting) == 3


def test_a_version_that_does_not_wait_is_not_approved(waiting: ChampionLedger):
    with pytest.raises(TrackingError, match="does not wait for approval"):
        approve(waiting, 3, "looks good")


def test_only_what_passed_waits():
    passed, kept = Verdict("promoted", "better", {}), Verdict("kept", "no gain", {})

    assert passed.after_approval(0).promoted
    assert not passed.after_approval(1).promoted
    assert "waits for 1 approval" in passed.after_approval(1).reason
    assert kept.after_approval(1) == kept
