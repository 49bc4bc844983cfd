"""What a load would change in rows that the table has already, and whether that is too much.

What belongs here: counts in, a verdict out, and its table. What does not: counting (`lakehouse/known_rows`), the
verdicts on inputs alone (`validation`), writing, Dagster.

A correction changes a few values. An export that went wrong (an empty label column, a column shifted by one, another
unit) changes the values of most rows, and every one of them is valid by itself. So a load is refused whole if it would
change more than the contract's `max_changed_share` of a column's known values. The labels of frauds and of genuine
transactions are counted apart: frauds are so few that losing them all would hardly change the share of all labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.contract.contract import Contract

KNOWN_VALUES: Final = "known_values"
# The verdict beside those of `validation.INPUT_CHECKS`, if a load replaces rows.
CHANGE_CHECKS: dict[str, str] = {
    KNOWN_VALUES: "Replacing known rows changes at most the contract's share of a column's values, and of labels.",
}
# Name of the table among the details of the verdict.
CHANGES: Final = "changes"
# So few are corrected by hand, and in a small table they are a large share.
FEW: Final = 10
_LISTED = 5


@dataclass(frozen=True)
class Changed:
    """Values of one column that a load would change.

    Attributes:
        changed: Values that the table has and that the load would replace by others, or by none.
        known: Values that the table has.
    """

    changed: int
    known: int

    @property
    def share(self) -> float:
        """Share of the known values that would change."""
        return self.changed / max(1, self.known)


@dataclass(frozen=True)
class Changes:
    """What a load would change in rows that the table has already.

    Attributes:
        rows: Rows that it would replace.
        columns: Changed values by column, the target excepted; columns with few (`FEW`) are left out.
        labels: Changed labels by the label that the table has, 0 and 1; those with few are left out.
        classes_after: Rows per target value that the table would have; empty if no label would change.
    """

    rows: int = 0
    columns: Mapping[str, Changed] = field(default_factory=dict)
    labels: Mapping[int, Changed] = field(default_factory=dict)
    classes_after: Mapping[int, int] = field(default_factory=dict)

    def named(self, contract: Contract) -> dict[str, Changed]:
        """Return all of them by what they are called in a verdict, the largest share first."""
        of_labels = {f"{contract.target} = {label}": changed for label, changed in self.labels.items()}
        every = {**of_labels, **self.columns}
        return dict(sorted(every.items(), key=lambda item: -item[1].share))


def judge_changes(changes: Changes, contract: Contract, accepted: str = "") -> CheckOutcome:
    """Return whether a load may change what it would change.

    Args:
        changes: What it would change.
        contract: Names, and the largest share.
        accepted: Why these changes are right, if somebody has said so; then they are only told.
    """
    named = changes.named(contract)
    over = {name: changed for name, changed in named.items() if changed.share > contract.max_changed_share}
    lost = _lost_class(changes, contract)
    details: dict[str, str | int | float] = {"rows_replaced": changes.rows}
    details |= {f"changed.{name}": changed.changed for name, changed in named.items()}
    if named:
        details[CHANGES] = as_markdown(named)
    if not (over or lost):
        text = f"{changes.rows:,} known rows are replaced; no column changes in more than "
        text += f"{contract.max_changed_share:.0%} of its known values"
        return CheckOutcome(KNOWN_VALUES, passed=True, description=text, details=details)
    listed = [f"{c.changed:,} of {c.known:,} known values of {name}" for name, c in list(over.items())[:_LISTED]]
    more = [f"{len(over) - _LISTED} more columns"] if len(over) > _LISTED else []
    text = f"the load would change {', '.join([*listed, *more])}" if over else "the load would change labels"
    text += f", and leave no row with {contract.target} = {lost[0]}" if lost else ""
    if accepted:
        text = f"accepted ({accepted}): {text}"
        return CheckOutcome(KNOWN_VALUES, passed=True, description=text, details=details)
    text += (
        f"; at most {contract.max_changed_share:.0%} may change. Fix: correct the file; or, if the changes are right, "
        "load it once with `accept_changes: <why>` in the config of the raw table (`max_changed_share` in the contract "
        "is the limit for every load)"
    )
    return CheckOutcome(KNOWN_VALUES, passed=False, description=text, details=details)


def as_markdown(named: Mapping[str, Changed]) -> str:
    """Return changed values by column as a table."""
    lines = ["| column | changed | known | share |", "|:--|--:|--:|--:|"]
    lines += [f"| {name} | {item.changed:,} | {item.known:,} | {item.share:.1%} |" for name, item in named.items()]
    return "\n".join(lines)


def _lost_class(changes: Changes, contract: Contract) -> list[int]:
    """Return the class that the table would lose, if labels can't come later."""
    after = changes.classes_after
    return [] if contract.labels is not None or not after else [label for label in (0, 1) if not after.get(label)]
