"""Days in a time zone, against pandas and against Python's own calendar; and which days are whole, by simulation."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.contract.contract import SECONDS_PER_DAY
from mlops_assets.data.days import day_numbers, day_start, days_before, on_whole_days

HOUR = 3_600.0
BERLIN = "Europe/Berlin"
# Among them: half hours, midnights that are skipped (Sao Paulo, Beirut) or come twice (Havana), a skipped day (Apia).
ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "America/Havana",
    "Pacific/Apia",
]
MOMENTS = st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=50)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def number(date: str) -> int:
    return (datetime.fromisoformat(date).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days


@given(MOMENTS, st.sampled_from(ZONES))
def test_the_day_of_a_moment_is_the_one_that_pandas_gives(moments: list[int], zone: str):
    days = day_numbers(np.array(moments, dtype=np.float64), zone)

    local = pd.to_datetime(pd.Series(moments), unit="s", utc=True).dt.tz_convert(zone).dt.tz_localize(None)
    assert days.tolist() == (local.dt.floor("D") - pd.Timestamp(0)).dt.days.tolist()


@given(st.integers(0, 20_000), st.sampled_from(ZONES))
def test_a_day_begins_at_its_first_second(day: int, zone: str):
    begins, ends = day_start(day, zone), day_start(day + 1, zone)

    length = (ends - begins) / HOUR
    assert length in (0, 23, 23.5, 24, 24.5, 25), "Apia skipped 30 December 2011"
    assert day_numbers(np.array([begins - 1]), zone)[0] < day
    if length:
        assert day_numbers(np.array([begins, ends - 1]), zone).tolist() == [day, day]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_days_of_changes_between_summer_and_winter_have_23_and_25_hours(day: str, hours: int):
    begins, ends = day_start(number(day), BERLIN), day_start(number(day) + 1, BERLIN)

    assert ends - begins == hours * HOUR
    inside = np.arange(begins, ends, HOUR)
    assert len(inside) == hours
    assert set(day_numbers(inside, BERLIN)) == {number(day)}


def test_a_clock_of_its_own_has_days_of_86400_seconds_also_before_its_origin():
    moments = np.array([-86_401.0, -86_400.0, -0.5, 0.0, 86_399.9, 86_400.0])

    assert day_numbers(moments, "UTC").tolist() == [-2, -1, -1, 0, 0, 1]
    assert day_start(-2, "UTC") == -2 * SECONDS_PER_DAY


@pytest.mark.parametrize("moment", ["0001-01-01T00:00", "9999-12-31T23:59"])
def test_the_ends_of_the_calendar_have_days_too(moment: str):
    assert day_numbers(np.array([at(moment)]), "Asia/Tokyo").tolist() == [number(moment[:10])]


@pytest.mark.parametrize(
    ("moment", "earlier"),
    [
        ("2026-04-02T00:00", "2026-03-26T00:00"),  # one of the seven days has 23 hours
        ("2026-10-28T15:30", "2026-10-21T15:30"),  # one of the seven days has 25 hours
        ("2026-07-08T00:00", "2026-07-01T00:00"),
    ],
)
def test_days_are_counted_back_by_the_calendar_of_the_zone(moment: str, earlier: str):
    assert days_before(at(moment, BERLIN), 7, BERLIN) == at(earlier, BERLIN)
    assert days_before(at(moment), 7, "UTC") == at(moment) - 7 * SECONDS_PER_DAY
    assert days_before(at(moment, BERLIN), 7.5, BERLIN) == at(earlier, BERLIN) - 12 * HOUR


@given(st.integers(0, 2_000_000_000), st.integers(0, 40), st.sampled_from(ZONES))
def test_counting_back_lands_on_the_day_that_lies_so_many_days_earlier(moment: int, days: int, zone: str):
    earlier = days_before(float(moment), days, zone)

    then, now = day_numbers(np.array([earlier, float(moment)]), zone)
    assert abs((now - then) - days) <= (zone == "Pacific/Apia")
    assert abs(moment - earlier - days * SECONDS_PER_DAY) <= 25 * HOUR


# Which days are whole.


def busy_times(random: np.random.Generator, begin: float, end: float, per_day: float) -> np.ndarray:
    """Return times between two moments (days), five times as many at daytime as at night."""
    count = random.poisson(per_day * (np.ceil(end) - np.floor(begin)))
    day = random.integers(int(np.floor(begin)), int(np.ceil(end)), count)
    hour = np.where(random.random(count) < 5 / 6, random.uniform(8, 20, count), random.uniform(0, 24, count))
    times = day + hour / 24
    return np.sort(times[(times >= begin) & (times < end)]) * SECONDS_PER_DAY


@pytest.mark.parametrize("per_day", [20, 200, 5_000])
def test_complete_days_pass_and_cut_off_days_are_found(per_day: int):
    """Counted over 300 blocks each: complete ones, and blocks that begin or end in the middle of the day's business."""
    random = np.random.default_rng(per_day)
    complete = [on_whole_days(busy_times(random, 0, 7, per_day), "UTC").all() for _ in range(300)]
    found = []
    for _ in range(300):
        begin, end = random.uniform(10, 20) / 24, 6 + random.uniform(8, 18) / 24
        times = busy_times(random, begin, end, per_day)
        whole = on_whole_days(times, "UTC")
        days = times // SECONDS_PER_DAY
        assert whole[(days > 0) & (days < 6)].all()
        found += [not whole[days == 0].any(), not whole[days == 6].any()]

    assert np.mean(complete) >= 0.95
    assert np.mean(found) >= (0.95 if per_day > 20 else 0.6)


def test_the_first_minutes_of_a_day_are_no_day():
    rows = np.arange(0, 2 * SECONDS_PER_DAY + 600, 60.0)

    whole = on_whole_days(rows, "UTC")

    assert whole[rows < 2 * SECONDS_PER_DAY].all()
    assert not whole[rows >= 2 * SECONDS_PER_DAY].any()


def test_a_block_within_one_day_is_judged_by_its_length():
    assert not on_whole_days(np.arange(0, 6 * HOUR, 60.0), "UTC").any()
    assert on_whole_days(np.arange(0, 24 * HOUR, 60.0), "UTC").all()
    assert len(on_whole_days(np.array([]), "UTC")) == 0


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_days_of_23_and_25_hours_are_whole(day: str):
    begin = day_start(number(day), BERLIN)
    rows = np.arange(begin, day_start(number(day) + 1, BERLIN), 60.0)

    assert on_whole_days(rows, BERLIN).all()
    assert not on_whole_days(rows[: len(rows) // 2], BERLIN).any()
