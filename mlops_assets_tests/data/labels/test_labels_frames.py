"""Which label counts, now and at any earlier moment: Spark against the contract's words in plain Python."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, KNOWN_AT, LABEL, LABEL_HISTORY, LABEL_KNOWN_AT, OWN_LABEL, SET_COLUMN
from mlops_assets.data.labels.as_known import known_at, labels_known_by
from mlops_assets.data.labels.labels_frames import labelled
from mlops_assets.data.labels.maturity import Maturity
from mlops_assets.data.labels.maturity_frames import left_out, maturity_of
from mlops_assets_tests.data.labels.test_maturity import DAY, START, WINDOW, contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FORGIVING = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
QUARTERS = st.integers(0, 60).map(lambda quarter: quarter / 4)
# Key, day it became known, label; the label arrives when its place in the list says.
Label = tuple[int, float, int]
LABELS = st.lists(st.tuples(st.integers(0, 2), QUARTERS, st.integers(0, 1)), min_size=1, max_size=25)
# Key, day, the row's own label.
Event = tuple[int, float, int | None]
EVENTS = st.lists(st.tuples(st.integers(0, 3), QUARTERS, st.sampled_from([0, 1, None])), min_size=1, max_size=12)


def ledger_of(spark: SparkSession, labels: list[Label], by: str) -> DataFrame:
    return spark.createDataFrame(
        [(key, label, day * DAY, [], 0, START + dt.timedelta(days=n)) for n, (key, day, label) in enumerate(labels)],
        f"{by} long, {LABEL} long, {KNOWN_AT} double, reasons array<string>, _row_number long, {INGESTED_AT} timestamp",
    )


def rows_of(spark: SparkSession, events: list[Event]) -> DataFrame:
    return spark.createDataFrame(
        [(key, key, at * DAY, own, float(n), START) for n, (key, at, own) in enumerate(events)],
        f"id long, card long, at double, fraud long, amount double, {INGESTED_AT} timestamp",
    )


def by_intervals(labels: list[Label], event: Event, by: str) -> tuple[int | None, float | None]:
    """Return label and time of an event by the words of the contract: intervals of labels, not looks from the event."""
    key, at, own = event
    last = {day: label for subject, day, label in labels if subject == key}  # of equal times, the one that came later
    days = sorted(last)
    if by == "id":
        return (last[days[-1]], days[-1]) if days else (own, None)
    for previous, day in zip([float("-inf"), *days], days, strict=False):
        if max(previous, day - WINDOW) < at <= day:
            return last[day], day
    return own, None


def seen(rows: DataFrame) -> list[tuple[int | None, float | None]]:
    found = rows.orderBy("amount").collect()
    return [(row["fraud"], None if row[LABEL_KNOWN_AT] is None else row[LABEL_KNOWN_AT] / DAY) for row in found]


@pytest.mark.proof  # many random histories
@FORGIVING
@example(labels=[(0, 10.0, 1), (0, 5.0, 1)], events=[(0, 4.0, 0), (0, 5.0, 0), (0, 5.25, 0), (0, 0.0, 0)], by="card")
@example(labels=[(0, 10.0, 1), (0, 12.0, 0)], events=[(0, 9.0, 0), (0, 11.0, 1), (0, 5.0, 0)], by="card")
@given(labels=LABELS, events=EVENTS, by=st.sampled_from(["id", "card"]))
def test_each_row_has_the_label_of_the_interval_it_is_in(
    spark: SparkSession, labels: list[Label], events: list[Event], by: str
):
    rules = contract(clock="double", by=by)

    found = labelled(rows_of(spark, events), ledger_of(spark, labels, by), rules)

    assert seen(found) == [by_intervals(labels, event, by) for event in events], "and no row is lost or doubled"
    assert [row[0] for row in found.orderBy("amount").select(OWN_LABEL).collect()] == [own for _, _, own in events]


def test_a_report_makes_no_fraud_of_a_cards_whole_past(spark: SparkSession):
    """A card with a transaction a day for a year and one report: five transactions are frauds, not 365."""
    rules = contract(clock="double", by="card")
    events: list[Event] = [(7, float(day), 0) for day in range(365)]

    found = seen(labelled(rows_of(spark, events), ledger_of(spark, [(7, 300.0, 1)], "card"), rules))

    assert [day for day, (fraud, _) in enumerate(found) if fraud] == [296, 297, 298, 299, 300]


@pytest.mark.proof  # many random histories
@FORGIVING
@given(labels=LABELS, events=EVENTS, by=st.sampled_from(["id", "card"]), moment=QUARTERS)
def test_looking_back_is_as_if_later_labels_had_never_come(
    spark: SparkSession, labels: list[Label], events: list[Event], by: str, moment: float
):
    rules = contract(clock="double", by=by)
    table = labelled(rows_of(spark, events), ledger_of(spark, labels, by), rules)
    expected = [by_intervals([label for label in labels if label[1] <= moment], event, by) for event in events]

    back = known_at(table, None, rules, Maturity(moment * DAY, 0.0))
    in_sets = table.withColumn(SET_COLUMN, F.when(F.col("card") == 1, "test").otherwise("train"))
    by_set = labels_known_by(in_sets, None, rules, {"train": moment * DAY})

    assert seen(back) == expected
    today = [by_intervals(labels, event, by) for event in events]
    assert seen(by_set) == [
        now if event[0] == 1 else then for event, now, then in zip(events, today, expected, strict=True)
    ]
    names = [row[SET_COLUMN] for row in by_set.orderBy("amount").collect()]
    assert names == [
        "test" if event[0] == 1 else "unlabelled" if then[0] is None else "train"
        for event, then in zip(events, expected, strict=True)
    ]


# Arrivals, on a calendar: id, own label, day of the event, day of arrival.
Delivery = tuple[int, int, float, float]


def delivered(spark: SparkSession, rows: list[Delivery]) -> DataFrame:
    made = [
        (n, n, START + dt.timedelta(days=at), own, float(own), START + dt.timedelta(days=arrived), 0)
        for n, own, at, arrived in rows
    ]
    return spark.createDataFrame(
        made, f"id long, card long, at timestamp, fraud long, amount double, {INGESTED_AT} timestamp, _row_number long"
    )


def as_of(spark: SparkSession, day: float) -> dict[int, tuple[int, float, str | None]]:
    """Return label, amount and whether it counts of each row, looking back from a day."""
    rules = contract(delay=1.0)
    # 0 came at once, 1 and 2 were corrected on day 20, 2 for the second time, 3 came late.
    table = delivered(spark, [(0, 0, 1.0, 2.0), (1, 1, 1.0, 20.0), (2, 1, 1.0, 20.0), (3, 1, 1.0, 15.0)])
    replaced = delivered(spark, [(1, 0, 1.0, 2.0), (2, 0, 1.0, 2.0), (2, 1, 1.0, 10.0), (2, 1, 1.0, 10.0)])
    moment = START.timestamp() + day * DAY
    rule = maturity_of(table, rules, moment, replaced)
    assert rule is not None
    rows = known_at(table, replaced, rules, rule).withColumn("reason", left_out(rules, rule))
    return {row["id"]: (row["fraud"], row["amount"], row["reason"]) for row in rows.collect()}


@pytest.mark.proof  # several versions
def test_rows_count_from_their_arrival_on_in_the_version_that_had_arrived(spark: SparkSession):
    came, late = (0, 0.0, None), (1, 1.0, "not_arrived")

    assert as_of(spark, 5.0) == {0: came, 1: came, 2: came, 3: late}
    assert as_of(spark, 10.0) == {0: came, 1: came, 2: (1, 1.0, None), 3: late}
    assert as_of(spark, 16.0) == {0: came, 1: came, 2: (1, 1.0, None), 3: (1, 1.0, None)}
    assert as_of(spark, 20.0) == {0: came, **dict.fromkeys((1, 2, 3), (1, 1.0, None))}


def test_before_the_first_arrival_the_event_time_stands_for_it(spark: SparkSession):
    """A history that was loaded at once can be looked back into, though all of it arrived later."""
    found = as_of(spark, 1.9)

    assert {row: reason for row, (_, _, reason) in found.items()} == dict.fromkeys(range(4), "immature")


@pytest.mark.proof  # several loads
def test_a_label_that_arrived_after_the_moment_does_not_count_though_it_is_dated_before(spark: SparkSession):
    rules = contract(delay=0.0)
    label: tuple[Any, ...] = (0, 1, START + dt.timedelta(days=3), [], 0, START + dt.timedelta(days=9))
    kinds = f"id long, {LABEL} long, {KNOWN_AT} timestamp, reasons array<string>"
    ledger = spark.createDataFrame([label], f"{kinds}, _row_number long, {INGESTED_AT} timestamp")
    table = labelled(delivered(spark, [(0, 0, 1.0, 2.0)]), ledger, rules)

    def fraud(day: float) -> Any:
        rule = maturity_of(table, rules, START.timestamp() + day * DAY)
        assert rule is not None
        assert rule.by_arrival
        return known_at(table, None, rules, rule).collect()[0]["fraud"]

    assert [fraud(day) for day in (2.5, 4.0, 8.9, 9.0)] == [0, 0, 0, 1]


def test_a_label_that_a_correction_brought_is_not_learned_from_before_it_came(spark: SparkSession):
    """In a split in time: row 1 became a fraud by a delivery after the cut, row 2 by one before it."""
    rules = contract()
    table = delivered(spark, [(0, 1, 1.0, 20.0), (1, 1, 1.0, 20.0), (2, 1, 1.0, 20.0)])
    replaced = delivered(spark, [(1, 0, 1.0, 2.0), (2, 0, 1.0, 2.0), (2, 1, 1.0, 9.0)])
    cut = START.timestamp() + 10 * DAY

    for name, expected in (("train", [1, 0, 1]), ("test", [1, 1, 1])):
        rows = table.withColumn(SET_COLUMN, F.lit(name))
        found = labels_known_by(rows, replaced, rules, {"train": cut}).orderBy("id")
        assert found.columns == [*table.columns, SET_COLUMN]
        assert [row["fraud"] for row in found.collect()] == expected


def test_a_version_from_before_histories_has_at_most_the_label_it_shows(spark: SparkSession):
    """The label that the late one took the place of is lost there: the row is left out before it, not used."""
    rules = contract(clock="double")
    table = rows_of(spark, [(0, 1.0, 1), (1, 1.0, 0)]).withColumn(
        LABEL_KNOWN_AT, F.when(F.col("id") == 0, F.lit(5 * DAY))
    )

    early, late = (known_at(table, None, rules, Maturity(day * DAY, 0.0)) for day in (4, 5))

    assert seen(early) == [(None, None), (0, None)]
    assert seen(late) == [(1, 5.0), (0, None)]
    assert LABEL_HISTORY not in late.columns


@pytest.mark.parametrize(("zone", "covered"), [("UTC", False), ("Europe/Berlin", True)])
def test_a_window_is_in_days_of_the_contracts_zone(spark: SparkSession, zone: str, covered: bool):
    """In Berlin the five days before midnight of 28 October 2026 have 121 hours; the transaction is 120.5 hours old."""
    rules = contract(by="card").model_copy(update={"time_zone": zone})
    event, known = dt.datetime(2026, 10, 22, 22, 30, tzinfo=dt.UTC), dt.datetime(2026, 10, 27, 23, tzinfo=dt.UTC)
    rows = spark.createDataFrame(
        [(0, 7, event, 0, 1.0, event)],
        f"id long, card long, at timestamp, fraud long, amount double, {INGESTED_AT} timestamp",
    )
    kinds = f"card long, {LABEL} long, {KNOWN_AT} timestamp, reasons array<string>, _row_number long"
    ledger = spark.createDataFrame([(7, 1, known, [], 0, known)], f"{kinds}, {INGESTED_AT} timestamp")

    (row,) = labelled(rows, ledger, rules).collect()

    assert WINDOW == 5
    assert bool(row["fraud"]) == covered
