"""The blocking checks of a split: verdicts on its three sets.

What belongs here: counts in, verdicts out. What does not: counting (`split_frames`), choosing cuts (`split`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.days import days_before
from mlops_assets.data.splits.split import SET_NAMES, SplitSpec

SPLIT_CHECKS: dict[str, str] = {
    "disjoint": "No row, and no exact duplicate of a row, is in two sets.",
    "complete": "Every row of the raw table is in a set, in the gap, or without a mature label.",
    "set_classes": "Each set holds frauds and genuine transactions.",
    "set_volume": "Each set holds enough rows to learn from or to measure on.",
    "sets_in_time_order": "Training, validation and test rows follow each other in time, with the gap between them.",
}


@dataclass(frozen=True)
class SetSummary:
    """Counts and bounds of one set; times in seconds (since 1970 for timestamps, else since the data's origin).

    Attributes:
        rows: Rows.
        frauds: Frauds among them.
        first: Earliest event time.
        last: Latest event time.
        late_labels: Rows whose label came later than the row.
        youngest_label_days: Days for which the youngest label has been known; None where labels do not age.
        label_age_days: The same for the median label (approximate).
        content: Sum of the hashes of its rows, the same for the same rows in any order; None if not asked for.
    """

    rows: int
    frauds: int
    first: float | None
    last: float | None
    late_labels: int = 0
    youngest_label_days: float | None = None
    label_age_days: float | None = None
    content: int | None = None

    @property
    def fraud_rate(self) -> float:
        """Share of frauds; 0 for an empty set."""
        return self.frauds / self.rows if self.rows else 0.0


def judge_sets(
    summaries: Mapping[str, SetSummary],
    *,
    raw_rows: int,
    gap_rows: int,
    left_out: Mapping[str, tuple[int, int]],
    shared: int,
    spec: SplitSpec,
    time_zone: str,
    min_rows: int,
) -> list[CheckOutcome]:
    """Return one verdict per check of `SPLIT_CHECKS`, in that order.

    Args:
        summaries: Counts and bounds of the tables as they are, by set name.
        raw_rows: Rows of the pinned raw version.
        gap_rows: Rows that the gap leaves out.
        left_out: Rows that can't be used yet, and how many of them are frauds, by reason (`maturity.LEFT_OUT`).
        shared: Rows found in more than one set.
        spec: How the sets were cut.
        time_zone: The contract's.
        min_rows: Smallest number of rows a set may have.
    """
    sets = {name: summaries.get(name, SetSummary(0, 0, None, None)) for name in SET_NAMES}
    total = sum(summary.rows for summary in sets.values())
    one_class = [name for name, s in sets.items() if not 0 < s.frauds < s.rows]
    small = [f"{name} ({s.rows:,} rows)" for name, s in sets.items() if s.rows < min_rows]
    longer = "load a longer period, or change the fractions"
    waiting = "".join(
        f" + {rows:,} {reason.replace('_', ' ')}{f' ({frauds:,} frauds)' if frauds else ''}"
        for reason, (rows, frauds) in left_out.items()
        if rows
    )
    outcomes = [
        CheckOutcome(
            "disjoint",
            passed=shared == 0,
            description="no row in two sets" if shared == 0 else f"{shared:,} rows are in more than one set",
            details={"shared_rows": shared},
        ),
        CheckOutcome(
            "complete",
            passed=total + gap_rows + sum(rows for rows, _ in left_out.values()) == raw_rows,
            description=f"{total:,} rows in sets + {gap_rows:,} in the gap{waiting} of {raw_rows:,} raw rows",
            details={
                "rows_in_sets": total,
                "gap_rows": gap_rows,
                **{f"{reason}_rows": rows for reason, (rows, _) in left_out.items()},
                **{f"{reason}_frauds": frauds for reason, (_, frauds) in left_out.items()},
                "raw_rows": raw_rows,
            },
        ),
        CheckOutcome(
            "set_classes",
            passed=not one_class,
            description=f"only one class in: {', '.join(one_class)}; {longer}"
            if one_class
            else "both classes in each set",
            details={f"frauds.{name}": s.frauds for name, s in sets.items()},
        ),
        CheckOutcome(
            "set_volume",
            passed=not small,
            description=f"fewer than {min_rows:,} rows in: {', '.join(small)}; {longer}" if small else "enough rows",
            details={f"rows.{name}": s.rows for name, s in sets.items()},
        ),
    ]
    outcomes.append(_time_order(sets, spec, time_zone))
    return outcomes


def _time_order(sets: Mapping[str, SetSummary], spec: SplitSpec, time_zone: str) -> CheckOutcome:
    check = "sets_in_time_order"
    if spec.strategy != "time":
        return CheckOutcome(check, passed=True, description="stratified: figures flatter, for comparison only")
    gap = spec.gap_days
    spans = [(name, s.first, s.last) for name, s in sets.items() if s.first is not None and s.last is not None]
    close = [
        f"{earlier} ends at {last:,.0f} s, {later} starts at {first:,.0f} s"
        for (earlier, _, last), (later, first, _) in pairwise(spans)
        if not last < days_before(first, gap, time_zone)
    ]
    if not close:
        return CheckOutcome(check, passed=True, description="train, then validation, then test")
    wanted = f" (a gap of {spec.gap_days:g} days is required)" if gap else ""
    text = f"sets overlap in time: {'; '.join(close)}{wanted}: the future leaks into training"
    return CheckOutcome(check, passed=False, description=text)
