"""Each blocking check of the raw table fails a table that is not sound, and lets a sound one pass."""

from __future__ import annotations

import pytest

from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.data.ingest.table_checks import TABLE_CHECKS, both_classes, rows_accounted, rows_kept


@pytest.mark.parametrize(("accepted", "said"), [(5, ""), (4, "1 rows were lost"), (7, "2 rows were duplicated")])
def test_rows_that_are_nowhere_or_twice_fail_the_check(accepted: int, said: str):
    outcome = rows_accounted(rows=10, accepted=accepted, quarantined=3, known=2)

    assert outcome.passed is (not said)
    assert said in outcome.description


@pytest.mark.parametrize(("after", "passed"), [(600, True), (599, False), (601, False)])
def test_a_merge_of_labels_that_changes_the_number_of_rows_fails_the_check(after: int, *, passed: bool):
    outcome = rows_kept(600, after)

    assert outcome.passed is passed
    assert outcome.name in TABLE_CHECKS
    assert f"600 rows before late labels were merged, {after}" in outcome.description


@pytest.mark.parametrize(("frauds", "genuine", "passed"), [(1, 1, True), (0, 5, False), (5, 0, False), (0, 0, False)])
def test_a_table_of_one_class_fails_the_check_unless_labels_may_come_later(
    creditcard: Contract, frauds: int, genuine: int, *, passed: bool
):
    assert both_classes(frauds=frauds, genuine=genuine, contract=creditcard).passed is passed
    assert both_classes(frauds=frauds, genuine=genuine, contract=load_contract("cards")).passed
