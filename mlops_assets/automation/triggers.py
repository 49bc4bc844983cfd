"""Decides when something is due: facts in, decision and reason out.

What belongs here: pure functions over facts. What does not: gathering the facts and acting on them (`conditions`).
"""

from __future__ import annotations

from dataclasses import dataclass

_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class TrainingPace:
    """How much must change before a model is retrained; each search costs cluster time.

    Attributes:
        new_rows: Training is due after this many more rows with known labels than the last model was trained on.
        days: Or after this many days, if there is any new row or late label.
    """

    new_rows: int = 10_000
    days: float = 7.0


@dataclass(frozen=True)
class SetsFact:
    """The three sets as they were materialized.

    Attributes:
        split: Identifies the cut (`SplitReport.split_id`).
        rows: Rows in them together: events whose labels are mature.
        late_labels: Rows among them whose label arrived after the row, possibly replacing an earlier label.
        table: Identifies the raw table that they were cut from; empty if that is not recorded.
    """

    split: str
    rows: int
    late_labels: int = 0
    table: str = ""


@dataclass(frozen=True)
class TrainedFact:
    """The last model.

    Attributes:
        sets: The sets it was trained on; None if that is not recorded (any more).
        at: When it was trained, in seconds since 1970.
    """

    sets: SetsFact | None
    at: float


@dataclass(frozen=True)
class Due:
    """A decision and its reason."""

    is_due: bool
    reason: str


def training_due(sets: SetsFact | None, trained: TrainedFact | None, now: float, pace: TrainingPace) -> Due:
    """Decide whether to train.

    The decision compares the current facts instead of reacting to events: a change that arrives during a run, or before
    a run that fails, is still visible afterwards, and no version is trained on twice.

    Args:
        sets: The current sets; None when there are none.
        trained: The last model; None when there is none.
        now: Seconds since 1970.
        pace: How much must change.
    """
    if sets is None:
        return Due(is_due=False, reason="there are no sets yet")
    if trained is None or trained.sets is None:
        return Due(
            is_due=True,
            reason="no model has been trained yet" if trained is None else "the last model's sets are unknown",
        )
    if sets.split == trained.sets.split:
        return Due(is_due=False, reason=f"the last model was already trained on split {sets.split}")
    return _enough_has_changed(sets, trained.sets, (now - trained.at) / _SECONDS_PER_DAY, pace)


def _enough_has_changed(sets: SetsFact, trained: SetsFact, days: float, pace: TrainingPace) -> Due:
    if sets.table and trained.table and sets.table != trained.table:
        return Due(is_due=True, reason="the last model was trained on another table")
    new = sets.rows - trained.rows
    if new >= pace.new_rows:
        return Due(is_due=True, reason=f"{new:,} new rows, at least {pace.new_rows:,} wanted")
    late = sets.late_labels - trained.late_labels
    if (new != 0 or late != 0) and days >= pace.days:
        late_text = f", {late:,} late labels" if late else ""
        return Due(is_due=True, reason=f"{days:.1f} days since the last model, and {new:,} new rows{late_text}")
    return Due(
        is_due=False, reason=f"{new:,} of {pace.new_rows:,} new rows, and {days:.1f} of {pace.days:g} days have passed"
    )
