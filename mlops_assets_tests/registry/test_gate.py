"""The promotion gate, as arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.errors import EvaluationError
from mlops_assets.registry.gate import GateRule, judge_promotion

SHARES = st.floats(min_value=0, max_value=1)


def verdict_on(candidate: float, *, rate: float = 0.01, champion: float | None = None, lift: float = 5) -> CheckOutcome:
    name = "" if champion is None else "champion version 1"
    return judge_promotion(GateRule(lift), candidate=candidate, fraud_rate=rate, champion=champion, champion_name=name)


def judged(candidate: float, *, rate: float = 0.01, champion: float | None = None, lift: float = 5) -> bool:
    return verdict_on(candidate, rate=rate, champion=champion, lift=lift).passed


def test_a_good_candidate_passes():
    assert judged(0.6)
    assert judged(0.6, champion=0.6)


def test_chance_does_not_pass():
    assert not judged(0.01)
    assert not judged(0.0499)
    assert judged(0.05)


def test_worse_than_the_champion_does_not_pass():
    assert not judged(0.6, champion=0.6001)


@pytest.mark.parametrize("strange", [math.nan, -math.inf])
def test_what_is_no_number_does_not_pass(strange: float):
    assert not judged(strange)
    assert not judged(strange, champion=0.1)


def test_a_champion_of_nan_does_not_let_everything_through():
    assert not judged(0.9, champion=math.nan)


def test_not_being_promoted_is_an_ordinary_outcome():
    assert verdict_on(0.01).severity == "warn"
    assert verdict_on(0.6, champion=0.6001).severity == "warn"


@pytest.mark.parametrize(
    ("candidate", "rate", "champion"),
    [(math.nan, 0.01, None), (0.6, math.nan, None), (0.6, 0.01, math.nan), (math.inf, 0.01, 0.5)],
)
def test_figures_that_are_not_finite_are_an_error(candidate: float, rate: float, champion: float | None):
    verdict = verdict_on(candidate, rate=rate, champion=champion)

    assert not verdict.passed
    assert verdict.severity == "error"
    assert "the gate can't decide" in verdict.description


@pytest.mark.parametrize("lift", [0.99, 0, -1, math.nan])
def test_a_rule_that_lets_a_coin_pass_is_refused(lift: float):
    with pytest.raises(EvaluationError, match="accept a random model"):
        GateRule(lift)


@given(candidate=SHARES, rate=SHARES, champion=st.none() | SHARES)
def test_passing_means_both_conditions_hold(candidate: float, rate: float, champion: float | None):
    expected = candidate >= 5 * rate and (champion is None or candidate >= champion)

    assert judged(candidate, rate=rate, champion=champion) is expected


def test_the_refusal_says_both_reasons():
    verdict = judge_promotion(
        GateRule(5), candidate=0.02, fraud_rate=0.01, champion=0.5, champion_name="champion version 3"
    )

    assert "below 5 x the fraud rate = 0.0500" in verdict.description
    assert "below champion version 3's 0.5000" in verdict.description
