"""Loads that would change too much of what is known are refused before anything is written, unless somebody says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlops_assets.data.ingest.changes import KNOWN_VALUES
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.load_report import LoadReport
from mlops_assets.lakehouse.loading import load, revert
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.lineage import ACCEPTED_CHANGES
from mlops_assets_tests.lakehouse.test_reverting import KEYED, Listed, Row

CAREFUL = KEYED.model_copy(update={"max_changed_share": 0.2})
FRAUDS, ROWS = 15, 60


def rows(*, frauds: int = FRAUDS, amount: float = 10.0, changed: int = ROWS) -> list[Row]:
    """Return the same rows, all of one moment, with other labels, or other amounts in the first of them."""
    return [(n, 1.0, amount if n < changed else 10.0, int(n < frauds)) for n in range(ROWS)]


@pytest.fixture
def store(lakehouse: Lakehouse) -> TransactionStore:
    return TransactionStore(lakehouse, CAREFUL, "run")


def bring(store: TransactionStore, name: str, content: Sequence[Row], accept_changes: str = "") -> LoadReport:
    source = Listed(name, ("id", "at", "amount", "fraud"), content)
    with store.lakehouse.exclusive(RAW):
        return load(store, source, accept_changes)


def verdict(report: LoadReport) -> tuple[bool, str]:
    (found,) = [outcome for outcome in report.of_inputs if outcome.name == KNOWN_VALUES]
    return found.passed, found.description


def test_an_export_without_labels_wipes_none_until_somebody_says_why_and_is_reverted(store: TransactionStore):
    assert bring(store, "good", rows()).refusal == "raw_transactions is incomplete"
    before = store.lakehouse.require(RAW, made_by="test")

    refused = bring(store, "wiped", rows(frauds=0))

    passed, text = verdict(refused)
    assert not passed
    assert "15 of 15 known values of fraud = 1, and leave no row with fraud = 1" in text
    assert (refused.tables, refused.blames_input) == (None, True)
    assert refused.refusal == "refused wiped; nothing was written"
    assert store.lakehouse.require(RAW, made_by="test") == before

    accepted = bring(store, "wiped", rows(frauds=0), accept_changes="a drill")

    assert verdict(accepted)[0]
    assert accepted.tables is not None
    assert accepted.tables.totals.frauds == 0
    kept = store.lakehouse.require(RAW, made_by="test").metadata[ACCEPTED_CHANGES]
    assert kept["reason"] == "a drill"
    assert "15 of 15" in kept["changes"]

    with store.lakehouse.exclusive(RAW):
        undone = revert(store, ["content-of-wiped"])
    assert undone.tables is not None
    assert (undone.tables.totals.rows, undone.tables.totals.frauds) == (ROWS, FRAUDS)


@pytest.mark.proof  # several loads
def test_a_column_of_other_values_is_refused_and_a_correction_is_not(store: TransactionStore):
    bring(store, "good", rows())

    passed, text = verdict(bring(store, "cents", rows(amount=1_000.0)))
    assert not passed
    assert "60 of 60 known values of amount" in text

    passed, text = verdict(bring(store, "fixed", rows(amount=11.0, changed=12)))
    assert passed, text
    assert text.startswith("12 known rows are replaced")


@pytest.mark.proof  # several loads
def test_a_load_without_frauds_may_follow_and_a_redelivery_changes_nothing(store: TransactionStore):
    bring(store, "good", rows())

    later = bring(store, "later", [(n + ROWS, 2.0, 10.0, 0) for n in range(ROWS)])
    again = bring(store, "again", [*rows(), (500, 3.0, 1.0, 0)])

    assert (later.accepted, again.accepted, again.known) == (ROWS, 1, ROWS)
    assert [o.name for report in (later, again) for o in report.of_inputs if o.name == KNOWN_VALUES] == []
