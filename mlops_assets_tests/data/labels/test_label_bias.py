"""A simulation whose truth is known: what the rule of maturity does to the figures of a fixed scorer.

90 days of 1,000 transactions, 0.8 % frauds, a label delay of 7 days; a fraud is reported after 2 days in the mean
(exponential). The scorer is fixed and never fitted, so its average precision on any days is that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mlops_assets.data.columns import LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.contract.contract import Column, Contract, LabelColumns
from mlops_assets.data.labels.maturity import Maturity
from mlops_assets.data.labels.maturity_frames import left_out
from mlops_assets.data.splits.as_of_frames import cut_as_of, rows_as_of, waiting_after
from mlops_assets.data.splits.split import SplitSpec
from mlops_assets.data.splits.split_frames import assign_sets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY, DAYS, PER_DAY, DELAY = 86_400.0, 90, 1_000, 7.0
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


@dataclass(frozen=True)
class Simulated:
    """What happened (`truth`) and what was known of it at the end; arrays with one value per transaction."""

    at: npt.NDArray[np.float64]
    truth: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    reported: npt.NDArray[np.float64]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return self.truth & (self.reported <= DAYS * DAY)

    def table(self) -> pd.DataFrame:
        """Return the raw table at the end: genuine rows carry a 0 of their own, reported frauds a late label."""
        late = np.where(self.known, self.reported, np.nan)
        columns = {"id": np.arange(len(self.at)), "at": self.at, "fraud": self.known.astype(int), "score": self.scores}
        return pd.DataFrame({**columns, LABEL_KNOWN_AT: late}).astype({LABEL_KNOWN_AT: object}).replace({np.nan: None})

    def average_precision(self, rows: npt.NDArray[np.bool_]) -> float:
        return float(average_precision_score(self.known[rows], self.scores[rows]))


def simulate(seed: int) -> Simulated:
    random = np.random.default_rng(seed)
    count = DAYS * PER_DAY
    at = np.sort(random.uniform(0, DAYS * DAY, count))
    truth = random.random(count) < 0.008
    scores = random.normal(size=count) + 2.2 * truth
    return Simulated(at, truth, scores, at + random.exponential(2.0 * DAY, count))


def last_fifth(rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the test block of a split in time: the last fifth of the rows that can be used."""
    chosen = np.flatnonzero(rows)
    block = np.zeros_like(rows)
    block[chosen[int(len(chosen) * 0.8) :]] = True
    return block


# Means over 20 histories, as `docs/explanation/honest-figures.md` has them.
PUBLISHED = {"true": 0.31, "test set": (0.32, 0.36), "week after a past day": (0.31, 0.43)}


def test_frauds_that_are_reported_early_do_not_raise_the_figures():
    """By the rule the average precision is the true one; if an early report admitted a row, it would not be."""
    found = []
    for seed in range(20):
        cards = simulate(seed)
        by_age = cards.at <= Maturity(DAYS * DAY, DELAY).newest_event
        or_reported = by_age | cards.known
        week = (cards.at > 80 * DAY) & (cards.at <= 87 * DAY)
        blocks = (last_fifth(by_age), last_fifth(or_reported), week & by_age, week & or_reported)
        true = average_precision_score(cards.truth, cards.scores)
        found.append([true, *map(cards.average_precision, blocks)])

    true, *figures = np.mean(found, axis=0).round(2).tolist()
    assert {"true": true, "test set": tuple(figures[:2]), "week after a past day": tuple(figures[2:])} == PUBLISHED


def test_the_sets_and_the_backtest_hold_no_fraud_of_days_whose_genuine_rows_are_too_young(spark: SparkSession):
    cards = simulate(1)
    table = spark.createDataFrame(
        cards.table(), f"id long, at double, fraud long, score double, {LABEL_KNOWN_AT} double"
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
