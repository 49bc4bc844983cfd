"""Ticks ask for what a condition wants, and say so when it never comes to rest."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from mlops_assets.testing.ticking import Ticks


def code_location(condition: dg.AutomationCondition[Any], *, fails: bool = False) -> dg.Definitions:
    @dg.asset(key_prefix="mine")
    def table() -> None: ...

    @dg.asset(key_prefix="mine", deps=[table], automation_condition=condition)
    def report() -> None:
        if fails:
            raise dg.Failure("broken")

    return dg.Definitions(assets=[table, report])


def test_what_is_asked_for_is_run_until_nothing_is(mlops_instance: dg.DagsterInstance):
    ticks = Ticks(mlops_instance, code_location(dg.AutomationCondition.eager()))

    assert ticks.settle() == []
    assert ticks.execute({"mine/table"})
    assert ticks.settle() == [{"mine/report"}]
    assert ticks.settle() == []


def test_a_condition_that_never_rests_is_an_error(mlops_instance: dg.DagsterInstance):
    ticks = Ticks(mlops_instance, code_location(dg.AutomationCondition.missing(), fails=True))

    assert not ticks.execute({"mine/report"})
    with pytest.raises(AssertionError, match="does not come to rest"):
        ticks.settle()


def test_a_run_that_goes_on_is_seen(mlops_instance: dg.DagsterInstance):
    waits = dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress()
    ticks = Ticks(mlops_instance, code_location(waits))

    going = ticks.start({"mine/report"})
    assert ticks.look() == set()
    mlops_instance.report_run_failed(going)
    assert ticks.look() == {"mine/report"}


def test_time_passes_for_conditions_that_go_by_the_clock(mlops_instance: dg.DagsterInstance):
    ticks = Ticks(mlops_instance, code_location(dg.AutomationCondition.cron_tick_passed("0 * * * *")))

    asked = [ticks.look(minutes=10) == {"mine/report"} for _ in range(13)]

    assert sum(asked) == 2
