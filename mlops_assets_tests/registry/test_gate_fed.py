"""What the gate says to blocks and scores that it must never promote on: from the rows to the verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._weekly_gates import period
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.bootstrap import Contender
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.metrics import average_precision
from mlops_assets.registry.contest import Contest
from mlops_assets.registry.gate import Verdict, judge_promotion
from mlops_assets.registry.gate_evidence import Evidence
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets.registry.pair import Pair

RULE = GateRule(gates_a_year=1)  # at 95 %: what is refused here is refused by a stricter one, too
ROWS, NEW, OLD = period(np.random.default_rng(8), 400, lead=1.5, own=0.2)
PAIR = Pair(ROWS, Contender(NEW, 0.2), Contender(OLD, 0.2), Design(60, 1))
AT = np.arange(len(ROWS.y), dtype=float)


def judged(pair: Pair) -> Verdict:
    """Return the verdict on a pair, as the comparison in `registry` puts it together."""
    gains = pair.compared({"average_precision": RULE.level}).gains
    counted = pair.counted(Evidence(1, 1), AT[: len(pair.rows.y)], gains["average_precision"], RULE)
    found = Contest(
        "champion version 1",
        rows=len(pair.rows.y),
        frauds=int(pair.rows.y.sum()),
        fraud_money=float(np.asarray(pair.rows.amounts)[pair.rows.y == 1].sum()),
        gains=gains,
        evidence=1.0 if counted is None else counted.factor,
        gates=1,
    )
    reached = average_precision(pair.rows.y, np.asarray(pair.candidate.scores))
    rate = float(pair.rows.y.mean())
    return judge_promotion(RULE, average_precision=reached, judged="", fraud_rate=rate, contest=found)


def with_scores(scores: np.ndarray) -> Pair:
    return replace(PAIR, candidate=Contender(scores, 0.2))


def test_the_control_is_promoted():
    assert judged(PAIR).promoted


def test_scores_that_are_no_numbers_are_refused_on_either_side():
    broken = NEW.copy()
    broken[3] = np.nan
    with pytest.raises(EvaluationError):
        judged(with_scores(broken))
    with pytest.raises(EvaluationError):
        judged(replace(PAIR, champion=Contender(broken, 0.2)))


@pytest.mark.parametrize("label", [0, 1])
def test_a_block_of_one_class_is_refused(label: int):
    rows = replace(ROWS, y=np.full(len(ROWS.y), label, dtype=np.uint8))
    with pytest.raises(EvaluationError):
        judged(replace(PAIR, rows=rows))


def test_a_copy_of_the_champion_is_never_better():
    copy = judged(with_scores(OLD))

    assert copy.decision == "kept"
    assert copy.details["average_precision_gain_low"] == 0
    assert copy.details["evidence"] == 1


def test_fewer_frauds_than_the_minimum_are_no_verdict_and_no_evidence():
    kept = (ROWS.y == 0) | (np.cumsum(ROWS.y) <= 20)
    few = Pair(ROWS.where(kept), Contender(NEW[kept], 0.2), Contender(OLD[kept], 0.2), PAIR.design)

    verdict = judged(few)

    assert verdict.decision == "can't tell"
    assert "10 more frauds needed" in verdict.reason
    assert verdict.details["evidence"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_are_always_refused(seed: int):
    """Scores that have nothing to do with the labels are as good as chance, which `min_lift` keeps out."""
    shuffled = np.random.default_rng(seed).permutation(ROWS.y)

    assert judged(replace(PAIR, rows=replace(ROWS, y=shuffled))).decision == "kept"
    assert judged(with_scores(np.random.default_rng(seed).permutation(NEW))).decision == "kept"
