"""The outcome of one data or model check, before Dagster sees it.

What belongs here: the value type that every control returns. What does not: the controls themselves, and Dagster's
own `AssetCheckResult` (made from this in `assets/reporting.py`).
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CheckOutcome:
    """What one control found.

    Attributes:
        name: The check's name, the same in specs, results and tests.
        passed: Whether the data may go on.
        description: One line: which column, how many rows, and fix when it failed.
        details: Plain values for the metadata table.
    """

    name: str
    passed: bool
    description: str
    details: dict[str, str | int | float] = field(default_factory=dict)
