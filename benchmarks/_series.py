"""A simulated population with known truth: cards, of which a few are compromised and then show a series of frauds.

What belongs here: rows for measurements and tests of intervals, and what is true of them. What does not: rows that look
like a data set (`data/sources`).

Cards are independent of each other. The frauds of a card share most of what makes their scores, so eight of them tell
little more than one; that is what an interval that draws rows gets wrong. Two models score all rows; the second is a
little worse, and both err on the same cards. Log-odds of both are normal in each class, so the truth is an integral.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from mlops_assets.evaluation.scorer import Rows

SERIES, COMPROMISED, GENUINE_PER_CARD = 8, 0.02, 20
DAYS = 14
THRESHOLD, ALERT_COST, MEAN_AMOUNT = 0.45, 20.0, 100.0
_GENUINE, _BETTER, _WORSE = -3.0, 0.2, 0.0  # means of the log-odds
_OF_CARD = {0: 0.5, 1: 1.2}  # standard deviation of a card's part, by class; that of a row's part is 1


@dataclass(frozen=True)
class Population:
    """Rows, and the scores of two models [n] float64."""

    rows: Rows
    better: Any
    worse: Any


def cards_for(frauds: int) -> int:
    """Return how many cards have that many frauds on average."""
    return round(frauds / SERIES / COMPROMISED)


def population(random: np.random.Generator, frauds: int) -> Population:
    """Draw a population with that many frauds on average, over DAYS days; a card's series lies within three of them."""
    cards = cards_for(frauds)
    compromised = random.random(cards) < COMPROMISED
    while not compromised.any():
        compromised = random.random(cards) < COMPROMISED
    series = np.where(compromised, SERIES, 0)
    card = np.concatenate([np.repeat(np.arange(cards), n) for n in (random.poisson(GENUINE_PER_CARD, cards), series)])
    n = len(card)
    y = (np.arange(n) >= n - series.sum()).astype(np.uint8)
    start = random.integers(0, DAYS, cards)
    days = np.where(y == 1, (start[card] + random.integers(0, 3, n)) % DAYS, random.integers(0, DAYS, n))
    spread = np.where(y == 1, _OF_CARD[1], _OF_CARD[0])
    shared, own = (spread * random.normal(0, 1, cards)[card] + random.normal(0, 1, n) for _ in range(2))
    better = np.where(y == 1, _BETTER, _GENUINE) + shared
    worse = np.where(y == 1, _WORSE, _GENUINE) + 0.8 * shared + 0.6 * own
    rows = Rows(
        y=y,
        days=days,
        alerts_per_day=max(2, frauds // 20),
        entities=card,
        amounts=random.gamma(2, MEAN_AMOUNT / 2, n),
        alert_cost=ALERT_COST,
    )
    return Population(rows, expit(better), expit(worse))


def truth(frauds: int, *, better: bool = True) -> dict[str, float]:
    """Return what the metrics of a model are on endlessly many cards; sums of money are those of one population."""
    share = np.array([GENUINE_PER_CARD, COMPROMISED * SERIES])
    share = share / share.sum()
    at = np.linspace(-16, 16, 40_001)
    step = at[1] - at[0]
    normals = [
        norm(mean, np.hypot(1, _OF_CARD[label])) for label, mean in ((0, _GENUINE), (1, _BETTER if better else _WORSE))
    ]
    genuine, fraud = (normal.pdf(at) * step for normal in normals)
    above = np.array([normal.sf(at) for normal in normals])
    score = expit(at)
    false_alarms, recall = (float(normal.sf(logit(THRESHOLD))) for normal in normals)
    alerts = share @ [false_alarms, recall]
    by_chance = alerts * share[0] + (1 - alerts) * share[1]
    rows = cards_for(frauds) * (GENUINE_PER_CARD + COMPROMISED * SERIES)
    money = rows * share[1] * MEAN_AMOUNT
    return {
        "average_precision": float(fraud @ (share[1] * above[1] / (share @ above))),
        "roc_auc": float(fraud @ (1 - above[0])),
        "kappa": 1 - (alerts + share[1] - 2 * share[1] * recall) / by_chance,
        "f1": 2 * share[1] * recall / (alerts + share[1]),
        "log_loss": float(-share @ [genuine @ np.log(1 - score), fraud @ np.log(score)]),
        "brier": float(share @ [genuine @ score**2, fraud @ (1 - score) ** 2]),
        "amount_recall": recall,
        "money_saved": recall * money - rows * alerts * ALERT_COST,
        "money_saved_over_random": (recall - alerts) * money,
    }
