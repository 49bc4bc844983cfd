"""The days behind daily partitions.

What belongs here: the partitions, and converting one to a day. What does not: what is made for a day (assets).
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

# A day becomes a partition once it is over; sensors handle the current day.
DAYS = dg.DailyPartitionsDefinition(start_date="2020-01-01", timezone="UTC")


def day_of(context: dg.AssetExecutionContext) -> date:
    """Return the day (UTC) of a step's partition."""
    return datetime.strptime(context.partition_key, DAYS.fmt).replace(tzinfo=UTC).date()


def end_of(day: date) -> float:
    """Return the first moment after a day (UTC), in seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + timedelta(days=1).total_seconds()
