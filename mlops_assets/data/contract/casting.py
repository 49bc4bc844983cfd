"""Read one raw Arrow column as a column of a contract's type, each value by itself.

What belongs here: which values of which Arrow type or text can be read as a type of the contract, and the vectorised
code that does it. What does not: Arrow's many forms of the same values (`arrow_types`), whether a value is allowed
(nulls, ranges: `conform`), names of columns.

A column that holds only good values is cast by Arrow at once; only when that fails are good and bad values separated,
by regular expressions over the whole column. Those accept what Arrow's own parsers accept, so a bad value in a column
never changes how the others are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.contract.arrow_types import is_text, plain_type, undecodable
from mlops_assets.data.contract.column import ColumnType

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "double": pa.float64(),
    "long": pa.int64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "boolean": pa.bool_(),
}
# What text says yes or no, in any case; pandas writes True, PostgreSQL t, MySQL 1.
YES, NO = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_EXAMPLE_LENGTH = 40

_NUMBER = r"^(?i:[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|inf|infinity|nan(?:\(\w*\))?))$"
_WHOLE = r"^[+-]?\d+(?:\.0*)?$"
# Sign, leading zeros and empty decimals taken off, so that the digits can be counted and compared.
_WHOLE_PARTS = r"^\+?(-?)0*(\d+?)(?:\.0*)?$"
_FRACTION = r"^[+-]?\d*\.\d*[1-9]\d*$"
_SCIENTIFIC = r"^[+-]?[\d.]+[eE]"
# What a double may round to a whole number: more than 15 digits, or so small that it becomes 0.
_MAY_BE_ROUNDED = r"^[+-]?[0.]*[1-9](?:\.?\d){15,}|[eE]-\d{3,}$"
_LONG_DIGITS = 19
_LARGEST_EXPONENT = 10_000  # far beyond any double; Decimal reads no exponent of 19 digits
_LARGEST_LONG, _SMALLEST_LONG = str(2**63 - 1), str(2**63)
# Below 2 to this power a float of so many bits holds every whole number; beyond, digits of an id may be lost already.
EXACT_BITS = {16: 11, 32: 24, 64: 53}

_LEAP_YEAR = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"[T ](?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?"
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_LOCAL_TIME = rf"^{_DATE}(?:{_TIME})?$"
_ZONED_TIME = rf"^{_DATE}{_TIME}{_ZONE}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years that Spark and Python share, in microseconds since 1970.
_FIRST_INSTANT = round((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds()) * 1_000_000
_LAST_INSTANT = round((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()) * 1_000_000 + 999_999
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Reading:
    """A column as it was read.

    Attributes:
        values: In the requested type (see `ARROW_TYPES`); null where there was no value, or none that it can hold.
        unreadable: Which rows hold something that can't be read as the type, or None when there are none.
        infinite: Which rows hold an infinite number that the type can't hold (`long` only; a `double` keeps it), or
            None when there are none.
    """

    values: pa.ChunkedArray
    unreadable: pa.ChunkedArray | None = None
    infinite: pa.ChunkedArray | None = None


def read_column(raw: pa.ChunkedArray, wanted: ColumnType) -> Reading:
    """Read a column as the wanted type.

    - `double`: numbers of any type, rounded to the nearest double; booleans as 1 and 0; text in C notation.
    - `long`: the same where they are whole and fit 64 bit; a floating point number must be so small that no digit is
      lost (2^53 for a double), and so must text in scientific notation. NaN is a missing value.
    - `timestamp`: timestamps and dates of the years 1 to 9999; ISO 8601 text. Without a zone they are UTC; what is
      finer than a microsecond is cut off. A number is not read as a timestamp: its unit and origin are unknown.
    - `string`: text, and anything with one obvious text form.
    - `boolean`: booleans, the numbers 1 and 0, and the words of `YES` and `NO`. NaN is a missing value.

    Text is trimmed, except for `string`, and is a missing value when nothing is left.

    Args:
        raw: Any Arrow type; dictionaries, views and large types are read as what they hold.
        wanted: The contract's type.
    """
    plain = plain_type(raw)
    if pa.types.is_null(plain.type):
        return Reading(pa.chunked_array([pa.nulls(len(raw), ARROW_TYPES[wanted])]))
    if not is_text(plain.type):
        return _READ_TYPED[wanted](plain)
    if wanted == "double" and (numbers := _all_numbers(plain)) is not None:  # so nothing is undecodable
        return Reading(numbers)
    damaged = undecodable(plain)
    if damaged is None:
        return _READ_TEXT[wanted](plain)
    reading = _READ_TEXT[wanted](_blank(plain, damaged))
    unreadable = damaged if reading.unreadable is None else pc.or_(damaged, reading.unreadable)
    return Reading(reading.values, unreadable, reading.infinite)


def example(raw: pa.ChunkedArray, chosen: pa.ChunkedArray) -> str:
    """Return the first of the chosen values as short text for a message."""
    value = plain_type(raw).filter(chosen)[0]
    if is_text(value.type):
        return bytes(value.as_buffer()).decode(errors="backslashreplace")[:_EXAMPLE_LENGTH]
    try:
        return str(value.as_py())[:_EXAMPLE_LENGTH]
    except (OverflowError, ValueError):  # a time that Python's datetime can't hold
        return str(value.cast(pa.string()))[:_EXAMPLE_LENGTH]


def _blank(values: pa.ChunkedArray, chosen: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(chosen, pa.scalar(None, values.type), values)


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _reading(values: pa.ChunkedArray, unreadable: pa.ChunkedArray, infinite: pa.ChunkedArray | None = None) -> Reading:
    if infinite is not None and not _count(infinite):
        infinite = None
    return Reading(values, unreadable if _count(unreadable) else None, infinite)


def _matches(text: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Return which values match; a null does not."""
    return pc.fill_null(pc.match_substring_regex(text, pattern), False)


def _nothing_readable(raw: pa.ChunkedArray, wanted: ColumnType) -> Reading:
    return _reading(pa.chunked_array([pa.nulls(len(raw), ARROW_TYPES[wanted])]), pc.is_valid(raw))


def _trimmed(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the text without space around it, null where nothing is left."""
    text = pc.utf8_trim_whitespace(text)
    return _blank(text, pc.equal(pc.binary_length(text), 0))


def _all_numbers(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _text_as_double(text: pa.ChunkedArray) -> Reading:
    text = _trimmed(text)
    wrong = pc.and_not(pc.is_valid(text), _matches(text, _NUMBER))
    return _reading(_blank(text, wrong).cast(pa.float64()), wrong)


def _text_as_long(text: pa.ChunkedArray) -> Reading:
    try:
        values = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return _mixed_text_as_long(_trimmed(text))
    # Arrow reads 0x10 as a number, but only as a whole one and only without a sign.
    hexadecimal = _matches(text, "[xX]")
    return _reading(_blank(values, hexadecimal) if _count(hexadecimal) else values, hexadecimal)


def _mixed_text_as_long(text: pa.ChunkedArray) -> Reading:
    """Separate whole numbers, which are read digit by digit, from scientific notation and from other text."""
    whole = _matches(text, _WHOLE)
    digits = pc.replace_substring_regex(_blank(text, pc.invert(whole)), _WHOLE_PARTS, r"\1\2")
    fits = pc.and_(whole, pc.fill_null(_fits_long(digits), False))
    exact = _blank(digits, pc.invert(fits)).cast(pa.int64())
    other = pc.and_not(pc.and_not(_matches(text, _NUMBER), whole), _rounded_to_whole(text))
    floating = _float_as_long(_blank(text, pc.invert(other)).cast(pa.float64()))
    wrong = pc.and_not(pc.is_valid(text), pc.or_(fits, other))
    if floating.unreadable is not None:
        wrong = pc.or_(wrong, floating.unreadable)
    return _reading(pc.coalesce(exact, floating.values), wrong, floating.infinite)


def _rounded_to_whole(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which numbers are not whole and might seem so as a double: 5.0000000000000001 would become the id 5."""
    fraction = _matches(text, _FRACTION)
    # Numbers of 15 digits are different doubles if they are different; the others are few, and are compared exactly.
    long = pc.and_(_matches(text, _SCIENTIFIC), _matches(text, _MAY_BE_ROUNDED))
    if not _count(long):
        return fraction
    found = [chosen and not _is_whole(value) for value, chosen in zip(text.to_pylist(), long.to_pylist(), strict=True)]
    return pc.or_(fraction, pa.chunked_array([pa.array(found, pa.bool_())]))


def _is_whole(text: str) -> bool:
    """Return whether no digit stands behind the point; what is too large for 64 bit is whole, and refused as such."""
    mantissa, exponent = re.split("[eE]", text)
    if not Decimal(mantissa) or abs(int(exponent)) > _LARGEST_EXPONENT:
        return not Decimal(mantissa) or int(exponent) > 0
    number = Decimal(text)
    return number.adjusted() >= _LONG_DIGITS or number == number.to_integral_value()


def _fits_long(digits: pa.ChunkedArray) -> pa.ChunkedArray:
    negative = pc.starts_with(digits, "-")
    magnitude = pc.utf8_ltrim(digits, "-")
    length = pc.binary_length(magnitude)
    limit = pc.if_else(negative, pa.scalar(_SMALLEST_LONG, digits.type), pa.scalar(_LARGEST_LONG, digits.type))
    as_long = pc.and_(pc.equal(length, _LONG_DIGITS), pc.less_equal(magnitude, limit))
    return pc.or_(pc.less(length, _LONG_DIGITS), as_long)


def _text_as_timestamp(text: pa.ChunkedArray) -> Reading:
    for kind in (pa.timestamp("us"), ARROW_TYPES["timestamp"]):
        try:
            return _within_years(text.cast(kind).cast(ARROW_TYPES["timestamp"]))
        except pa.ArrowInvalid:
            continue  # with and without a zone in one column, or something else in it
    text = pc.replace_substring_regex(_trimmed(text), r"(\.\d{6})\d+", r"\1")
    local, zoned = _matches(text, _LOCAL_TIME), _matches(text, _ZONED_TIME)
    wrong = pc.and_not(pc.is_valid(text), pc.or_(local, zoned))
    values = pc.coalesce(
        _blank(text, pc.invert(local)).cast(pa.timestamp("us")).cast(ARROW_TYPES["timestamp"]),
        _blank(text, pc.invert(zoned)).cast(ARROW_TYPES["timestamp"]),
    )
    reading = _within_years(values)
    return _reading(reading.values, wrong if reading.unreadable is None else pc.or_(wrong, reading.unreadable))


def _text_as_string(text: pa.ChunkedArray) -> Reading:
    return Reading(text.cast(pa.string()))


def _typed_as_double(raw: pa.ChunkedArray) -> Reading:
    if not _is_number(raw.type):
        return _nothing_readable(raw, "double")
    if pa.types.is_decimal(raw.type):  # as text, since Arrow's own cast can be off by a bit: 0.41 is not 41 * 0.01
        return _text_as_double(raw.cast(pa.string()))
    return Reading(raw.cast(pa.float64(), safe=False))  # unsafe: whole numbers beyond 2^53 are rounded, as in text


def _typed_as_long(raw: pa.ChunkedArray) -> Reading:
    if pa.types.is_floating(raw.type):
        return _float_as_long(raw)
    if not _is_number(raw.type):
        return _nothing_readable(raw, "long")
    try:
        return Reading(raw.cast(pa.int64()))
    except pa.ArrowInvalid:  # unsigned or decimal, and one at least is too large or not whole
        return _mixed_text_as_long(raw.cast(pa.string()))


def _is_number(kind: pa.DataType) -> bool:
    return any(is_it(kind) for is_it in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)) or bool(
        pa.types.is_boolean(kind)
    )


def _float_as_long(raw: pa.ChunkedArray) -> Reading:
    numbers = raw.cast(pa.float64())
    infinite = pc.fill_null(pc.is_inf(numbers), False)
    numbers = _blank(numbers, pc.fill_null(pc.or_(infinite, pc.is_nan(numbers)), False))
    exact_below = float(2 ** EXACT_BITS[raw.type.bit_width])
    whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), exact_below))
    wrong = pc.fill_null(pc.invert(whole), False)
    return _reading(_blank(numbers, wrong).cast(pa.int64()), wrong, infinite)


def _typed_as_timestamp(raw: pa.ChunkedArray) -> Reading:
    if pa.types.is_date32(raw.type):
        raw = raw.cast(pa.int32()).cast(pa.int64())
        return _from_ticks(raw, 86_400 * _MICROSECONDS["s"])
    if pa.types.is_date64(raw.type):
        return _from_ticks(raw.cast(pa.int64()), _MICROSECONDS["ms"])
    if not pa.types.is_timestamp(raw.type):
        return _nothing_readable(raw, "timestamp")
    if raw.type.unit == "ns":  # 1677 to 2262: nothing to overflow
        return Reading(raw.cast(pa.timestamp("us", tz=raw.type.tz), safe=False).cast(ARROW_TYPES["timestamp"]))
    return _from_ticks(raw.cast(pa.int64()), _MICROSECONDS[raw.type.unit])


def _from_ticks(ticks: pa.ChunkedArray, microseconds: int) -> Reading:
    """Scale numbers of a unit since 1970 (UTC); outside the known years the product would overflow, unnoticed."""
    wrong = _outside(ticks, -(-_FIRST_INSTANT // microseconds), _LAST_INSTANT // microseconds)
    known = ticks if wrong is None else _blank(ticks, wrong)
    return Reading(pc.multiply(known, microseconds).cast(ARROW_TYPES["timestamp"]), wrong)


def _within_years(times: pa.ChunkedArray) -> Reading:
    wrong = _outside(times.cast(pa.int64()), _FIRST_INSTANT, _LAST_INSTANT)
    return Reading(times if wrong is None else _blank(times, wrong), wrong)


def _outside(ticks: pa.ChunkedArray, first: int, last: int) -> pa.ChunkedArray | None:
    found = pc.min_max(ticks).as_py()
    if found["min"] is None or (found["min"] >= first and found["max"] <= last):
        return None
    outside = pc.or_(pc.less(ticks, first), pc.greater(ticks, last))
    return pc.fill_null(outside, False)


def _typed_as_string(raw: pa.ChunkedArray) -> Reading:
    if pa.types.is_floating(raw.type):
        raw = _blank(raw, pc.fill_null(pc.is_nan(raw.cast(pa.float64())), False))
    try:
        return Reading(raw.cast(pa.string()))
    except pa.ArrowNotImplementedError:
        return _nothing_readable(raw, "string")


def _text_as_boolean(text: pa.ChunkedArray) -> Reading:
    text = pc.utf8_lower(_trimmed(text))
    yes, no = (pc.is_in(text, pa.array(words, text.type)) for words in (YES, NO))
    wrong = pc.and_not(pc.is_valid(text), pc.or_(yes, no))
    return _reading(_blank(yes, pc.or_(pc.is_null(text), wrong)), wrong)


def _typed_as_boolean(raw: pa.ChunkedArray) -> Reading:
    if pa.types.is_boolean(raw.type):
        return Reading(raw)
    if not _is_number(raw.type):
        return _nothing_readable(raw, "boolean")
    numbers = raw.cast(pa.float64(), safe=False)
    numbers = _blank(numbers, pc.fill_null(pc.is_nan(numbers), False))
    wrong = pc.fill_null(pc.and_(pc.not_equal(numbers, 0.0), pc.not_equal(numbers, 1.0)), False)
    return _reading(_blank(pc.equal(numbers, 1.0), wrong), wrong)


_READ_TEXT = {
    "double": _text_as_double,
    "long": _text_as_long,
    "timestamp": _text_as_timestamp,
    "string": _text_as_string,
    "boolean": _text_as_boolean,
}
_READ_TYPED = {
    "double": _typed_as_double,
    "long": _typed_as_long,
    "timestamp": _typed_as_timestamp,
    "string": _typed_as_string,
    "boolean": _typed_as_boolean,
}
