"""What the rule of maturity does to the figures of a fixed scorer, on a simulation whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from benchmarks._late_reports import DAY, DAYS, DELAY, Simulated, figures, simulate
from mlops_assets.data.columns import LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.labels.maturity import Maturity
from mlops_assets.data.labels.maturity_frames import left_out
from mlops_assets.data.splits.as_of_frames import cut_as_of, rows_as_of, waiting_after
from mlops_assets.data.splits.split import SplitSpec
from mlops_assets.data.splits.split_frames import assign_sets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CARDS = Contract(
    name="cards",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="at", type="double"),
        Column(name="fraud", type="long"),
        Column(name="score", type="double"),
    ),
    features=("score",),
    key="id",
    target="fraud",
    event_time="at",
    label_delay_days=DELAY,
    labels=LabelColumns(key="id", label="is_fraud", known_at="known_at"),
)


def table_of(cards: Simulated) -> pd.DataFrame:
    """Return the raw table at the end: genuine rows carry a 0 of their own, reported frauds a late label."""
    late = np.where(cards.known, cards.reported, np.nan)
    columns = {"id": np.arange(len(cards.at)), "at": cards.at, "fraud": cards.known.astype(int), "score": cards.scores}
    return pd.DataFrame({**columns, LABEL_KNOWN_AT: late}).astype({LABEL_KNOWN_AT: object}).replace({np.nan: None})


# Means over 20 histories, as `docs/explanation/honest-figures.md` has them.
PUBLISHED = {"true": 0.31, "test set": (0.32, 0.36), "week after a past day": (0.31, 0.43)}


def test_frauds_that_are_reported_early_do_not_raise_the_figures():
    """By the rule the average precision is the true one; if an early report admitted a row, it would not be."""
    found = [figures(simulate(seed)) for seed in range(20)]

    mean = {name: round(float(np.mean([each[name] for each in found])), 2) for name in found[0]}
    assert {
        "true": mean["true"],
        "test set": (mean["test set by age"], mean["test set by report"]),
        "week after a past day": (mean["week by age"], mean["week by report"]),
    } == PUBLISHED


def test_the_sets_and_the_backtest_hold_no_fraud_of_days_whose_genuine_rows_are_too_young(spark: SparkSession):
    cards = simulate(1)
    table = spark.createDataFrame(
        table_of(cards), f"id long, at double, fraud long, score double, {LABEL_KNOWN_AT} double"
    )
    rule = Maturity(DAYS * DAY, DELAY)
    truth = average_precision_score(cards.truth, cards.scores)

    assigned = assign_sets(table, CARDS, SplitSpec(gap_days=DELAY), rule, where="t").toPandas()
    past = table.where(f"at <= {60 * DAY} AND coalesce({LABEL_KNOWN_AT}, 0) <= {60 * DAY}")
    blocks = cut_as_of(past, CARDS, validation_fraction=0.2, gap_days=DELAY, days_after=30.0, where="t")
    scored = rows_as_of(past, table, CARDS, blocks)["test"].toPandas()

    too_young = cards.at > cards.at.max() - DELAY * DAY  # on a clock of its own the newest event is the moment
    waiting = (cards.at > blocks.newest) & (cards.at <= blocks.newest + 30 * DAY) & too_young
    assert waiting_after(table, CARDS, blocks) == (waiting.sum(), (waiting & cards.known).sum())
    test = assigned[assigned[SET_COLUMN] == "test"]
    assert test["at"].max() <= (DAYS - DELAY) * DAY
    found = [average_precision_score(rows["fraud"], rows["score"]) for rows in (test, scored)]
    assert found == pytest.approx([truth] * 2, abs=0.06)
    # Counted by pandas: every row is somewhere, and the frauds that wait are those of the last days.
    young = cards.at > (DAYS - DELAY) * DAY
    immature = assigned[assigned[SET_COLUMN] == "immature"]
    assert (len(immature), immature["fraud"].sum()) == (young.sum(), (young & cards.known).sum())
    assert set(table.where(left_out(CARDS, rule).isNull()).toPandas()["id"]) == set(np.flatnonzero(~young))
