"""Whether event times that are numbers can be seconds, as a contract without timestamps promises.

What belongs here: noticing another unit, and naming the likely one. What does not: reading values (`casting`), days
(`data/days`).

A number has no unit. Milliseconds taken for seconds make 34 days of transactions 34,000 days long: sets are cut in the
wrong places, and an alert budget is for days that no row falls into. No history of transactions is fifty years long,
and none comes from after the year 2200.
"""

from __future__ import annotations

from typing import Any, Final

from mlops_assets.data.contract.contract import SECONDS_PER_DAY, Contract
from mlops_assets.errors import SourceError

_LONGEST: Final = 50 * 365.25 * SECONDS_PER_DAY
_LAST: Final = 230 * 365.25 * SECONDS_PER_DAY  # since 1970, or since an origin of the data's own
_UNITS: Final = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def require_seconds(earliest: Any, latest: Any, contract: Contract, *, where: str) -> None:
    """Refuse an input whose event times are seconds by the contract, and can't be.

    Args:
        earliest: Earliest event time of its good rows, in the contract's type; None without any.
        latest: Latest one.
        contract: The contract.
        where: The input, for the error.

    Raises:
        SourceError: They span more than fifty years, or lie more than 230 years after the origin.
    """
    if not isinstance(earliest, float) or not isinstance(latest, float):
        return
    first, last = earliest, latest
    if last - first <= _LONGEST and last <= _LAST:
        return
    days = (last - first) / SECONDS_PER_DAY
    units = (name for name, parts in _UNITS.items() if (last - first) / parts <= _LONGEST and last / parts <= _LAST)
    unit = next(units, "")
    likely = f"; they are likely {unit}" if unit else ""
    raise SourceError(
        f"{contract.event_time} spans {days:,.0f} days, up to {last:.0f}: these can't be seconds{likely}",
        where=where,
        fix=f"convert {contract.event_time} to seconds"
        + (f" (divide by {_UNITS[unit]:,.0f})" if unit else "")
        + ", or give the column the type `timestamp` in the contract and load timestamps",
    )
