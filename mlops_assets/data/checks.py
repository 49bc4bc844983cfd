"""The outcome of one check of data or of a model, before Dagster sees it.

What belongs here: the value type that every check returns. What does not: the checks themselves, and Dagster's
own `AssetCheckResult` (made from this in `assets/reporting.py`).
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class CheckOutcome:
    """The result of one check.

    Attributes:
        name: The check's name, the same in specs, results and tests.
        passed: Whether the data may go on.
        description: One line: which column, how many rows, and how to fix it when the check failed.
        details: Plain values for the metadata table.
        severity: What it means not to pass: `error` stops what follows and fails the run, `warn` is an ordinary outcome
            that a person should see.
    """

    name: str
    passed: bool
    description: str
    details: dict[str, str | int | float] = field(default_factory=dict)
    severity: Literal["error", "warn"] = "error"
