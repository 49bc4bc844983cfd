"""How much a load may change in what is known: shares, classes, and what a person has accepted."""

from __future__ import annotations

import pytest

from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.ingest.changes import Changed, Changes, judge_changes

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="double"),
        Column(name="amount", type="double"),
        Column(name="fraud", type="long"),
    ),
    features=("amount",),
    key="id",
    target="fraud",
    event_time="at",
)


def told(changes: Changes, contract: Contract = CARDS, accepted: str = "") -> tuple[bool, str]:
    outcome = judge_changes(changes, contract, accepted)
    return outcome.passed, outcome.description


def test_a_correction_of_few_values_passes_and_says_how_many_rows_it_replaces():
    passed, text = told(Changes(40, {"amount": Changed(40, 1_000)}))

    assert passed
    assert text.startswith("40 known rows are replaced")


def test_a_column_that_changes_in_too_many_rows_refuses_the_load_and_is_in_the_table():
    outcome = judge_changes(Changes(900, {"amount": Changed(900, 1_000), "at": Changed(20, 1_000)}), CARDS)

    assert not outcome.passed
    assert "900 of 1,000 known values of amount" in outcome.description
    assert "of at" not in outcome.description
    assert "accept_changes" in outcome.description
    assert "| amount | 900 | 1,000 | 90.0% |" in str(outcome.details["changes"])
    assert "| at | 20 | 1,000 | 2.0% |" in str(outcome.details["changes"]), "what else it would change is told, too"


def test_losing_all_frauds_is_too_much_however_few_they_are():
    few = {1: Changed(91, 91), 0: Changed(0, 9_909)}

    assert not told(Changes(91, labels=few, classes_after={0: 10_000, 1: 0}))[0]
    assert told(Changes(91, labels={0: Changed(91, 10_000)}, classes_after={0: 9_909, 1: 182}))[0]


def test_the_last_fraud_is_missed_even_if_so_few_are_not_counted_as_a_share():
    lost = Changes(3, classes_after={0: 50, 1: 0})

    passed, text = told(lost)

    assert not passed
    assert "leave no row with fraud = 1" in text
    assert told(Changes(3, classes_after={0: 50, 1: 1}))[0]


def test_what_a_person_has_accepted_passes_and_keeps_the_reason():
    passed, text = told(Changes(900, {"amount": Changed(900, 1_000)}), accepted="euros since May")

    assert passed
    assert text.startswith("accepted (euros since May): the load would change 900 of 1,000")


@pytest.mark.parametrize(("share", "passes"), [(0.9, True), (0.89, False), (1.0, True), (0.0, False)])
def test_the_contract_states_the_share(share: float, passes: bool):
    contract = CARDS.model_copy(update={"max_changed_share": share})

    assert told(Changes(900, {"amount": Changed(900, 1_000)}), contract)[0] is passes


def test_the_share_is_about_loads_and_not_about_the_table():
    assert CARDS.model_copy(update={"max_changed_share": 0.5}).fingerprint == CARDS.fingerprint
