"""The gate on simulated periods of known truth: how often it promotes a model that is not better, or misses one."""

from __future__ import annotations

import pytest

from benchmarks._weekly_gates import (
    ONCE,
    WITHOUT_GUARDS,
    champion_that_has_seen_a_third,
    power,
    share_ahead,
    share_of_years,
    share_promoted,
)


@pytest.mark.parametrize("frauds", [40, 120])
def test_equal_models_are_promoted_in_at_most_one_period_of_forty(frauds: int):
    """At 95 % the lower end is above 0 in 2.5 % of the periods, 1.6 points more or less in 100."""
    assert share_promoted(100, frauds, lead=0.0, rule=ONCE) <= 0.025 + 2 * 0.016


@pytest.mark.proof  # 25 years of 52 gates
@pytest.mark.parametrize("frauds", [75, 300, 1_500])
def test_of_a_year_of_equal_models_none_is_promoted_in_nineteen_years_of_twenty(frauds: int):
    """Of 25 years at 5 %, more than 3 have a promotion in one simulation of thirty."""
    assert share_of_years(25, frauds, WITHOUT_GUARDS) <= 3 / 25


@pytest.mark.proof  # 10 years of 52 gates
def test_gates_that_do_not_share_a_year_s_chance_promote_an_equal_model_in_many_years():
    """The control: 1 - 0.975 ^ 52 = 0.73 of the years, less what the guards keep (0.45 of 40 years were seen)."""
    assert share_of_years(20, 300, ONCE, gates=52) > 0.2


@pytest.mark.proof  # hundreds of gates
def test_a_gain_of_three_points_is_found_where_there_are_frauds_enough_and_by_several_gates_where_there_are_few():
    many, few = (power(frauds, 0.03, WITHOUT_GUARDS, gates=40) for frauds in (1_500, 300))

    assert many.gate >= 0.9
    assert few.gate < 0.3
    assert few.quarter >= 0.9
    assert few.quarter > few.quarter_shared + 0.1, "without evidence that adds up it is found less often"


def test_a_rule_without_intervals_would_promote_half_of_the_equal_models():
    """The control: what `not below the champion` did."""
    assert 0.25 < share_ahead(40, 120, lead=0.0) < 0.75


@pytest.mark.proof  # a simulation of its own
def test_a_truly_better_one_is_promoted_and_more_often_with_more_frauds():
    few, many = (share_promoted(40, frauds, lead=0.8, rule=ONCE) for frauds in (40, 400))

    assert few < many
    assert many >= 0.9


def test_a_truly_worse_one_is_not():
    assert share_promoted(40, 120, lead=-0.8) == 0


@pytest.mark.proof  # a simulation of its own
def test_a_refresh_that_is_as_good_passes_the_guards_and_a_worse_one_does_not():
    """A point fitted on newer rows errs on much the same cards as before."""
    assert share_promoted(40, 400, lead=0.0, own=0.15, refresh=True) >= 0.8
    assert share_promoted(40, 400, lead=-0.8, own=0.15, refresh=True) == 0


def test_a_champion_that_has_seen_a_third_of_the_rows_is_told_from_one_that_is_better():
    everything, unseen = champion_that_has_seen_a_third()

    assert everything.champion > everything.candidate, "on rows of which it has seen a third the champion looks better"
    assert not everything.promoted
    assert unseen.candidate > unseen.champion + 0.05
    assert unseen.promoted
