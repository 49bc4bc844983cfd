"""The benchmark of the controls reaches its table, and the page that shows it names every row of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.honesty import Sizes, measure, table

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/honest-figures.md"


@pytest.mark.proof
def test_the_page_has_a_row_for_each_figure_and_each_control_shows():
    rows, ratios = measure(Sizes(histories=2, periods=10, years=1, gates=10))

    page = PAGE.read_text("utf-8")
    assert [row for row in rows if f"| {row.control} | {row.figure} |" not in page] == []
    assert [len(values) for values in ratios.values()] == [1]
    assert len(table(rows).splitlines()) == 2 + len(rows)
    figures = {row.figure: row for row in rows}
    lead = figures["lead of the candidate that is better, in average precision"]
    assert float(lead.off) < 0 < float(lead.on)
    equal = figures["equal models promoted in a year of weekly gates, 120 frauds each"]
    assert float(equal.off) > 10
    assert float(equal.on) < 5
