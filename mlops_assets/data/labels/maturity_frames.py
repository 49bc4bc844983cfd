"""The rule of `maturity` as Spark column expressions.

What belongs here: Spark expressions for it, and the ages of labels. What does not: the rule's meaning (`maturity`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, LABEL_KNOWN_AT
from mlops_assets.data.contract.contract import SECONDS_PER_DAY, Contract
from mlops_assets.data.labels.maturity import IMMATURE, UNLABELLED, Maturity

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def seconds(column: Column, *, timestamp: bool) -> Column:
    """Return a time as a double number of seconds, of timestamps since 1970."""
    return (F.unix_micros(column) / F.lit(1e6)).cast("double") if timestamp else column.cast("double")


def event_seconds(contract: Contract) -> Column:
    """Event time as a double number of seconds."""
    return _on_the_clock(contract.event_time, contract)


def maturity_of(table: DataFrame, contract: Contract, as_of: float | None) -> Maturity | None:
    """Return the rule for a version of the raw table; None where there is nothing to wait for.

    Args:
        table: The pinned version.
        contract: Label delay and event time.
        as_of: The moment to look back from. By default the newest on record: with timestamps the last arrival of a row
            or, if later, of a label; on a clock of its own the newest event, which is the only moment that is known
            there.

    Returns:
        None for a table without late labels, under a contract without a label delay, when no moment is given.
    """
    late = LABEL_KNOWN_AT in table.columns
    delay = contract.label_delay_days
    if as_of is not None:
        return Maturity(as_of, delay)
    if not delay and not late:
        return None
    on_calendar = contract.column(contract.event_time).type == "timestamp"
    moments = [seconds(F.col(INGESTED_AT), timestamp=True)] if on_calendar else [event_seconds(contract)]
    if on_calendar and late:
        moments.append(_on_the_clock(LABEL_KNOWN_AT, contract))
    if not delay:  # an event that is ahead of its arrival, by whatever clock, is no reason to wait
        moments.append(event_seconds(contract))
    newest = [moment for moment in table.agg(*[F.max(moment) for moment in moments]).collect()[0] if moment is not None]
    return Maturity(max(newest), delay) if newest else None


def left_out(table: DataFrame, contract: Contract, maturity: Maturity | None) -> Column:
    """Return why a row can't be used yet: `unlabelled`, `immature`, or null when it can.

    Args:
        table: The table whose rows are asked about.
        contract: Target and event time.
        maturity: The rule; None waits for nothing but a label.
    """
    reason = F.when(F.col(contract.target).isNull(), F.lit(UNLABELLED))
    if maturity is None:
        return reason
    passed = event_seconds(contract) <= F.lit(maturity.newest_event)
    if LABEL_KNOWN_AT in table.columns:
        known = _on_the_clock(LABEL_KNOWN_AT, contract)
        # The label that the row had before this one is not in the table any more: what came later than `as_of` says
        # nothing about the moment itself.
        passed = F.when(known.isNotNull(), known <= F.lit(maturity.as_of)).otherwise(passed)
    # A row without an event time is neither young nor old: it is lost, and the checks must see that.
    return reason.when(~passed, F.lit(IMMATURE))


def label_age_days(table: DataFrame, contract: Contract, maturity: Maturity) -> Column:
    """Return for how many days a label has been known: since it came, or since its transaction where none came."""
    since = event_seconds(contract)
    if LABEL_KNOWN_AT in table.columns:
        since = F.coalesce(_on_the_clock(LABEL_KNOWN_AT, contract), since)
    return (F.lit(maturity.as_of) - since) / F.lit(SECONDS_PER_DAY)


def _on_the_clock(name: str, contract: Contract) -> Column:
    """Return a time that is of the event time's kind, in seconds."""
    return seconds(F.col(name), timestamp=contract.column(contract.event_time).type == "timestamp")
