"""Simulated periods whose truth is known, in which the promotion gate compares a candidate with the champion.

What belongs here: the periods, and what the gate decides on them. What does not: the gate (`registry/gate`).

Frauds come in series of four per card and share most of what makes their scores; that is what a comparison row by row
gets wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb
from sklearn.metrics import average_precision_score

from mlops_assets.evaluation.bootstrap import Contender, compare
from mlops_assets.evaluation.evidence import e_value
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.registry.contest import RANKING, Contest
from mlops_assets.registry.gate import judge_promotion
from mlops_assets.registry.gate_rule import GateRule

SERIES, GENUINE, DAYS = 4, 1_000, 14
RULE = GateRule()
# As if there were one gate and no other: at 95 %, with one chance in forty.
NO_GUARDS: Any = dict.fromkeys(("brier_margin", "precision_margin", "money_margin", "calibration_margin"), 100.0)
ONCE = GateRule(false_promotions=0.05, gates_a_year=1, **NO_GUARDS)
WITHOUT_GUARDS = GateRule(**NO_GUARDS)


def logistic(values: Any) -> Any:
    """Return the probability of log-odds."""
    return 1 / (1 + np.exp(-values))


def period(
    random: np.random.Generator, frauds: int, lead: float, own: float, genuine: int = GENUINE
) -> tuple[Rows, Any, Any]:
    """Draw a period, and the scores of a candidate and a champion.

    Args:
        random: Draws it.
        frauds: Frauds in it.
        lead: By how much the candidate's log-odds of a fraud are higher.
        own: Standard deviation of what the two models do not share in their log-odds, by card and by row.
        genuine: Genuine rows in it.
    """
    cards = frauds // SERIES
    card = np.concatenate([np.repeat(np.arange(cards), SERIES), cards + random.integers(0, genuine // 5, genuine)])
    y = (np.arange(len(card)) < frauds).astype(np.uint8)
    shared = random.normal(0, 1, card.max() + 1)[card] * np.where(y == 1, 1.2, 0.5)

    def scores(mean: float) -> Any:
        error = random.normal(0, own, cards + genuine // 5)[card] + random.normal(0, own, len(card))
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


def against(rows: Rows, candidate: Any, champion: Any, level: float = RULE.level, **changed: Any) -> Contest:
    """Return the comparison of a candidate with the champion on rows that neither has seen."""
    comparison = compare(
        rows,
        candidate=Contender(candidate, 0.2),
        baseline=Contender(champion, 0.2),
        design=Design(60, 1),
        levels={RANKING: level},
    )
    money = 0.0 if rows.amounts is None else float(rows.amounts[rows.y == 1].sum())
    return Contest(
        "champion version 1",
        rows=len(rows.y),
        frauds=int(rows.y.sum()),
        fraud_money=money,
        gains=comparison.gains,
        **changed,
    )


def promoted(rule: GateRule, contest: Contest, fraud_rate: float = 0.02) -> bool:
    """Return whether the gate promotes the candidate."""
    return judge_promotion(rule, average_precision=0.5, judged="", fraud_rate=fraud_rate, contest=contest).promoted


def share_promoted(
    periods: int, frauds: int, lead: float, rule: GateRule = RULE, *, own: float = 0.4, **changed: Any
) -> float:
    """Return in which share of periods the gate promotes the candidate."""
    random = np.random.default_rng(frauds)
    drawn = (period(random, frauds, lead, own) for _ in range(periods))
    return float(np.mean([promoted(rule, against(*each, rule.level, **changed)) for each in drawn]))


def share_of_years(
    years: int, frauds: int, rule: GateRule, *, lead: float = 0.0, own: float = 0.4, gates: int = 52
) -> float:
    """Return in which share of years one gate or more promotes the candidate, another one in each gate.

    Args:
        years: Years to draw.
        frauds: Frauds in the period of each gate, none of which an earlier gate has used.
        rule: The gate's.
        lead: As in `period`; 0 for models that are exactly as good as their champion.
        own: As in `period`.
        gates: Gates in a year.
    """
    random = np.random.default_rng(frauds + 7)

    def promotes() -> bool:
        evidence = 1.0
        for _ in range(gates):
            contest = against(*period(random, frauds, lead, own), rule.level)
            evidence *= e_value(contest.gains[RANKING], rule.min_gain)
            if promoted(rule, replace(contest, evidence=evidence)):
                return True
        return False

    return float(np.mean([promotes() for _ in range(years)]))


@dataclass(frozen=True)
class Power:
    """How often a candidate of a known gain is promoted, as shares.

    Attributes:
        frauds: Frauds in each period.
        gain: The candidate's gain in average precision, on one very long period.
        once: Gates that would promote it at 95 %, as if there were no others.
        shared: Gates that would if a year's gates shared its whole chance and added nothing up.
        quarter_shared: Quarters (13 gates) in which one of those does.
        year_shared: Years (52 gates) in which one of those does.
        gate: Gates that promote it, each by itself.
        quarter: Quarters in which one gate does, with what they add up to.
        year: Years in which one gate does.
    """

    frauds: int
    gain: float
    once: float
    shared: float
    quarter_shared: float
    year_shared: float
    gate: float
    quarter: float
    year: float


def power(frauds: int, gain: float, rule: GateRule, *, gates: int = 150, years: int = 4_000, own: float = 0.4) -> Power:
    """Measure how often a candidate is promoted. Gates differ only by chance, so years are drawn from a pool of them.

    Args:
        frauds: Frauds in each period.
        gain: The candidate's gain in average precision.
        rule: The gate's.
        gates: Gates to draw.
        years: Years to draw from them.
        own: As in `period`.
    """
    random = np.random.default_rng(frauds)
    lead = lead_for(gain, frauds, own=own)
    drawn = [against(*period(random, frauds, lead, own), rule.level) for _ in range(gates)]
    gains = [contest.gains[RANKING] for contest in drawn]
    # With all the evidence in the world a candidate that leads passes unless a guard refuses it.
    passes = np.array([promoted(rule, replace(contest, evidence=1e300)) for contest in drawn])
    alone = np.array([promoted(rule, contest) for contest in drawn])
    of_all = 1 - 2 * rule.false_promotions / rule.gates_a_year
    once, shared = (passes & [gain.lower_end(level) > 0 for gain in gains] for level in (0.95, of_all))
    drawn_years = random.integers(0, gates, (years, rule.gates_a_year))
    evidence = np.cumprod(np.array([e_value(gain, rule.min_gain) for gain in gains])[drawn_years], axis=1)
    hits = alone[drawn_years] | (passes[drawn_years] & (evidence >= rule.evidence_needed))
    quarter = rule.gates_a_year // 4

    def share(found: Any, first: int) -> float:
        return float(found[:, :first].any(axis=1).mean())

    return Power(
        frauds,
        gain,
        once=float(once.mean()),
        shared=float(shared.mean()),
        quarter_shared=share(shared[drawn_years], quarter),
        year_shared=share(shared[drawn_years], rule.gates_a_year),
        gate=float(alone.mean()),
        quarter=share(hits, quarter),
        year=share(hits, rule.gates_a_year),
    )


def share_ahead(periods: int, frauds: int, lead: float, *, own: float = 0.4) -> float:
    """Return in which share of periods the candidate's average precision is not below the champion's."""
    random = np.random.default_rng(frauds)
    drawn = (period(random, frauds, lead, own) for _ in range(periods))
    return float(
        np.mean([average_precision_score(r.y, new) >= average_precision_score(r.y, old) for r, new, old in drawn])
    )


def lead_for(gain: float, frauds: int, *, own: float = 0.4) -> float:
    """Return the lead with which a candidate's average precision is higher by `gain`, on one very long period.

    Args:
        gain: The difference in average precision.
        frauds: Frauds in a period; a long one has as many for each genuine row.
        own: As in `period`.
    """
    low, high = -2.0, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        rows, new, old = period(np.random.default_rng(1), 100 * frauds, middle, own, genuine=100 * GENUINE)
        found = average_precision_score(rows.y, new) - average_precision_score(rows.y, old)
        low, high = (middle, high) if found < gain else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Contested:
    """A candidate against a champion on some rows: average precision of both, and whether the gate promotes it."""

    candidate: float
    champion: float
    promoted: bool


def champion_that_has_seen_a_third() -> tuple[Contested, Contested]:
    """Compare on all test rows and on those that neither model has seen, where older data arrived later.

    The new test set reaches back into the champion's training rows. Both are deep trees that know their training rows
    by heart. The champion has seen 3,000 rows, among them a third of the test rows; the candidate has eight times as
    many, all older. The gate is the only one: of 52 a year each would need more frauds than there are here.
    """
    rule = replace(ONCE, precision_margin=0.1, brier_margin=0.1)
    random = np.random.default_rng(11)
    n = {"older": 24_000, "champion's": 2_000, "both": 1_000, "unseen": 2_000}
    X = random.normal(size=(sum(n.values()), 12)).astype(np.float32)
    logit = X[:, :6] @ np.array([1.6, -1.4, 1.2, 1.0, -0.8, 0.6]) + 1.2 * X[:, 0] * X[:, 1]
    y = (random.random(len(X)) < logistic(1.6 * logit - 7.5)).astype(np.uint8)
    ends = np.cumsum(list(n.values()))
    older, own, both, unseen = (np.arange(end - size, end) for end, size in zip(ends, n.values(), strict=True))

    def fitted(rows: Any) -> Any:
        data = xgb.QuantileDMatrix(X[rows], label=y[rows])
        known = {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.3, "nthread": 1, "seed": 1}
        return xgb.train(known, data, 120).predict(xgb.DMatrix(X))

    candidate, champion = fitted(older), fitted(np.concatenate([own, both]))

    def compared(at: Any) -> Contested:
        rows = Rows(y=y[at], days=np.arange(len(at)) * 10 // len(at), alerts_per_day=50, entities=at)
        comparison = compare(
            rows,
            candidate=Contender(candidate[at], 0.5),
            baseline=Contender(champion[at], 0.5),
            design=Design(200, 1),
            levels={RANKING: rule.level},
        )
        found = Contest("champion version 1", rows=len(at), frauds=int(y[at].sum()), gains=comparison.gains)
        return Contested(
            float(average_precision_score(y[at], candidate[at])),
            float(average_precision_score(y[at], champion[at])),
            promoted(rule, found, float(y[at].mean())),
        )

    return compared(np.concatenate([both, unseen])), compared(unseen)
