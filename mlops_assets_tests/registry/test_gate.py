"""The promotion gate, as arithmetic."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.bootstrap import Gain
from mlops_assets.evaluation.drift import FeatureDrift
from mlops_assets.evaluation.intervals import Interval
from mlops_assets.evaluation.slices import SliceGain
from mlops_assets.registry.contest import Contest
from mlops_assets.registry.gate import Decision, Verdict, already_champion, judge_promotion, rolled_back
from mlops_assets.registry.gate_rule import GateRule

SHARES = st.floats(min_value=0, max_value=1)
CHAMPION = "champion version 1"


def gain(low: float, high: float | None = None, *, champion: float = 0.5) -> Gain:
    high = low + 0.1 if high is None else high
    estimate = (low + high) / 2
    return Gain(champion + estimate, champion, Interval(estimate, low, high, replicates=500, seed=42))


def contest(low: float = 0.01, **changed: Any) -> Contest:
    """Return a comparison that a candidate passes unless something is changed; guards are named as gains."""
    gains = {
        "average_precision": gain(low),
        "precision_at_budget": gain(changed.pop("precision", 0.0)),
        "brier": gain(changed.pop("brier", 0.0), champion=0.01),
        "calibration_error": gain(changed.pop("calibration", 0.0), champion=0.01),
        "money_saved": gain(changed.pop("money", 0.0), champion=500.0),
    }
    made = Contest(CHAMPION, method="the model itself", rows=5_000, frauds=60, fraud_money=1_000.0, gains=gains)
    return replace(made, **changed)


def verdict_on(candidate: float = 0.6, *, rate: float = 0.01, against: Contest | None = None, **rule: Any) -> Verdict:
    return judge_promotion(
        GateRule(**{"min_lift": 5, **rule}),
        average_precision=candidate,
        judged="the rehearsal",
        fraud_rate=rate,
        contest=against,
    )


def decided(against: Contest, **rule: Any) -> Decision:
    return verdict_on(against=against, **rule).decision


def test_a_first_version_must_be_better_than_simple_scores_as_far_as_chance_lets_one_tell():
    def first(
        amount: float, logistic: float = 0.1, against: Contest | None = None, width: float = 0.05, **rule: Any
    ) -> Verdict:
        simple = {"the amount alone": amount, "logistic regression": logistic}
        gains = {name: gain(0.6 - value - width, 0.6 - value + width, champion=value) for name, value in simple.items()}
        return judge_promotion(
            GateRule(**rule), average_precision=0.6, judged="", fraud_rate=0.01, contest=against, simple=gains
        )

    assert first(0.5, 0.5).promoted
    assert first(0.62).promoted, "a difference that chance explains"
    assert first(0.6, width=0.0).decision == "kept", "a copy"
    assert "is not above 0.7000 of the amount alone: stays" in first(0.7).reason
    assert "is not above 0.6600 of logistic regression" in first(0.1, 0.66).reason
    assert "0.7000 of the amount alone and 0.6600 of logistic regression" in first(0.7, 0.66).reason
    assert first(0.7, beat_simple_scores=False).promoted
    assert first(math.nan).decision == "broken"
    assert first(0.7, against=contest()).promoted, "with a champion it is the champion that must be beaten"


def part(low: float, name: str = "amount 1 to 9") -> SliceGain:
    """Return the gain in a part of the rows whose lower end at 95 %, if it is the only one, is `low`."""
    error = 0.1
    estimate = low + 1.959964 * error
    return SliceGain(
        name, 60, replace(gain(low), interval=replace(gain(low).interval, estimate=estimate), error=error, freedom=1e9)
    )


def test_a_part_of_the_rows_must_not_collapse():
    assert decided(contest(slices=[part(-0.19)])) == "promoted"
    refused = verdict_on(against=contest(slices=[part(-0.21)]))
    assert refused.decision == "kept"
    assert "rows of amount 1 to 9: the gain's lower end -0.21 is not above -0.2" in refused.reason
    assert decided(contest(slices=[part(-0.21)]), slice_margin=0.3) == "promoted"
    assert refused.details["slice amount 1 to 9, gain_low"] == pytest.approx(-0.21)


def test_parts_are_judged_together():
    """The clearest of two at half the error: 2.24 standard errors instead of 1.96; the other as if it were alone."""
    assert decided(contest(slices=[part(-0.19), part(-0.16, "hours")])) == "promoted"
    assert decided(contest(slices=[part(-0.19), part(-0.18, "hours")])) == "kept"


def test_the_reasons_must_be_the_champion_s_in_part():
    assert decided(contest(reason_overlap=1 / 3)) == "promoted"
    refused = verdict_on(against=contest(reason_overlap=0.0))
    assert "0 % of the top-3 reasons are the champion's, less than 30 %" in refused.reason
    assert decided(contest(reason_overlap=0.0), min_reason_overlap=0) == "promoted"
    assert verdict_on(against=contest(reason_overlap=math.nan)).decision == "broken"


def test_what_gates_have_gathered_together_promotes_a_candidate_that_leads():
    gathered = {"evidence": 41.0, "gates": 6}
    assert decided(contest(-0.01)) == "kept"
    assert decided(contest(-0.01, **gathered)) == "promoted"
    assert decided(contest(-0.01, evidence=39.0)) == "kept"
    trailing = verdict_on(against=contest(-0.2, **gathered))
    assert trailing.decision == "kept"
    assert "evidence of 6 gate(s) is 41, where 40 is needed with a lead of its own" in trailing.reason
    assert decided(contest(-0.01, **gathered, brier=-0.1)) == "kept", "the guards are asked all the same"
    assert decided(contest(-0.01, evidence=math.nan)) == "broken"


def test_a_refresh_must_not_be_worse_than_by_a_margin():
    def refresh(estimate: float) -> Contest:
        gains = dict(contest().gains)
        gains["average_precision"] = replace(gain(estimate), error=0.01, freedom=1e9)
        return contest(gains=gains, refresh=True)

    assert decided(refresh(-0.075)) == "promoted"
    assert decided(refresh(-0.085)) == "kept"
    assert "average precision: the gain's lower end" in verdict_on(against=refresh(-0.085)).reason


def test_drift_is_reported_and_decides_nothing():
    moved, still = FeatureDrift("v1", 0.31, 0.02), FeatureDrift("v2", 0.09, 0.02)
    verdict = judge_promotion(
        GateRule(), average_precision=0.6, judged="", fraud_rate=0.01, contest=None, drift=[moved, still]
    )

    assert verdict.promoted
    assert verdict.details["drifted_features"] == "v1 0.31"
    assert verdict.details["largest_psi"] == 0.31


def test_a_champion_that_is_not_what_was_registered_breaks_the_gate():
    against = contest(broken="the version is broken: model.ubj differ [fraud version 1]")

    assert decided(against) == "broken"
    assert verdict_on(against=against).outcome.severity == "error"
    assert "nothing is compared with it" in verdict_on(against=against).reason


def test_the_champion_itself_passes_and_what_was_rolled_back_does_not():
    assert already_champion(3).promoted
    back = rolled_back("2026-11-01T00:00:00+00:00: too many alerts")
    assert back.decision == "kept"
    assert "too many alerts" in back.reason


def test_the_gates_of_a_year_share_its_chance():
    """Half of it each by itself, half all together."""
    assert GateRule().level == pytest.approx(1 - 0.05 / 52)
    assert GateRule().evidence_needed == 40
    assert GateRule(false_promotions=0.05, gates_a_year=1).level == pytest.approx(0.95)


def test_a_verdict_is_strict_json():
    said = verdict_on(math.nan).to_json_dict()

    assert json.loads(json.dumps(said, allow_nan=False))["decision"] == "broken"


def test_a_first_version_must_be_better_than_chance():
    assert verdict_on(0.6).promoted
    assert "no champion yet; judged: the rehearsal" in verdict_on(0.6).reason
    assert verdict_on(0.05).promoted
    assert not verdict_on(0.0499).promoted
    assert not verdict_on(0.01).promoted


def test_a_candidate_near_chance_does_not_pass_whatever_the_champion():
    assert not verdict_on(0.01, against=contest()).promoted
    assert not verdict_on(0.01, against=contest(frauds=0, age_days=99.0), replace_after_days=1).promoted


def test_a_gain_counts_once_its_whole_interval_does():
    assert decided(contest(0.001)) == "promoted"
    assert decided(contest(0.0)) == "kept"
    assert decided(contest(-0.01)) == "kept"
    assert decided(contest(0.01), min_gain=0.01) == "kept"
    assert decided(contest(0.011), min_gain=0.01) == "promoted"


@pytest.mark.parametrize(
    ("guard", "just_within", "beyond", "named"),
    [
        ("precision", -0.05, -0.051, "precision on the alert budget"),
        ("brier", -0.001, -0.00101, "Brier score"),  # 10 % of 0.01
        ("money", -100.0, -100.1, "money"),  # 10 % of 1,000
        ("calibration", -0.003, -0.0031, "calibration error"),  # 25 % of 60 in 5,000
    ],
)
def test_each_guard_has_a_margin(guard: str, just_within: float, beyond: float, named: str):
    assert decided(contest(**{guard: just_within})) == "promoted"
    refused = verdict_on(against=contest(**{guard: beyond}))
    assert refused.decision == "kept"
    assert f"{named}: the gain's lower end" in refused.reason
    margin = {"precision": "precision_margin", "brier": "brier_margin", "money": "money_margin"}
    wider = {margin.get(guard, "calibration_margin"): 0.11 if guard in margin else 0.3}
    assert decided(contest(**{guard: beyond}), **wider) == "promoted"


def test_data_without_amounts_have_no_guard_of_money():
    gains = dict(contest().gains)
    del gains["money_saved"]
    assert decided(contest(gains=gains, fraud_money=0.0)) == "promoted"


def test_a_refresh_needs_the_guards_only():
    assert decided(contest(-0.09, refresh=True)) == "promoted"
    assert decided(contest(-0.09, refresh=False)) == "kept"
    assert decided(contest(0.2, refresh=True, brier=-0.1)) == "kept"


def test_an_identical_booster_never_passes():
    assert decided(Contest(CHAMPION, identical=True)) == "kept"
    assert decided(Contest(CHAMPION, age_days=999.0, identical=True), replace_after_days=1) == "kept"
    assert decided(contest(0.2, identical=True)) == "kept"


def test_too_few_unseen_frauds_is_no_verdict():
    few = verdict_on(against=Contest(CHAMPION, rows=900, frauds=12))

    assert few.decision == "can't tell"
    assert "can't tell: 18 more frauds needed" in few.reason
    assert not few.outcome.passed
    assert few.outcome.severity == "warn"
    assert decided(contest(frauds=29)) == "can't tell"
    assert decided(contest(frauds=30)) == "promoted"
    assert decided(contest(frauds=29), min_unseen_frauds=29) == "promoted"


def test_a_champion_whose_training_rows_are_unknown_is_kept_and_the_verdict_says_why():
    verdict = verdict_on(against=Contest(CHAMPION, obstacle="what it has seen is not known"))

    assert verdict.decision == "can't tell"
    assert "what it has seen is not known" in verdict.reason


def test_what_happens_to_an_old_champion_if_the_gate_cant_tell_is_a_setting():
    old, young = Contest(CHAMPION, age_days=91.0), Contest(CHAMPION, age_days=89.0)

    assert decided(old) == "can't tell"
    assert decided(old, replace_after_days=90) == "promoted"
    assert decided(young, replace_after_days=90) == "can't tell"
    assert decided(contest(-0.1, age_days=91.0), replace_after_days=90) == "kept", "here it can tell"


def test_not_being_promoted_is_an_ordinary_outcome():
    assert verdict_on(0.01).outcome.severity == "warn"
    assert verdict_on(against=contest(-0.1)).outcome.severity == "warn"


@pytest.mark.parametrize(
    ("candidate", "rate", "low"),
    [
        (math.nan, 0.01, None),
        (0.6, math.nan, None),
        (0.6, 0.01, math.nan),
        (math.inf, 0.01, 0.5),
        (-math.inf, 0.01, 0.5),
    ],
)
def test_figures_that_are_not_finite_are_an_error(candidate: float, rate: float, low: float | None):
    verdict = verdict_on(candidate, rate=rate, against=None if low is None else contest(low))

    assert verdict.decision == "broken"
    assert verdict.outcome.severity == "error"
    assert "the gate can't decide" in verdict.reason


@pytest.mark.parametrize("lift", [0.99, 0, -1, math.nan])
def test_a_rule_that_lets_a_coin_pass_is_refused(lift: float):
    with pytest.raises(EvaluationError, match="accept a random model"):
        GateRule(lift)


@pytest.mark.parametrize(
    "rule",
    [
        {"min_gain": -0.01},
        {"false_promotions": 0.0},
        {"false_promotions": 1.0},
        {"false_promotions": math.nan},
        {"gates_a_year": 0},
        {"min_unseen_frauds": 0},
        {"brier_margin": -0.1},
        {"precision_margin": math.nan},
        {"money_margin": math.inf},
        {"replace_after_days": -1},
        {"average_precision_margin": -0.1},
        {"calibration_margin": math.nan},
        {"slice_margin": -0.1},
        {"min_slice_frauds": 1},
        {"min_reason_overlap": 1.1},
    ],
)
def test_a_setting_out_of_its_range_is_refused(rule: dict[str, Any]):
    with pytest.raises(EvaluationError, match=next(iter(rule))):
        GateRule(**rule)


@given(candidate=SHARES, rate=SHARES, low=st.none() | st.floats(-1, 1), precision=st.floats(-1, 1))
def test_passing_means_all_conditions_hold(candidate: float, rate: float, low: float | None, precision: float):
    against = None if low is None else contest(low, precision=precision)
    expected = candidate >= 5 * rate and (low is None or (low > 0 and precision >= -0.05))

    assert verdict_on(candidate, rate=rate, against=against).promoted is expected


def test_the_refusal_says_all_reasons():
    reason = verdict_on(against=contest(-0.1, brier=-0.1)).reason

    assert "average precision 0.4500 against champion version 1's 0.5000 on 5,000 rows with 60 frauds" in reason
    assert (
        "the gain's lower end -0.1000 is not above 0, and the evidence of 0 gate(s) is 1, where 40 is needed" in reason
    )
    assert "judged: the model itself" in reason
