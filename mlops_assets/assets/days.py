"""The days and weeks behind partitions.

What belongs here: the partitions, and converting one to days. What does not: what is made for a day (assets).
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg


def days_from(first: date) -> dg.DailyPartitionsDefinition:
    """Return a partition for each day (UTC) from one on; a day becomes one once it is over."""
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


def weeks_from(first: date) -> dg.WeeklyPartitionsDefinition:
    """Return a partition for each week (UTC, from Monday on) from that of a day on; each is named by its Monday."""
    monday = first - timedelta(days=first.weekday())
    return dg.WeeklyPartitionsDefinition(start_date=monday.isoformat(), day_offset=1, timezone="UTC")


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """Return the days (UTC) of a step's daily partitions; a backfill in one run has many."""
    # A direct invocation for one day has no range of them.
    keys = [context.partition_key] if context.has_partition_key else context.partition_keys
    return [date.fromisoformat(key) for key in keys]


def last_day_of_week(context: dg.AssetExecutionContext) -> date:
    """Return the last day (UTC) of a step's weekly partition."""
    return date.fromisoformat(context.partition_key) + timedelta(days=6)


def end_of(day: date) -> float:
    """Return the first moment after a day (UTC), in seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + timedelta(days=1).total_seconds()
