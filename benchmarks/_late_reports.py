"""A simulated history with known truth: a fixed scorer, and frauds that are reported late.

What belongs here: the history, and the blocks that two rules of maturity take from it. What does not: cards, amounts
and features (`data/sources/cards`).

90 days of 1,000 transactions, 0.8 % frauds, a label delay of 7 days; a fraud is reported after 2 days in the mean
(exponential). The scorer is fixed and never fitted, so its average precision on any days is that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from mlops_assets.data.labels.maturity import Maturity

DAY, DAYS, PER_DAY, DELAY = 86_400.0, 90, 1_000, 7.0
_FRAUD_RATE = 0.008


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

    def average_precision(self, rows: npt.NDArray[np.bool_]) -> float:
        return float(average_precision_score(self.known[rows], self.scores[rows]))


def simulate(seed: int) -> Simulated:
    random = np.random.default_rng(seed)
    count = DAYS * PER_DAY
    at = np.sort(random.uniform(0, DAYS * DAY, count))
    truth = random.random(count) < _FRAUD_RATE
    scores = random.normal(size=count) + 2.2 * truth
    return Simulated(at, truth, scores, at + random.exponential(2.0 * DAY, count))


def last_fifth(rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the test block of a split in time: the last fifth of the rows that can be used."""
    chosen = np.flatnonzero(rows)
    block = np.zeros_like(rows)
    block[chosen[int(len(chosen) * 0.8) :]] = True
    return block


def figures(cards: Simulated) -> dict[str, float]:
    """Return the scorer's average precision: the true one, and that of two blocks by two rules.

    By `age` a row is used once it is old enough; by `report` a reported fraud is used at once, too. The blocks are the
    test set of a split in time, and the week after a past day, scored ten days after that day.
    """
    by_age = cards.at <= Maturity(DAYS * DAY, DELAY).newest_event
    or_reported = by_age | cards.known
    week = (cards.at > 80 * DAY) & (cards.at <= 87 * DAY)
    return {
        "true": float(average_precision_score(cards.truth, cards.scores)),
        "test set by age": cards.average_precision(last_fifth(by_age)),
        "test set by report": cards.average_precision(last_fifth(or_reported)),
        "week by age": cards.average_precision(week & by_age),
        "week by report": cards.average_precision(week & or_reported),
    }
