"""What the page of a registration shows beside the gate's figures: two curves, past champions, alert budgets.

What belongs here: the pictures and the table. What does not: where they are shown (`assets/registered_model`), the
measurements (`pair`), the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from mlops_assets.evaluation.operating_points import OperatingPoints, budget_table
from mlops_assets.evaluation.plots.thumbnails import steps, two_precision_recalls
from mlops_assets.registry.ledger import carried_out

if TYPE_CHECKING:
    from mlops_assets.registry.ledger import Entry
    from mlops_assets.registry.pair import Pair

_BUDGETS: Final = (10, 50, 100, 500)


@dataclass(frozen=True)
class Page:
    """Pictures as SVG and a table in Markdown; each is empty where there is nothing to show.

    Attributes:
        curves: Precision over recall of challenger and champion, on rows that neither has seen.
        history: Which version was champion when.
        budgets: What alert budgets would do: both models on rows that neither has seen, or a first version on those
            that its threshold was chosen on.
    """

    curves: str = ""
    history: str = ""
    budgets: str = ""


def page_of(pair: Pair | None, moves: Sequence[Entry], points: OperatingPoints | None, alerts_per_day: int) -> Page:
    """Return what a registration shows.

    Args:
        pair: Challenger and champion; None if they were not compared.
        moves: The ledger of champions, oldest first.
        points: What thresholds did on the rows that the threshold was chosen on, if the run has kept that.
        alerts_per_day: The budget of now.
    """
    if pair is None:
        table = "" if points is None else budgets_of(points, alerts_per_day)
        return Page("", history(moves), table)
    curves = two_precision_recalls(pair.rows.y, pair.candidate.scores, pair.champion.scores)
    return Page(curves, history(moves), budgets_of_both(pair, alerts_per_day))


def budgets_of(points: OperatingPoints, alerts_per_day: int) -> str:
    """Return a Markdown table of what alert budgets would do, that of now among them."""
    return budget_table(points, _BUDGETS, alerts_per_day)


def history(moves: Sequence[Entry]) -> str:
    """Return a picture of the champions' versions over time; empty where there was none."""
    moved = carried_out(moves)
    if not moved:
        return ""
    moments = np.array([datetime.fromisoformat(entry.at).timestamp() for entry in moved])
    numbers = np.array([float(entry.to_version) for entry in moved])
    last = moved[-1]
    caption = f"champion: version {last.to_version or 'nobody'} since {last.at[:10]}, {len(moved)} changes"
    return steps(moments, numbers, max(datetime.now(UTC).timestamp(), moments[-1] + 1), caption)


def budgets_of_both(pair: Pair, alerts_per_day: int) -> str:
    """Return a Markdown table of frauds and money that both models catch with alert budgets."""
    rows = pair.rows
    both = [
        OperatingPoints.of(rows.y, side.scores, rows.days, rows.amounts, rows.on_whole_day)
        for side in (pair.candidate, pair.champion)
    ]
    money = rows.amounts is not None
    names = ["alerts a day", "frauds: challenger", "champion", *(["money: challenger", "champion"] if money else [])]
    lines = [f"| {' | '.join(names)} |", "|--:" * len(names) + "|"]
    for budget in sorted({*_BUDGETS, alerts_per_day}):
        found = [points.at(points.by_alert_budget(budget).value) for points in both]
        cells = [
            f"{budget:,}{' (now)' if budget == alerts_per_day else ''}",
            *(f"{caught:,}" for _, caught, _ in found),
        ]
        cells += [f"{amount:,.0f}" for *_, amount in found if amount is not None]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
