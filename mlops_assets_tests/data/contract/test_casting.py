"""Each value is read as a slow reference reads it, whatever stands beside it in its column."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.data.contract.casting import ARROW_TYPES, Reading, example, read_column
from mlops_assets.data.contract.column import ColumnType

MISSING, UNREADABLE, INFINITE = "missing", "unreadable", "infinite"


# The reference: one value in, the value or a word out.


def reference_double(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return MISSING
        if not text.isascii() or "_" in text:
            return UNREADABLE
        try:
            return float(text)
        except ValueError:
            return UNREADABLE
    if isinstance(value, bool | int | float | Decimal):
        return float(value)
    return UNREADABLE


def reference_boolean(value: object) -> object:
    if isinstance(value, str):
        word = value.strip().lower()
        return {"true": True, "t": True, "yes": True, "y": True, "1": True, "": MISSING}.get(
            word, False if word in ("false", "f", "no", "n", "0") else UNREADABLE
        )
    if isinstance(value, bool | int | float | Decimal):
        if value != value:  # noqa: PLR0124 - NaN
            return MISSING
        return bool(value) if value in (0, 1) else UNREADABLE
    return UNREADABLE


def reference_long(value: object, exact_below: int = 2**53) -> object:
    if isinstance(value, Decimal):
        value = str(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+(\.0*)?", value.strip()):
        value = int(value.strip().partition(".")[0])
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else UNREADABLE
    number = reference_double(value)
    if not isinstance(number, float):
        return number
    if isinstance(value, str) and _has_fraction(value.strip()):
        return UNREADABLE
    if math.isnan(number):
        return MISSING
    if math.isinf(number):
        return INFINITE
    return int(number) if number.is_integer() and abs(number) < exact_below else UNREADABLE


def _has_fraction(text: str) -> bool:
    """Return whether a digit other than 0 stands behind the point, once the exponent has moved it; by text alone."""
    found = re.fullmatch(r"[+-]?(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?", text)
    if not found:
        return False
    digits = (found[1] + found[2]).rstrip("0")
    behind = len(digits) - len(found[1]) - int(found[3] or 0)
    return bool(digits.strip("0")) and behind > 0


def reference_timestamp(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, str):
        return UNREADABLE
    text = value.strip()
    return _instant(text) if text else MISSING


def _instant(text: str) -> object:
    found = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
        text,
        re.ASCII,
    )
    if not found:
        return UNREADABLE
    *parts, fraction, zone = found.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in parts)
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        local = dt.datetime(year, month, day, hour, minute, second, microsecond, dt.UTC)
        if zone in (None, "Z"):
            return local
        hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
        if hours > 23 or minutes > 59:
            return UNREADABLE
        offset = dt.timedelta(hours=hours, minutes=minutes)
        return local - offset if zone[0] == "+" else local + offset
    except (ValueError, OverflowError):  # no such day or hour, or not of the years 1 to 9999
        return UNREADABLE


REFERENCES: dict[ColumnType, Callable[[object], object]] = {
    "double": reference_double,
    "long": reference_long,
    "timestamp": reference_timestamp,
}


def unreadable(reading: Reading) -> list[bool]:
    found: list[bool] = reading.unreadable.to_pylist() if reading.unreadable else [False] * len(reading.values)
    return found


def expect(reading: Reading, raw: Sequence[object], reference: Callable[[object], object], wanted: ColumnType) -> None:
    said = [MISSING if value is None else reference(value) for value in raw]
    assert unreadable(reading) == [word == UNREADABLE for word in said]
    assert (reading.infinite.to_pylist().count(True) if reading.infinite else 0) == said.count(INFINITE)
    assert reading.values.type == ARROW_TYPES[wanted]
    values = [None if isinstance(value, str) else value for value in said]
    assert [_comparable(value) for value in reading.values.to_pylist()] == [_comparable(value) for value in values]


def _comparable(value: object) -> object:
    return value.hex() if isinstance(value, float) else value  # NaN equals itself, -0.0 is not 0.0


# Columns of text.

LONGS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0, 1]),
)
DOUBLES = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, 2.0**53, 1e18, 1e22, 5e-324, 1.7e308])
NUMBER_TEXT = st.one_of(
    LONGS.map(str),
    st.builds("{}{}".format, LONGS, st.sampled_from([".", ".0", ".000", ".5", "e0", "E3", "e-1", "e400", "e-400"])),
    st.builds("{}e{}".format, LONGS, st.integers(-(10**25), 10**25)),
    st.builds("{}{}".format, st.sampled_from(["+", "000", "-0", "+00", "--", "$"]), st.integers(0, 2**64)),
    DOUBLES.map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["nan", "NaN", "-NAN", "inf", "-inf", "Infinity", "+INFINITY", "1,000", "1_000", "1 000", "0x10"]),
    st.sampled_from(
        ["", "True", "false", "null", "NA", "None", "1,5", "\uff11", "1d", ".", "+", ".5", "5.", "1.e2", "e5"]
    ),
    st.text("0123456789+-.eEinfaxX_ ", max_size=8),
)
DATES = st.dates().map(str) | st.sampled_from(["2000-02-29", "1900-02-29", "2018-04-31", "0000-01-01", "2018-4-01"])
CLOCKS = st.one_of(
    st.times().map(str),
    st.sampled_from(["00", "23:59", "24:00", "00:00:60", "0000", "12:30:15.1", "12:30:15.123456789", "12:30:15."]),
)
ZONES = st.sampled_from(["", "", "Z", "z", "+02", "-0230", "+23:59", "+24:00", "+02:60", " UTC"])
TIME_TEXT = st.one_of(
    st.datetimes().map(str),
    DATES,
    st.builds("{}{}{}{}".format, DATES, st.sampled_from([" ", "T", "t", "  "]), CLOCKS, ZONES),
    st.sampled_from(["", "NaT", "1522540800", "01/04/2018", "20180401", "2018-W01-1", "0001-01-01T00:00+00:01"]),
    st.text("0123456789-:TZ+. ", max_size=12),
)
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r\n", "\u00a0"])


def columns_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[str | None]]:
    return st.lists(st.none() | st.builds("{}{}{}".format, SPACE, text, SPACE), max_size=12)


def chunked(values: Sequence[object], kind: pa.DataType, cut: int) -> pa.ChunkedArray:
    """Return the values in two chunks, the second one a slice that does not start where its buffers do."""
    return pa.chunked_array([pa.array(values[:cut], kind), pa.array([None, *values[cut:]], kind).slice(1)])


TEXT_TYPES = st.sampled_from([pa.string(), pa.string(), pa.large_string(), pa.string_view()])


@settings(max_examples=300, deadline=None)
@given(columns_of(NUMBER_TEXT), TEXT_TYPES, st.integers(0, 3), st.sampled_from(["double", "long"]))
def test_text_is_read_as_numbers_like_the_reference(
    column: list[str | None], kind: pa.DataType, cut: int, wanted: ColumnType
):
    expect(read_column(chunked(column, kind, cut), wanted), column, REFERENCES[wanted], wanted)


@settings(max_examples=300, deadline=None)
@given(columns_of(TIME_TEXT), TEXT_TYPES, st.integers(0, 3))
def test_text_is_read_as_timestamps_like_the_reference(column: list[str | None], kind: pa.DataType, cut: int):
    expect(read_column(chunked(column, kind, cut), "timestamp"), column, reference_timestamp, "timestamp")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.text(max_size=5), max_size=6), TEXT_TYPES)
def test_text_stays_as_written(column: list[str | None], kind: pa.DataType):
    reading = read_column(pa.chunked_array([column], kind), "string")

    assert reading == Reading(pa.chunked_array([column], pa.string()))


NUMBERS = ["1", "0x10", "0X1f", "-nan", "inf", "1e400", "1,000", "1_000", "007", "+7", "-0", "1e3", "1.0", ""]


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("wanted", ["double", "long"])
def test_a_value_reads_the_same_alone_and_beside_a_bad_one(text: str, wanted: ColumnType):
    for column in ([text], [text, "oops"], [text, "1"], [text, "1.0", None]):
        expect(read_column(pa.chunked_array([column]), wanted), column, REFERENCES[wanted], wanted)


def test_the_calendar_is_that_of_python():
    days = [f"{year:04}-02-{day}" for year in range(10_000) for day in (28, 29, 30)]
    days += [f"2018-{month:02}-{day:02}" for month in range(14) for day in range(33)]

    expect(read_column(pa.chunked_array([days]), "timestamp"), days, reference_timestamp, "timestamp")


def test_a_bad_value_does_not_change_how_its_neighbours_are_read():
    """Ids beyond 2^53 would lose digits if a single `1.0` sent the column through floating point."""
    ids = ["9007199254740993", "-9223372036854775808", "+9007199254740995.0", "1.0", "1e2", "oops"]

    assert read_column(pa.chunked_array([ids]), "long").values.to_pylist() == [
        9007199254740993,
        -9223372036854775808,
        9007199254740995,
        1,
        100,
        None,
    ]


# Columns that have a type.


@dataclass(frozen=True)
class Typed:
    """A type, values of it, and below which float a whole number is exact."""

    kind: pa.DataType
    values: st.SearchStrategy[Any]
    exact_below: int = 2**53


def _integers(kind: pa.DataType) -> Typed:
    low = -(2 ** (kind.bit_width - 1)) if pa.types.is_signed_integer(kind) else 0
    high = 2**kind.bit_width + low - 1
    return Typed(kind, st.integers(low, high) | st.sampled_from([low, high, 0, 1]))


MOMENTS = st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1))  # noqa: DTZ001 - naive on purpose
UTC_MOMENTS = MOMENTS.map(lambda moment: moment.replace(tzinfo=dt.UTC))
TEXTS = st.sampled_from(["1", "2.0", "x", "2018-04-01", "", "nan", "inf"])
FLOATS_WITH_WHOLE = st.one_of(st.floats(width=16), st.integers(-3, 3).map(float))
TYPED = [
    *(_integers(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(_integers(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    Typed(pa.float16(), FLOATS_WITH_WHOLE, 2**11),
    Typed(pa.float32(), st.floats(width=32) | FLOATS_WITH_WHOLE | st.just(2.0**24), 2**24),
    Typed(pa.float64(), st.floats() | FLOATS_WITH_WHOLE | st.sampled_from([1e300, 2.0**53, 2.0**53 - 1])),
    Typed(pa.bool_(), st.booleans()),
    Typed(pa.decimal128(22, 2), st.decimals(-(10**20) + 1, 10**20 - 1, places=2) | st.just(Decimal("7.00"))),
    Typed(pa.decimal256(50, 1), st.decimals(-(10**40), 10**40, places=1)),
    Typed(pa.date32(), st.dates()),
    Typed(pa.date64(), st.dates()),
    Typed(pa.timestamp("s"), MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    Typed(pa.timestamp("ms", tz="UTC"), UTC_MOMENTS.map(lambda moment: moment.replace(microsecond=123_000))),
    Typed(pa.timestamp("us"), st.datetimes()),
    Typed(pa.timestamp("us", tz="America/New_York"), UTC_MOMENTS),
    Typed(pa.timestamp("us", tz="+05:30"), UTC_MOMENTS),
    Typed(pa.timestamp("ns"), MOMENTS),
    Typed(pa.timestamp("ns", tz="Asia/Tokyo"), UTC_MOMENTS),
    Typed(pa.dictionary(pa.int8(), pa.string()), TEXTS),
    Typed(pa.dictionary(pa.int32(), pa.large_string()), TEXTS),
    Typed(pa.dictionary(pa.int32(), pa.int64()), st.integers(0, 5)),
    Typed(pa.null(), st.none()),
]


@pytest.mark.parametrize("typed", TYPED, ids=lambda typed: str(typed.kind))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_typed_columns_are_read_like_the_reference(typed: Typed, data: st.DataObject):
    column = data.draw(st.lists(st.none() | typed.values, max_size=8))
    cut = data.draw(st.integers(0, 3))
    raw = chunked(column, typed.kind, cut)

    expect(read_column(raw, "double"), column, reference_double, "double")
    expect(read_column(raw, "long"), column, lambda value: reference_long(value, typed.exact_below), "long")
    expect(read_column(raw, "timestamp"), column, reference_timestamp, "timestamp")
    expect(read_column(raw, "boolean"), column, reference_boolean, "boolean")


WORDS = st.sampled_from(["true", "TRUE", "False", "t", "F", "yes", "No", "y", "N", "1", "0", "", " ", " true\t"])


@settings(max_examples=100, deadline=None)
@given(columns_of(WORDS | st.sampled_from(["maybe", "2", "-1", "1.0", "tru", "on", "nan", "yes!"])), TEXT_TYPES)
def test_text_is_read_as_booleans_like_the_reference(column: list[str | None], kind: pa.DataType):
    expect(read_column(chunked(column, kind, 1), "boolean"), column, reference_boolean, "boolean")


MEANINGLESS = [
    pa.array([[1], None]),
    pa.array([{"a": 1}, None]),
    pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    pa.array([dt.time(1), None]),
    pa.array([dt.timedelta(1), None]),
    pa.array([pa.MonthDayNano([1, 2, 3]), None]),
]


@pytest.mark.parametrize("wanted", ["double", "long", "timestamp", "boolean"])
@pytest.mark.parametrize("raw", MEANINGLESS, ids=lambda raw: str(raw.type))
def test_what_is_no_number_and_no_time_is_unreadable(raw: pa.Array, wanted: ColumnType):
    reading = read_column(pa.chunked_array([raw]), wanted)

    assert unreadable(reading) == [True, False]
    assert reading.values.to_pylist() == [None, None]


@pytest.mark.parametrize("raw", MEANINGLESS[:3], ids=lambda raw: str(raw.type))
def test_what_has_no_text_form_is_unreadable(raw: pa.Array):
    reading = read_column(pa.chunked_array([raw]), "string")

    assert unreadable(reading) == [True, False]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (pa.array([2**63, None], pa.uint64()), ["9223372036854775808", None]),
        (pa.array([Decimal("1.50")]), ["1.50"]),
        (pa.array([True]), ["true"]),
        (pa.array([1.0, math.nan, 2.5], pa.float32()), ["1", None, "2.5"]),
        (pa.array([math.nan, 1.0], pa.float16()), [None, "1"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
        (pa.array([dt.date(2018, 4, 1)]), ["2018-04-01"]),
        (pa.array([b"id"], pa.binary(2)), ["id"]),
    ],
    ids=lambda part: str(part.type) if isinstance(part, pa.Array) else None,
)
def test_what_has_one_text_form_is_read_as_string(raw: pa.Array, text: list[str | None]):
    assert read_column(pa.chunked_array([raw]), "string") == Reading(pa.chunked_array([text]))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_that_are_text_are_read_and_others_are_not(kind: pa.DataType):
    raw = pa.chunked_array([pa.array([b"1.5", b"\xff\xfe", None, b" 2 ", b"x"], kind)])

    numbers, texts = read_column(raw, "double"), read_column(raw, "string")

    assert numbers.values.to_pylist() == [1.5, None, None, 2.0, None]
    assert unreadable(numbers) == [False, True, False, False, True]
    assert texts.values.to_pylist() == ["1.5", None, None, " 2 ", "x"]
    assert unreadable(texts) == [False, True, False, False, False]
    assert example(raw, numbers.unreadable) == r"\xff\xfe"


def test_text_that_is_no_utf8_is_found_though_parquet_does_not():
    damaged = pa.chunked_array([pa.array([b"a", b"\xff", None]).view(pa.string())])

    reading = read_column(damaged, "string")

    assert unreadable(reading) == [False, True, False]
    assert reading.values.to_pylist() == ["a", None, None]


@pytest.mark.parametrize(
    "raw",
    [
        pa.array([2**62, 1, None], pa.timestamp("s")),
        pa.array([2**62, 1, None], pa.timestamp("ms", tz="UTC")),
        pa.array([2**62, 1, None], pa.timestamp("us")),
        pa.array([2**31 - 1, 1, None], pa.int32()).cast(pa.date32()),
    ],
    ids=lambda raw: str(raw.type),
)
def test_a_time_beyond_year_9999_is_unreadable_and_does_not_wrap(raw: pa.Array):
    column = pa.chunked_array([raw])

    reading = read_column(column, "timestamp")

    assert unreadable(reading) == [True, False, False]
    assert reading.values.to_pylist()[0] is None
    assert reading.values.to_pylist()[1].year == 1970
    assert example(column, reading.unreadable)


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_nanoseconds_are_cut_to_microseconds(zone: str | None):
    raw = pa.chunked_array([pa.array([1_999, 2_000], pa.timestamp("ns", tz=zone))])

    assert read_column(raw, "timestamp").values.cast(pa.int64()).to_pylist() == [1, 2]


@pytest.mark.parametrize("wanted", ARROW_TYPES)
@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float16(), pa.date32(), pa.null(), pa.list_(pa.int8())])
@pytest.mark.parametrize("chunks", [[], [[]], [[], []]], ids=["no chunk", "an empty chunk", "two empty chunks"])
def test_an_empty_column_is_read(wanted: ColumnType, kind: pa.DataType, chunks: list[list[object]]):
    reading = read_column(pa.chunked_array(chunks, kind), wanted)

    assert (len(reading.values), reading.values.type) == (0, ARROW_TYPES[wanted])
    assert reading.unreadable is None


def test_run_ends_and_extensions_are_read_as_what_they_hold():
    run_ends = pa.RunEndEncodedArray.from_arrays([2, 3], ["1", "x"])
    extension = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["7"]))

    assert read_column(pa.chunked_array([run_ends]), "long").values.to_pylist() == [1, 1, None]
    assert read_column(pa.chunked_array([extension]), "long").values.to_pylist() == [7]


def test_an_example_is_short():
    assert example(pa.chunked_array([["a", "b" * 1_000]]), pa.chunked_array([[False, True]])) == "b" * 40
