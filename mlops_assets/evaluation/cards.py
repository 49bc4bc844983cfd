"""Alerts on cards instead of transactions: a daily list of the most suspicious cards, and which cards are new on it.

What belongs here: card precision on a daily budget, and which cards are known as compromised. What does not: alerts on
transactions (`ranking`), intervals (`bootstrap`). A card is whatever the contract names as its entity.

Both follow the Fraud Detection Handbook. Chapter 4, "Precision top-k metrics": a card is as suspicious as its highest
score of the day; the k most suspicious are checked; one that had a fraud that day is blocked, and can't fill the list
of a later day. Chapter 3, "Baseline fraud detection system": a card is known as compromised from the day on which the
label of one of its frauds is known, and such cards leave the rows that are evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.evaluation.metrics import checked_budget, checked_days, checked_labels_and_scores, refuse
from mlops_assets.evaluation.ranking import Array, BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class PastFrauds:
    """Frauds from before the evaluated rows, and how long it takes until a label is known.

    Attributes:
        entities: Card of each fraud [m], ids as in the evaluated rows.
        days: Day number of each fraud [m].
        label_delay_days: Days until a fraud's label is known.
    """

    entities: Array
    days: Array
    label_delay_days: float


def card_precision_at_k(y_true: Array, scores: Array, days: Array, entities: Array, k: int) -> float:
    """Compromised cards among the k most suspicious of each day, over k, averaged over the days.

    A day of fewer than k cards is divided by k too, as in the handbook. Cards that tie across the edge of the budget
    are checked in part: the result is an expected value that does not depend on the order of the rows. (What such a tie
    means for later days is taken on average.)

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        days: Day number of each row [n], any integer dtype.
        entities: Card of each row [n].
        k: Cards that can be checked in a day, at least 1.

    Raises:
        EvaluationError: The input is invalid.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    if entities.shape != fraud.shape:
        refuse(f"entities of shape {entities.shape} for {len(fraud)} rows", where="entities", fix="pass one id per row")
    cards, codes = np.unique(entities, return_inverse=True)
    ranking = DailyCards(fraud, score, checked_days(days, len(fraud)), codes)
    return ranking.at_budget(checked_budget(k), np.ones(len(cards)))


def unknown_rows(fraud: BoolArray, days: Array, entities: Array, past: PastFrauds) -> BoolArray:
    """Return which rows belong to cards that are not known as compromised on the row's day [n].

    A card is known from the first day that is more than `label_delay_days` after one of its frauds, whether that lies
    in `past` or among these rows.

    Args:
        fraud: Labels [n] bool.
        days: Day number of each row [n].
        entities: Card of each row [n].
        past: Frauds from before.
    """
    cards, codes = np.unique(np.concatenate([entities, past.entities]), return_inverse=True)
    earlier = np.concatenate([fraud, np.ones(len(past.entities), dtype=bool)])
    first_fraud = np.full(len(cards), np.inf)
    np.minimum.at(first_fraud, codes[earlier], np.concatenate([days, past.days])[earlier].astype(np.float64))
    return first_fraud[codes[: len(days)]] + past.label_delay_days >= days


class DailyCards:
    """Cards sorted once by day and falling suspicion.

    Args:
        fraud: Labels [n] bool.
        score: Scores [n] float64.
        days: Day number of each row [n].
        cards: Number of each row's card [n], from 0.
    """

    def __init__(self, fraud: BoolArray, score: FloatArray, days: Array, cards: Array) -> None:
        _, day = np.unique(days, return_inverse=True)
        _, entry = np.unique(day * (int(cards.max()) + 1) + cards, return_inverse=True)  # one a card and day
        entries = int(entry.max()) + 1
        highest, compromised = np.full(entries, -np.inf), np.zeros(entries, dtype=bool)
        np.maximum.at(highest, entry, score)
        compromised[entry[fraud]] = True
        card_of, day_of = np.empty((2, entries), dtype=np.int64)
        card_of[entry], day_of[entry] = cards, day
        order = np.lexsort((-highest, day_of))
        begins = np.flatnonzero(np.diff(day_of[order], prepend=-1))
        self._days = [
            _Day.of(card_of[part], highest[part], compromised[part]) for part in np.split(order, begins[1:].tolist())
        ]

    def at_budget(self, k: int, weights: FloatArray) -> float:
        """Return the mean over days of (compromised cards on the list) / k; `weights` [cards] are copies of a card."""
        left = weights.copy()
        return float(np.mean([day.check(k, left) for day in self._days])) / k


@dataclass(frozen=True, slots=True)
class _Day:
    """A day's cards from the most suspicious down [cards of the day], and its compromised ones.

    Attributes:
        cards: Card numbers.
        begin: Where the tie begins that each compromised card is in [compromised].
        end: Where it ends.
        compromised: Card numbers of the compromised ones.
    """

    cards: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    compromised: npt.NDArray[np.int64]

    @classmethod
    def of(cls, cards: Array, falling: FloatArray, compromised: BoolArray) -> _Day:
        at = np.flatnonzero(compromised)
        rising = -falling
        begin = np.searchsorted(rising, rising[at], side="left")
        end = np.searchsorted(rising, rising[at], side="right")
        # Nobody looks at cards that are less suspicious than the last compromised one.
        return cls(cards[: int(end[-1]) if len(end) else 0], begin, end, cards[at])

    def check(self, k: int, left: FloatArray) -> float:
        """Return how many compromised cards the list holds, and take them out of `left` [cards], copies of a card."""
        if not len(self.compromised):
            return 0.0
        running = np.concatenate(([0.0], np.cumsum(left[self.cards])))
        above, size = running[self.begin], running[self.end] - running[self.begin]
        checked = np.divide(np.clip(k - above, 0.0, size), size, out=np.zeros_like(size), where=size > 0)
        found = left[self.compromised] * checked
        left[self.compromised] -= found
        return float(found.sum())
