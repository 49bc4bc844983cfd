"""When a row's label can be trusted: the rule that keeps rows that are too young out of training and test.

What belongs here: the rule, and the moment it looks back from. What does not: the same rule as Spark
column expressions (`maturity_frames`), where to split (`split`).

A genuine transaction and a fraud that has not been reported yet look the same. So a row's label is mature once a label
for it has arrived, or once the contract's label delay has passed since the transaction without one (Fraud Detection
Handbook, chapter 3.4, "delay period"). Both are judged from one moment, so the same version of the table always gives
the same sets, and no label is used that was not known at that moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.days import days_before
from mlops_assets.errors import SplitError

# Reasons for leaving rows out: the label is not mature, or there is no label.
IMMATURE, UNLABELLED = "immature", "unlabelled"
LEFT_OUT = (IMMATURE, UNLABELLED)


@dataclass(frozen=True)
class Maturity:
    """The rule for one version of the table.

    Attributes:
        as_of: The moment to look back from, in seconds on the clock of the event time (since 1970 for timestamps).
        delay_days: The contract's label delay.
        time_zone: The contract's, whose days these are.
    """

    as_of: float
    delay_days: float
    time_zone: str = "UTC"

    @property
    def newest_event(self) -> float:
        """Latest event time, in seconds, at which a row without a late label is mature."""
        return days_before(self.as_of, self.delay_days, self.time_zone)


def parse_as_of(text: str, contract: Contract) -> float:
    """Parse the `as_of` of a configuration into seconds on the clock of the contract's event time.

    Args:
        text: ISO 8601 (UTC if it has no time zone) for a contract with timestamps; otherwise a number of seconds.
        contract: Has the type of the event time.

    Raises:
        SplitError: The text has another form.
    """
    on_calendar = contract.column(contract.event_time).type == "timestamp"
    try:
        if not on_calendar:
            seconds = float(text)
        else:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        kind = "timestamp" if on_calendar else "number of seconds"
        form = "a date or time such as 2018-05-20T00:00:00Z" if on_calendar else "seconds on the clock of the data"
        raise SplitError(f"as_of {text!r} is not a valid {kind}", where="split configuration", fix=f"give {form}")
    return seconds
