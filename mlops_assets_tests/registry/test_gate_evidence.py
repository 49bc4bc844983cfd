"""Evidence against one champion: which gates add up, and which rows they have used."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks._weekly_gates import period
from mlops_assets.evaluation.bootstrap import Contender
from mlops_assets.evaluation.intervals import Design
from mlops_assets.lineage import GATE_EVIDENCE_TAG
from mlops_assets.registry.contest import RANKING
from mlops_assets.registry.gate_evidence import Counted, Evidence, gathered
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets.registry.pair import Pair
from mlops_assets.registry.verified import BrokenVersionError
from mlops_assets.tracking.store import Store
from mlops_assets_tests.registry.test_verified import NAME, store_in

RULE = GateRule()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a registry with three versions; nothing of what a version is made of is asked for here."""
    store = store_in(tmp_path_factory.mktemp("registry"))
    store.client.create_registered_model(NAME)
    with store.selected():
        for number in (1, 2, 3):
            folder = str(tmp_path_factory.mktemp("model"))
            assert store.client.create_model_version(NAME, folder).version == number
    return store


def test_gates_against_the_present_champion_add_up(store: Store):
    counted = [Counted(1, 1, 9.0, 70.0), Counted(1, 4, 3.0, 80.0), Counted(1, 4, 2.0, 90.0)]
    for number, each in enumerate(counted, 1):
        store.client.set_model_version_tag(NAME, str(number), GATE_EVIDENCE_TAG, each.to_tag())

    assert gathered(store, NAME, 1, 4, 9) == Evidence(1, 4, 6.0, 2, 90.0)
    again = gathered(store, NAME, 1, 4, 3)
    assert again == Evidence(1, 4, 3.0, 1, 80.0, counted[2]), "a version does not count itself"
    assert gathered(store, NAME, 1, 1, 9).value == 9, "what was gathered before a rollback is of that time"
    assert gathered(store, NAME, 7, 4, 9) == Evidence(7, 4)

    for text in ("{", '{"champion": 1}', Counted(1, 4, -1.0, 80.0).to_tag(), Counted(1, 4, math.inf, 1.0).to_tag()):
        store.client.set_model_version_tag(NAME, "2", GATE_EVIDENCE_TAG, text)
        with pytest.raises(BrokenVersionError, match="is not what a gate writes"):
            gathered(store, NAME, 1, 4, 9)


def pair_of(frauds: int, seed: int, lead: float = 0.5) -> tuple[Pair, np.ndarray]:
    rows, new, old = period(np.random.default_rng(seed), frauds, lead=lead, own=0.2)
    at = np.random.default_rng(seed).permutation(len(rows.y)).astype(float)
    return Pair(rows, Contender(new, 0.2), Contender(old, 0.2), Design(40, 1)), at


def test_a_row_counts_once():
    pair, at = pair_of(200, seed=5)
    on_all = pair.compared({}).gains[RANKING]
    first = pair.counted(Evidence(3, 7), at, on_all, RULE)
    assert first is not None
    assert (first.champion, first.reign, first.until) == (3, 7, at.max())
    assert first.factor > 1

    half = float(np.median(at))
    later = pair.counted(Evidence(3, 7, 2.0, 1, half), at, on_all, RULE)
    assert later is not None
    assert later.factor != first.factor
    assert pair.counted(Evidence(3, 7, 2.0, 1, at.max()), at, on_all, RULE) is None, "all rows have been used"
    barely = float(np.sort(at[pair.rows.y == 1])[-29]) - 0.5
    assert pair.counted(Evidence(3, 7, 2.0, 1, barely), at, on_all, RULE) is None, "29 frauds are too few"
    assert pair.counted(Evidence(3, 7, 2.0, 1, at.max(), mine=first), at, on_all, RULE) == first, "run again"
