"""The rule of `maturity` as Spark column expressions.

What belongs here: Spark expressions for it, and the ages of labels. What does not: the rule's meaning (`maturity`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, LABEL_KNOWN_AT
from mlops_assets.data.contract.contract import SECONDS_PER_DAY, Contract
from mlops_assets.data.labels.maturity import IMMATURE, NOT_ARRIVED, UNLABELLED, Maturity

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def seconds(column: Column, *, timestamp: bool) -> Column:
    """Return a time in seconds as a double; timestamps count from 1970."""
    return (F.unix_micros(column) / F.lit(1e6)).cast("double") if timestamp else column.cast("double")


def event_seconds(contract: Contract) -> Column:
    """Return the event time in seconds as a double."""
    return _on_the_clock(contract.event_time, contract)


def maturity_of(
    table: DataFrame, contract: Contract, as_of: float | None, replaced: DataFrame | None = None
) -> Maturity | None:
    """Return the rule for a version of the raw table; None if labels do not age.

    Args:
        table: The pinned version.
        contract: Label delay and event time.
        as_of: The moment to look back from. The default is the newest on record: with timestamps the last arrival of a
            row or, if later, of a label; if the data has a clock of its own, the newest event, the only moment known
            there.
        replaced: Rows that later writes of their key replaced; None if there are none.

    Returns:
        None if the table has no late labels, the contract has no label delay, and `as_of` is None.
    """
    late = LABEL_KNOWN_AT in table.columns
    delay = contract.label_delay_days
    if as_of is not None:
        return Maturity(as_of, delay, contract.time_zone, by_arrival=_arrivals_known(table, replaced, contract, as_of))
    if not delay and not late:
        return None
    on_calendar = contract.column(contract.event_time).type == "timestamp"
    moments = [seconds(F.col(INGESTED_AT), timestamp=True)] if on_calendar else [event_seconds(contract)]
    if on_calendar and late:
        moments.append(_on_the_clock(LABEL_KNOWN_AT, contract))
    if not delay:  # an event time later than its arrival is a clock error, and no reason to wait
        moments.append(event_seconds(contract))
    newest = [moment for moment in table.agg(*[F.max(moment) for moment in moments]).collect()[0] if moment is not None]
    return Maturity(max(newest), delay, contract.time_zone) if newest else None


def left_out(contract: Contract, maturity: Maturity | None) -> Column:
    """Return why a row can't be used yet: `not_arrived`, `unlabelled`, `immature`, or null when it can.

    Args:
        contract: Target and event time.
        maturity: The rule; if None, every row with a label can be used.
    """
    without = F.col(contract.target).isNull()
    if maturity is None:
        return F.when(without, F.lit(UNLABELLED))
    absent = F.lit(False)  # the neutral element of OR
    if maturity.by_arrival:
        absent = seconds(F.col(INGESTED_AT), timestamp=True) > F.lit(maturity.as_of)
    # A row without an event time is neither young nor old: it falls out of all sets, and the checks must see that.
    young = event_seconds(contract) > F.lit(maturity.newest_event)
    return F.when(absent, F.lit(NOT_ARRIVED)).when(without, F.lit(UNLABELLED)).when(young, F.lit(IMMATURE))


def label_age_days(table: DataFrame, contract: Contract, maturity: Maturity) -> Column:
    """Return for how many days a label has been known, counted from its transaction unless it came late."""
    since = event_seconds(contract)
    if LABEL_KNOWN_AT in table.columns:
        since = F.coalesce(_on_the_clock(LABEL_KNOWN_AT, contract), since)
    return (F.lit(maturity.as_of) - since) / F.lit(SECONDS_PER_DAY)


def _arrivals_known(table: DataFrame, replaced: DataFrame | None, contract: Contract, as_of: float) -> bool:
    """Return whether a row had arrived by a moment; before the first one nothing is on record."""
    if contract.column(contract.event_time).type != "timestamp":
        return False
    tables = [table] if replaced is None else [table, replaced]
    first = [rows.agg(F.min(seconds(F.col(INGESTED_AT), timestamp=True))).collect()[0][0] for rows in tables]
    return any(moment is not None and moment <= as_of for moment in first)


def _on_the_clock(name: str, contract: Contract) -> Column:
    """Return a time of the same kind as the event time, in seconds."""
    return seconds(F.col(name), timestamp=contract.column(contract.event_time).type == "timestamp")
