"""The gate on simulated periods whose truth is known: how often it promotes a model that is not better, or misses one.

Frauds come in series of four per card and share most of what makes their scores; that is what a comparison row by row
gets wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.metrics import average_precision_score

from mlops_assets.evaluation.bootstrap import Contender, compare
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.registry.gate import Contest, GateRule, judge_promotion

SERIES, GENUINE, DAYS = 4, 1_000, 14
RULE = GateRule()


def logistic(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def period(random: np.random.Generator, frauds: int, lead: float, own: float) -> tuple[Rows, Any, Any]:
    """Draw a period, and the scores of a candidate and a champion.

    Args:
        random: Draws it.
        frauds: Frauds in it.
        lead: By how much the candidate's log-odds of a fraud are higher.
        own: Standard deviation of what the two models do not share in their log-odds, by card and by row.
    """
    cards = frauds // SERIES
    card = np.concatenate([np.repeat(np.arange(cards), SERIES), cards + random.integers(0, GENUINE // 5, GENUINE)])
    y = (np.arange(len(card)) < frauds).astype(np.uint8)
    shared = random.normal(0, 1, card.max() + 1)[card] * np.where(y == 1, 1.2, 0.5)

    def scores(mean: float) -> Any:
        error = random.normal(0, own, cards + GENUINE // 5)[card] + random.normal(0, own, len(card))
        return logistic(np.where(y == 1, mean, -4.0) + shared + error)

    rows = Rows(
        y=y,
        days=random.integers(0, DAYS, len(card)),
        alerts_per_day=5,
        entities=card,
        amounts=random.exponential(100.0, len(card)),
        alert_cost=10.0,
    )
    return rows, scores(-1.3 + lead), scores(-1.3)


def against(rows: Rows, candidate: Any, champion: Any, **changed: Any) -> Contest:
    comparison = compare(
        rows, candidate=Contender(candidate, 0.2), baseline=Contender(champion, 0.2), design=Design(60, 1)
    )
    assert rows.amounts is not None
    return Contest(
        "champion version 1",
        rows=len(rows.y),
        frauds=int(rows.y.sum()),
        fraud_money=float(rows.amounts[rows.y == 1].sum()),
        gains=comparison.gains,
        **changed,
    )


def share_promoted(
    periods: int, frauds: int, lead: float, rule: GateRule = RULE, *, own: float = 0.4, **changed: Any
) -> float:
    random = np.random.default_rng(frauds)
    promoted = 0
    for _ in range(periods):
        rows, candidate, champion = period(random, frauds, lead, own)
        contest = against(rows, candidate, champion, **changed)
        promoted += judge_promotion(rule, average_precision=0.5, judged="", fraud_rate=0.02, contest=contest).promoted
    return promoted / periods


WITHOUT_GUARDS = GateRule(brier_margin=100.0, precision_margin=100.0, money_margin=100.0)


@pytest.mark.parametrize("frauds", [40, 120])
def test_equal_models_are_promoted_in_at_most_one_period_of_forty(frauds: int):
    """The interval has 95 %: its lower end is above 0 in 2.5 % of the periods, 1.6 points more or less in 100."""
    assert share_promoted(100, frauds, lead=0.0, rule=WITHOUT_GUARDS) <= 0.025 + 2 * 0.016


def test_a_rule_without_intervals_would_promote_half_of_the_equal_models():
    """The control: what `not below the champion` did."""
    random = np.random.default_rng(1)
    periods = [period(random, 120, 0.0, own=0.4) for _ in range(40)]

    better = [
        average_precision_score(rows.y, ours) >= average_precision_score(rows.y, theirs)
        for rows, ours, theirs in periods
    ]

    assert 0.25 < np.mean(better) < 0.75


def test_a_truly_better_one_is_promoted_and_more_often_with_more_frauds():
    few, many = (share_promoted(40, frauds, lead=0.8) for frauds in (40, 400))

    assert few < many
    assert many >= 0.9


def test_a_truly_worse_one_is_not():
    assert share_promoted(40, 120, lead=-0.8) == 0


def test_a_refresh_that_is_as_good_passes_the_guards_and_a_worse_one_does_not():
    """A point fitted on newer rows errs on much the same cards as before."""
    assert share_promoted(40, 400, lead=0.0, own=0.15, refresh=True) >= 0.8
    assert share_promoted(40, 400, lead=-0.8, own=0.15, refresh=True) == 0


def test_a_champion_that_has_seen_a_third_of_the_rows_is_told_from_one_that_is_better():
    """Older data arrive later, so the new test set reaches back into the champion's training rows.

    Both are deep trees that know their training rows by heart. The champion has seen 3,000 rows, among them a third of
    the test rows; the candidate has eight times as many, all older.
    """
    random = np.random.default_rng(11)
    n = {"older": 24_000, "champion's": 2_000, "both": 1_000, "unseen": 2_000}
    X = random.normal(size=(sum(n.values()), 12)).astype(np.float32)
    logit = X[:, :6] @ np.array([1.6, -1.4, 1.2, 1.0, -0.8, 0.6]) + 1.2 * X[:, 0] * X[:, 1]
    y = (random.random(len(X)) < logistic(1.6 * logit - 7.5)).astype(np.uint8)
    ends = np.cumsum(list(n.values()))
    older, own, both, unseen = (np.arange(end - size, end) for end, size in zip(ends, n.values(), strict=True))
    test = np.concatenate([both, unseen])

    def fitted(rows: Any) -> Any:
        data = xgb.QuantileDMatrix(X[rows], label=y[rows])
        known = {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.3, "nthread": 1, "seed": 1}
        return xgb.train(known, data, 120).predict(xgb.DMatrix(X))

    candidate, champion = fitted(older), fitted(np.concatenate([own, both]))

    def compared(at: Any) -> tuple[float, float, bool]:
        rows = Rows(y=y[at], days=np.arange(len(at)) * 10 // len(at), alerts_per_day=50, entities=at)
        verdict = judge_promotion(
            GateRule(precision_margin=0.1, brier_margin=0.1),
            average_precision=0.5,
            judged="",
            fraud_rate=float(y[at].mean()),
            contest=against_scores(rows, candidate[at], champion[at]),
        )
        return (
            average_precision_score(y[at], candidate[at]),
            average_precision_score(y[at], champion[at]),
            verdict.promoted,
        )

    ours, theirs, _ = compared(test)
    assert theirs > ours, "on rows of which it has seen a third the champion looks better"
    ours, theirs, promoted = compared(unseen)
    assert ours > theirs + 0.05
    assert promoted
    assert not compared(test)[2]


def against_scores(rows: Rows, candidate: Any, champion: Any) -> Contest:
    comparison = compare(
        rows, candidate=Contender(candidate, 0.5), baseline=Contender(champion, 0.5), design=Design(200, 1)
    )
    return Contest("champion version 1", rows=len(rows.y), frauds=int(rows.y.sum()), gains=comparison.gains)
