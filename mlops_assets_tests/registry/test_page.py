"""What a registration shows: both curves in one picture, champions over time, a table of alert budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np

from benchmarks._weekly_gates import period
from mlops_assets.evaluation.bootstrap import Contender
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.operating_points import OperatingPoints
from mlops_assets.registry.ledger import Entry, Event
from mlops_assets.registry.page import Page, budgets_of_both, history, page_of
from mlops_assets.registry.pair import Pair

ROWS, NEW, OLD = period(np.random.default_rng(2), 200, lead=1.5, own=0.2)
PAIR = Pair(ROWS, Contender(NEW, 0.2), Contender(OLD, 0.2), Design(20, 1))


def entry(number: int, day: int, to: int, event: Event = "promoted") -> Entry:
    assert event in get_args(Event)
    return Entry(number, f"2026-11-{day:02d}T06:00:00.000000+00:00", "m", 0, to, event, "why")


def heights(svg: str) -> list[int]:
    points = svg.partition('points="')[2].partition('"')[0]
    return [int(pair.partition(",")[2]) for pair in points.split()]


def test_champions_are_steps_over_time():
    svg = history([entry(1, 1, 1), entry(2, 5, 4), entry(3, 6, 7), entry(4, 6, 4, "not carried out"), entry(5, 9, 2)])

    assert "champion: version 2 since 2026-11-09, 3 changes" in svg, "what was not carried out was no change"
    first, highest, last = heights(svg)[0], heights(svg)[2], heights(svg)[-1]
    assert first > last > highest, "the y axis points downwards"
    assert history([]) == ""


def test_both_models_stand_side_by_side():
    page = page_of(PAIR, [entry(1, 1, 1)], None, 20)

    assert page.curves.count("<polyline") == 2
    rows = [line.split("|") for line in page.budgets.splitlines()]
    assert [cells[1].strip() for cells in rows[2:]] == ["10", "20 (now)", "50", "100", "500"]
    points = OperatingPoints.of(ROWS.y, NEW, ROWS.days, ROWS.amounts, None)
    assert int(rows[2][2]) == points.at(points.by_alert_budget(10).value)[1]
    assert int(rows[2][2]) > int(rows[2][3]), "the better one"
    assert "money" not in budgets_of_both(
        Pair(replace(ROWS, amounts=None), PAIR.candidate, PAIR.champion, PAIR.design), 20
    )


def test_a_first_version_shows_what_its_own_budgets_would_do():
    points = OperatingPoints.of(ROWS.y, NEW, ROWS.days, ROWS.amounts, None)
    page = page_of(None, [], points, 20)

    assert (page.curves, page.history) == ("", "")
    assert "20 (now)" in page.budgets
    assert page_of(None, [], None, 20) == Page()
