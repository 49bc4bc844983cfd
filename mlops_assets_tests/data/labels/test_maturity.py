"""When a label can be trusted: the rule over Spark tables against the same rule said in plain words."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import INGESTED_AT, LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.labels.maturity import Maturity, parse_as_of
from mlops_assets.data.labels.maturity_frames import left_out, maturity_of
from mlops_assets.data.splits.as_of_frames import cut_as_of, rows_as_of
from mlops_assets.data.splits.split import SplitSpec
from mlops_assets.data.splits.split_frames import assign_sets, summarize
from mlops_assets.errors import SplitError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = 86_400.0
WINDOW = 5.0
START = dt.datetime(2018, 5, 1, tzinfo=dt.UTC)
FORGIVING = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def contract(*, delay: float = 7.0, clock: Any = "timestamp", by: str = "id") -> Contract:
    return Contract(
        name="cards",
        version=1,
        columns=(
            Column(name="id", type="long"),
            Column(name="card", type="long"),
            Column(name="at", type=clock),
            Column(name="fraud", type="long", nullable=True),
            Column(name="amount", type="double"),
        ),
        features=("amount",),
        key="id",
        entity="card",
        target="fraud",
        event_time="at",
        label_delay_days=delay,
        labels=LabelColumns(key=by, label="is_fraud", known_at="known_at", window_days=None if by == "id" else WINDOW),
    )


# Event time, label, and when the label became known, in days after the start; None for what is not there.
Row = tuple[float, int | None, float | None]


def table(spark: SparkSession, rows: list[Row], *, clock: str = "timestamp", arrived: float = 100.0) -> DataFrame:
    """Return a raw table on a calendar or on a clock of its own; all rows came in `arrived` days after the start."""
    on_calendar = clock == "timestamp"

    def time(day: float | None) -> Any:
        if day is None:
            return None
        return START + dt.timedelta(days=day) if on_calendar else day * DAY

    moment = START + dt.timedelta(days=arrived)
    made = [(n, n, time(at), fraud, 1.0, moment, time(known)) for n, (at, fraud, known) in enumerate(rows)]
    schema = f"id long, card long, at {clock}, fraud long, amount double, {INGESTED_AT} timestamp"
    return spark.createDataFrame(made, f"{schema}, {LABEL_KNOWN_AT} {clock}")


def fates(rows: DataFrame, rules: Contract, maturity: Maturity | None) -> list[str | None]:
    marked = rows.withColumn("fate", left_out(rules, maturity)).orderBy("id")
    return [row["fate"] for row in marked.select("fate").collect()]


def in_words(row: Row, as_of: float, delay: float) -> str | None:
    """Say the rule once more, day by day: what a person who looks back from `as_of` can trust."""
    at, fraud, _ = row
    if fraud is None:
        return "unlabelled"
    return None if at + delay <= as_of else "immature"


# Every meeting of event, label and moment, with the borders: an early label admits no row, a late one keeps none out.
GRID: list[Row] = [
    (at, fraud, known)
    for at, fraud, known in itertools.product(
        [0.0, 2.999, 3.0, 3.001, 9.0, 10.0, 11.0], [0, 1, None], [None, 10.0, 10.001]
    )
]


@pytest.mark.parametrize("clock", ["timestamp", "double"])
@pytest.mark.parametrize("delay", [0.0, 7.0])
def test_a_row_is_used_once_the_delay_has_passed_whatever_its_label(spark: SparkSession, clock: str, delay: float):
    rules = contract(delay=delay, clock=clock)
    as_of = 10.0 * DAY + (START.timestamp() if clock == "timestamp" else 0.0)

    found = fates(table(spark, GRID, clock=clock), rules, Maturity(as_of, delay))

    assert found == [in_words(row, 10.0, delay) for row in GRID]
    assert {None, "immature", "unlabelled"} == set(found)


QUARTERS = st.integers(0, 80).map(lambda quarter: quarter / 4)
ROWS = st.lists(
    st.tuples(QUARTERS, st.sampled_from([0, 1, None]), st.one_of(st.none(), QUARTERS)), min_size=1, max_size=30
)


@pytest.mark.proof  # many random histories
@FORGIVING
@given(rows=ROWS, as_of=QUARTERS, later=QUARTERS, delay=st.integers(0, 20).map(float))
def test_looking_back_from_later_never_takes_a_row_away(
    spark: SparkSession, rows: list[Row], as_of: float, later: float, delay: float
):
    rules, frame = contract(delay=delay), table(spark, rows)
    early, late = (Maturity(START.timestamp() + day * DAY, delay) for day in (as_of, as_of + later))

    before, after = fates(frame, rules, early), fates(frame, rules, late)

    assert before == [in_words(row, as_of, delay) for row in rows]
    assert all(now is None for then, now in zip(before, after, strict=True) if then is None)


@pytest.mark.parametrize(
    ("clock", "delay", "rows", "expected"),
    [
        # The newest arrival, though the newest event is years older; and a label that came later than that.
        ("timestamp", 7.0, [(0.0, 1, None)], 100.0),
        ("timestamp", 7.0, [(0.0, 1, 101.5)], 101.5),
        ("timestamp", 0.0, [(0.0, 1, None)], 100.0),
        # Without a delay nothing is too young, not even what is dated after its arrival; with one it is.
        ("timestamp", 0.0, [(300.0, 1, None)], 300.0),
        ("timestamp", 7.0, [(300.0, 1, None)], 100.0),
        # A clock of its own knows no arrival, and a label that is dated beyond the data moves nothing.
        ("double", 7.0, [(5.0, 1, None), (6.0, 0, 400.0)], 6.0),
    ],
)
def test_the_moment_is_the_newest_that_the_table_has_on_record(
    spark: SparkSession, clock: str, delay: float, rows: list[Row], expected: float
):
    found = maturity_of(table(spark, rows, clock=clock), contract(delay=delay, clock=clock), None)

    origin = START.timestamp() if clock == "timestamp" else 0.0
    assert found == Maturity(origin + expected * DAY, delay)


def test_without_delay_and_late_labels_there_is_no_moment_unless_one_is_given(spark: SparkSession):
    rules, rows = contract(delay=0.0), table(spark, [(0.0, 1, None), (300.0, 0, None), (1.0, None, None)])
    plain = rows.drop(LABEL_KNOWN_AT)

    assert maturity_of(plain, rules, None) is None
    assert fates(plain, rules, None) == [None, None, "unlabelled"]
    given_one = maturity_of(plain, rules, START.timestamp() + DAY)
    assert fates(plain, rules, given_one) == [None, "immature", "unlabelled"]


def test_a_history_that_is_loaded_today_stays_whole(spark: SparkSession):
    rules, rows = contract(), table(spark, [(float(day), day % 2, None) for day in range(30)], arrived=2_000.0)

    assert set(fates(rows, rules, maturity_of(rows, rules, None))) == {None}


@pytest.mark.parametrize("strategy", ["time", "stratified"])
def test_rows_that_are_left_out_are_in_no_set_and_move_no_cut(spark: SparkSession, strategy: Any):
    """Sets of a table with young and unlabelled rows are those of the table without them."""
    old: list[Row] = [(day / 8, int(day % 3 == 0), None) for day in range(160)]
    young: list[Row] = [(95.0 + day / 8, 0, None) for day in range(40)]
    bare: list[Row] = [(day / 4, None, None) for day in range(30)]
    late: list[Row] = [(99.0, 1, 99.5), (1.0, 1, 150.0)]
    rules, spec = contract(), SplitSpec(strategy=strategy)
    frame = table(spark, [*old, *young, *bare, *late])
    maturity = Maturity(START.timestamp() + 100.0 * DAY, 7.0)

    assigned = assign_sets(frame, rules, spec, maturity, where="t").orderBy("id").collect()
    sets = [row[SET_COLUMN] for row in assigned]

    usable = [number for number, fate in enumerate(fates(frame, rules, maturity)) if fate is None]
    assert len(usable) == 161
    alone = assign_sets(frame.where(F.col("id").isin(usable)), rules, spec, None, where="t").orderBy("id").collect()
    assert [sets[number] for number in usable] == [row[SET_COLUMN] for row in alone]
    assert sets[160:200] == ["immature"] * 40
    assert sets[200:230] == ["unlabelled"] * 30
    assert sets[230] == "immature", "a fraud that was reported at once is no older than the genuine rows of its day"


def test_a_backtest_neither_learns_from_nor_scores_what_no_mature_label_is_known_of(spark: SparkSession):
    rules = contract()
    known: list[Row] = [(float(day), int(day % 2), None) for day in range(40)]
    past = table(spark, [*known, (5.0, None, None)], arrived=40.0)
    later: list[Row] = [(41.0, 1, 43.0), (42.0, 0, None), (43.0, None, None), (45.0, 0, None)]
    today = table(spark, [*known, *later], arrived=50.0)

    blocks = cut_as_of(past, rules, validation_fraction=0.5, gap_days=7, days_after=10, where="t")
    rows = rows_as_of(past, today, rules, blocks)

    days = {
        name: [(row["at"].replace(tzinfo=dt.UTC) - START).days for row in found.orderBy("at").collect()]
        for name, found in rows.items()
    }
    assert days["train"] == list(range(12))  # the unlabelled one of day 5 is not there a second time
    assert days["validation"] == list(range(19, 32))
    assert days["test"] == [41, 42]


def test_the_ages_of_labels_are_told_by_set(spark: SparkSession):
    rows = table(spark, [(0.0, 1, 8.0), (2.0, 0, None), (1.0, 0, None)])

    found = summarize(rows, contract(), F.lit("all"), Maturity(START.timestamp() + 10.0 * DAY, 7.0))["all"]

    assert (found.rows, found.frauds, found.late_labels) == (3, 1, 1)
    assert (found.youngest_label_days, found.label_age_days) == (2.0, 8.0)


@pytest.mark.parametrize(
    ("text", "clock", "seconds"),
    [
        ("2018-05-01", "timestamp", START.timestamp()),
        ("2018-05-01T02:00:00+02:00", "timestamp", START.timestamp()),
        ("2018-05-01T00:00:01Z", "timestamp", START.timestamp() + 1),
        ("86400", "double", DAY),
        ("1e3", "long", 1_000.0),
    ],
)
def test_a_moment_is_read_on_the_clock_of_the_data(text: str, clock: str, seconds: float):
    assert parse_as_of(text, contract(clock=clock)) == seconds


@pytest.mark.parametrize(
    ("text", "clock"), [("86400.5", "timestamp"), ("May", "timestamp"), ("2018-05-01", "double"), ("nan", "double")]
)
def test_what_is_no_moment_is_refused_with_an_example(text: str, clock: str):
    with pytest.raises(SplitError, match=r"is not a valid .* give (a date|seconds)"):
        parse_as_of(text, contract(clock=clock))


def test_a_label_delay_is_in_days_of_the_contracts_zone():
    """Seven days before midnight of 2 April in Berlin is a midnight, although one of them had 23 hours."""
    midnight = dt.datetime(2026, 4, 1, 22, tzinfo=dt.UTC).timestamp()

    assert Maturity(midnight, 7, "Europe/Berlin").newest_event == midnight - 7 * DAY + 3_600
    assert Maturity(midnight, 7).newest_event == midnight - 7 * DAY
