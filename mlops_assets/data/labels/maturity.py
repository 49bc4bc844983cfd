"""When a row's label can be trusted: the rule that keeps rows that are too young out of training and test.

What belongs here: the rule, and the moment it looks back from. What does not: the same rule as Spark
column expressions (`maturity_frames`), where to split (`split`).

A genuine transaction and a fraud that has not been reported yet look the same. So a row is used once the contract's
label delay has passed since the transaction (Fraud Detection Handbook, chapter 3.4, "delay period"), whatever its
label: an early report sets the value and never admits the row. If it did, the youngest days would hold frauds alone,
and their rate, the average precision and all that is chosen by it would be too high. Age is judged from one moment, so
the same version of the table always gives the same sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.days import days_before
from mlops_assets.errors import SplitError

# Reasons for leaving rows out: the label is not mature, there is no label, or the row had not arrived at the moment.
IMMATURE, UNLABELLED, NOT_ARRIVED = "immature", "unlabelled", "not_arrived"
LEFT_OUT = (IMMATURE, UNLABELLED, NOT_ARRIVED)


@dataclass(frozen=True)
class Maturity:
    """The rule for one version of the table.

    Attributes:
        as_of: The moment to look back from, in seconds on the clock of the event time (since 1970 for timestamps).
        delay_days: The contract's label delay.
        time_zone: The contract's, whose days these are.
        by_arrival: Whether rows and labels that arrived after the moment do not count. They do if the moment is the
            newest on record, and if arrivals are not on record at the moment.
    """

    as_of: float
    delay_days: float
    time_zone: str = "UTC"
    by_arrival: bool = False

    @property
    def newest_event(self) -> float:
        """Latest event time, in seconds, at which a row is mature."""
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
