"""Spark cuts as numpy does: the same sets from the same rows, duplicates together, and nothing lost unseen."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import SET_COLUMN
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.days import day_numbers
from mlops_assets.data.splits.split import GAP, SET_NAMES, SplitSpec, cut_days, cut_points, in_seconds
from mlops_assets.data.splits.split_checks import SetSummary
from mlops_assets.data.splits.split_frames import assign_sets, count_shared, row_hash, summarize, union_of
from mlops_assets.errors import SplitError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NAMES = np.array([*SET_NAMES, GAP])  # the last one is also at -1, where numpy puts what is left out


def contract(time_type: Any = "double", time_zone: str = "UTC") -> Contract:
    return Contract(
        name="cards",
        version=1,
        columns=(
            Column(name="at", type=time_type),
            Column(name="amount", type="double"),
            Column(name="tries", type="long", nullable=True),
            Column(name="score", type="double", nullable=True),
            Column(name="fraud", type="long"),
        ),
        features=("amount", "tries", "score"),
        target="fraud",
        event_time="at",
        time_zone=time_zone,
    )


CARDS = contract()
SCHEMA = pa.schema([("at", pa.float64()), ("amount", pa.float64()), ("tries", pa.int64()), ("score", pa.float64())])
SCHEMA = SCHEMA.append(pa.field("fraud", pa.int64()))
STRATIFIED = SplitSpec(strategy="stratified", validation_fraction=0.25, test_fraction=0.15, seed=5)


def rows_of(count: int, seed: int = 1) -> pa.Table:
    """Return rows on a grid of hours, with many equal times and some exact duplicates; every fifth is a fraud."""
    random = np.random.default_rng(seed)
    table = pa.table(
        {
            "at": np.sort(random.integers(-20, count // 4, count)) * 3_600.0,
            "amount": random.integers(0, 4, count) / 2,
            "tries": pa.array(random.integers(0, 3, count), mask=random.random(count) < 0.3),
            "score": pa.array(random.integers(0, 3, count) / 2, mask=random.random(count) < 0.3),
            "fraud": (np.arange(count) % 5 == 0).astype(np.int64),
        },
        schema=SCHEMA,
    )
    return pa.concat_tables([table, table.slice(0, count // 4)])


def sets_of(frame: DataFrame) -> list[str | None]:
    sets: list[str | None] = frame.toArrow().column(SET_COLUMN).to_pylist()
    return sets


def by_content(table: pa.Table) -> dict[tuple[Any, ...], set[str | None]]:
    """Return the sets that each distinct row is in; -0.0 equals 0.0, and NaN itself."""
    found: dict[tuple[Any, ...], set[str | None]] = {}
    for row in table.select([*CARDS.column_names, SET_COLUMN]).to_pylist():
        *values, name = row.values()
        content = tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in values)
        found.setdefault(content, set()).add(name)
    return found


# By time.


@pytest.mark.parametrize(
    "spec",
    [
        SplitSpec(),
        SplitSpec(gap_days=1),
        SplitSpec(validation_fraction=0.3, test_fraction=0.1, gap_days=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", ["double", "long", "timestamp", "fractions"])
def test_spark_and_numpy_put_each_row_into_the_same_set(spark: SparkSession, spec: SplitSpec, kind: str, zone: str):
    """Times are on a grid of hours, so that some lie exactly on a cut, or exactly one gap before it."""
    if zone != "UTC" and kind != "timestamp":
        return  # only timestamps have a zone
    table = rows_of(600)
    seconds = table.column("at").to_numpy()
    column: pa.ChunkedArray = table.column("at")
    if kind == "fractions":
        seconds = seconds * 0.9 + 1e-7
        column = pa.chunked_array([seconds])
    elif kind == "long":
        column = column.cast(pa.int64())
    elif kind == "timestamp":
        micros = (seconds * 1e6).astype(np.int64) + 1_522_540_800_000_000
        seconds = micros / 1e6
        column = pa.chunked_array([pa.array(micros, pa.timestamp("us", tz="UTC"))])
    frame = spark.createDataFrame(table.set_column(0, "at", column))
    of_kind = contract("double" if kind == "fractions" else kind, zone)

    by_spark = sets_of(assign_sets(frame, of_kind, spec, where="raw"))

    days, counts = np.unique(day_numbers(seconds, zone), return_counts=True)
    by_numpy = NAMES[in_seconds(cut_days(days, counts, spec, where="raw"), zone).assign(seconds)]
    assert by_spark == by_numpy.tolist()
    assert (GAP in by_spark) == bool(spec.gap_days)


def test_the_two_zeros_are_one_time(spark: SparkSession):
    times = [-0.0, 0.0, -0.0, 0.0, 1.0, -0.0, 2.0, 3.0, 2.0, 4.0]
    frame = spark.createDataFrame(rows_of(8).set_column(0, "at", pa.array(times)))

    sets = sets_of(assign_sets(frame, CARDS, SplitSpec(), where="raw"))

    assert [name for name, time in zip(sets, times, strict=True) if time == 0] == ["train"] * 5
    assert Counter(sets) == {"train": 6, "validation": 2, "test": 2}


def test_a_table_of_two_days_is_cut_within_them(spark: SparkSession):
    """Such as the ULB set; only without a gap, which takes whole days."""
    table = rows_of(160)
    within = pc.and_(pc.greater_equal(table.column("at"), 0.0), pc.less(table.column("at"), 2 * 86_400.0))
    frame = spark.createDataFrame(table.filter(within))

    counted = Counter(sets_of(assign_sets(frame, CARDS, SplitSpec(), where="raw")))

    assert counted["test"] == pytest.approx(0.2 * sum(counted.values()), abs=8)
    with pytest.raises(SplitError, match="the shortest span that can be cut is 5 days"):
        assign_sets(frame, CARDS, SplitSpec(gap_days=1), where="raw")


@pytest.mark.parametrize("seed", range(6))
def test_cuts_by_buckets_are_those_of_all_keys(spark: SparkSession, seed: int):
    """Few rows or many, spread or piled up on some moments: keys far from a cut are counted by bucket alone."""
    random = np.random.default_rng(seed)
    count = int(random.choice([12, 60, 400]))
    times = random.choice(random.uniform(0, 100_000, max(4, count // int(random.integers(1, 6)))), count)
    table = rows_of(count).slice(0, count).set_column(0, "at", pa.array(times))
    frame = spark.createDataFrame(table).withColumn("hash", row_hash(CARDS, STRATIFIED.seed))
    labels, hashes = table.column("fraud").to_numpy(), frame.toArrow().column("hash").to_numpy()

    def expected(keys: Any, spec: SplitSpec) -> list[str]:
        return list(NAMES[cut_points(*np.unique(keys, return_counts=True), spec, where="raw").assign(keys)])

    for spec in (SplitSpec(), SplitSpec(validation_fraction=0.1, test_fraction=0.5)):
        assert sets_of(assign_sets(frame, CARDS, spec, where="raw")) == expected(times, spec)
    by_class = sets_of(assign_sets(frame, CARDS, STRATIFIED, where="raw"))
    for label in (0, 1):
        of_class = [name for name, own in zip(by_class, labels, strict=True) if own == label]
        assert of_class == expected(hashes[labels == label], STRATIFIED)


def test_a_row_without_a_time_is_in_no_set_and_not_in_the_gap(spark: SparkSession):
    """`complete` counts rows in sets and in the gap: a row that is lost must not pass for one that was left out."""
    times = pa.array([*(86_400.0 * day for day in range(19)), None], pa.float64())
    frame = spark.createDataFrame(rows_of(16).set_column(0, "at", times))

    sets = sets_of(assign_sets(frame, CARDS, SplitSpec(gap_days=1), where="raw"))

    assert Counter(sets)[None] == 1
    assert sets[-1] is None


@pytest.mark.parametrize(
    ("count", "spec", "said"),
    [
        (1, SplitSpec(), r"1 rows can't fill three sets \[raw version 3\]"),
        (0, SplitSpec(), "0 rows can't fill three sets"),
        (200, SplitSpec(gap_days=90), r"the shortest span that can be cut is 183 days, .* \[raw version 3\]"),
        (4, STRATIFIED, r"rows can't fill three sets \[raw version 3, fraud = 0\]"),
    ],
)
def test_a_table_that_cannot_be_cut_is_refused(spark: SparkSession, count: int, spec: SplitSpec, said: str):
    frame = spark.createDataFrame(rows_of(200).slice(0, count))

    with pytest.raises(SplitError, match=said):
        assign_sets(frame, CARDS, spec, where="raw version 3")


@pytest.mark.parametrize(("label", "missing"), [(0, 1), (1, 0)])
def test_a_table_of_one_class_has_no_stratified_split(spark: SparkSession, label: int, missing: int):
    frame = spark.createDataFrame(rows_of(200)).where(F.col("fraud") == label)

    with pytest.raises(SplitError, match=rf"^0 rows can't fill three sets .*\[raw, fraud = {missing}\]"):
        assign_sets(frame, CARDS, STRATIFIED, where="raw")


# Stratified by seed.


def test_stratified_sets_hold_their_share_of_each_class(spark: SparkSession):
    table = rows_of(4_000)
    cut = assign_sets(spark.createDataFrame(table), CARDS, STRATIFIED, where="raw").toArrow()

    assert cut.drop_columns([SET_COLUMN]) == table
    for label in (0, 1):
        of_class = cut.filter(pa.compute.equal(cut.column("fraud"), label))
        shares = Counter(of_class.column(SET_COLUMN).to_pylist())
        for name, share in zip(SET_NAMES, (0.6, 0.25, 0.15), strict=True):
            assert shares[name] / len(of_class) == pytest.approx(share, abs=0.01)


def test_a_stratified_split_depends_on_the_rows_and_the_seed_only(spark: SparkSession):
    table = rows_of(400)
    shuffled = table.take(np.random.default_rng(3).permutation(len(table)))

    def cut(rows: pa.Table, seed: int, partitions: int = 1) -> dict[tuple[Any, ...], set[str | None]]:
        frame = spark.createDataFrame(rows).repartition(partitions)
        spec = SplitSpec(strategy="stratified", seed=seed)
        return by_content(assign_sets(frame, CARDS, spec, where="raw").toArrow())

    assert cut(shuffled, 42, partitions=3) == cut(table, 42)
    assert cut(table, 43) != cut(table, 42)


TIES = st.sampled_from([0.0, -0.0, 1.0, 2.0])
ROWS = st.lists(
    st.tuples(
        st.integers(-1, 9).map(lambda half_days: 43_200.0 * half_days) | TIES,
        TIES,
        st.none() | st.integers(0, 1),
        st.none() | TIES | st.just(math.nan),
        st.integers(0, 1),
    ),
    min_size=25,
    max_size=60,
)


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,  # so few examples are a fixed sample, not a search
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(ROWS, st.sampled_from([STRATIFIED, SplitSpec(), SplitSpec(gap_days=1)]))
def test_exact_duplicates_are_never_on_two_sides(spark: SparkSession, rows: list[tuple[Any, ...]], spec: SplitSpec):
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    frame = spark.createDataFrame(pa.table(columns, schema=SCHEMA))
    try:
        cut = assign_sets(frame, CARDS, spec, where="raw")
    except SplitError:
        assume(condition=False)  # so few distinct times can't always be cut
        raise
    table = cut.toArrow()

    assert len(table) == len(rows)
    assert set(table.column(SET_COLUMN).to_pylist()) <= {*SET_NAMES, GAP}
    assert {len(names) for names in by_content(table).values()} == {1}
    assert count_shared(cut, CARDS) == 0


def test_rows_that_differ_in_which_value_is_missing_have_different_hashes(spark: SparkSession):
    """`xxhash64` skips nulls, so that without care a null and a 5 would be a 5 and a null."""
    table = pa.table(
        {
            "at": [0.0] * 6,
            "amount": [1.0, 1.0, -0.0, 0.0, 1.0, 1.0],
            "tries": pa.array([None, 5, 1, 1, None, 5], pa.int64()),
            "score": pa.array([5.0, None, 1.0, 1.0, math.nan, None]),
            "fraud": [0] * 6,
        },
        schema=SCHEMA,
    )
    same_bits = contract().model_copy(
        update={"columns": (*CARDS.columns[:3], Column(name="score", type="long", nullable=True), CARDS.columns[4])}
    )
    longs = table.set_column(3, "score", pa.array([5, None, 1, 1, 7, None], pa.int64()))

    hashes = spark.createDataFrame(longs).select(row_hash(same_bits, 1)).toArrow().column(0).to_pylist()

    assert hashes[2] == hashes[3]
    assert hashes[1] == hashes[5]
    assert len(set(hashes)) == 4


# Counts.


def test_sets_are_summarized_with_counts_and_bounds(spark: SparkSession):
    table = pa.table(
        {"at": [5.0, 1.0, 3.0], "amount": [0.0] * 3, "tries": [1] * 3, "score": [0.5] * 3, "fraud": [1, 0, 1]},
        schema=SCHEMA,
    ).append_column(SET_COLUMN, pa.array(["train", "train", "test"]))

    summaries = summarize(spark.createDataFrame(table), CARDS, F.col(SET_COLUMN))

    assert summaries == {"train": SetSummary(2, 1, 1.0, 5.0), "test": SetSummary(1, 1, 3.0, 3.0)}


def test_timestamps_are_summarized_in_seconds_since_1970(spark: SparkSession):
    micros = [1_522_540_831_000_001, -1]
    times = pa.array(micros, pa.timestamp("us", tz="UTC"))
    frame = spark.createDataFrame(rows_of(2).slice(0, 2).set_column(0, "at", times))

    (summary,) = summarize(frame, contract("timestamp"), F.lit("all")).values()

    assert (summary.first, summary.last) == (-1 / 1e6, 1_522_540_831_000_001 / 1e6)


def test_rows_in_two_sets_are_counted_by_content(spark: SparkSession):
    table = rows_of(40).slice(0, 40)
    zeros = table.set_column(1, "amount", pa.array([0.0] * 40))
    twins = zeros.set_column(1, "amount", pa.array([-0.0] * 40))
    sets = {"train": zeros.slice(0, 30), "validation": twins.slice(30, 5), "test": zeros.slice(35, 5)}
    frames = {name: spark.createDataFrame(rows) for name, rows in sets.items()}
    distinct = {name: set(map(tuple, (row.values() for row in rows.to_pylist()))) for name, rows in sets.items()}
    already = len(
        (distinct["train"] & distinct["validation"])
        | (distinct["train"] & distinct["test"])
        | (distinct["validation"] & distinct["test"])
    )

    leaked = {**frames, "test": frames["test"].union(frames["train"].limit(7).withColumn("amount", F.lit(-0.0)))}

    assert count_shared(union_of(frames), CARDS) == already
    added = {tuple(row.values()) for row in zeros.slice(0, 7).to_pylist()} - distinct["test"] - distinct["validation"]
    assert count_shared(union_of(leaked), CARDS) == already + len(added)
    assert len(added) > 0
