"""Rows that a model has not seen: later than all it was trained on, and none of it by key or by place."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.lakehouse.unseen_rows import UNSEEN, with_unseen
from mlops_assets_tests.lakehouse.test_late_labels import contract

# number (key, or row number), event time
Rows = list[tuple[int, float]]


def unseen(spark: SparkSession, rules: Contract, test: Rows, seen: Rows) -> set[int]:
    """Return the numbers of the unseen rows; all are of one batch."""
    number = ROW_NUMBER if rules.key is None else rules.key
    columns = [number, rules.event_time, BATCH_ID]

    def frame(rows: Rows) -> DataFrame:
        return spark.createDataFrame(
            [(n, at, "a") for n, at in rows], f"{columns[0]} long, {columns[1]} double, {BATCH_ID} string"
        )

    marked = with_unseen(frame(test), frame(seen), rules).collect()
    assert len(marked) == len(test)
    return {row[number] for row in marked if row[UNSEEN]}


@pytest.mark.parametrize("rules", [contract(), load_contract("creditcard")], ids=["by key", "by place"])
def test_only_later_rows_that_were_not_trained_on_are_unseen(spark: SparkSession, rules: Contract):
    seen = [(1, 1.0), (2, 2.0), (3, 3.0)]
    # Older and new; at the same moment; later; later, but the same row, whose time was corrected.
    test = [(4, 0.5), (5, 3.0), (6, 3.1), (2, 9.0), (7, 9.0)]

    assert unseen(spark, rules, test, seen) == {6, 7}
    assert unseen(spark, rules, test, []) == {4, 5, 6, 2, 7}
    assert unseen(spark, rules, seen, seen) == set()
