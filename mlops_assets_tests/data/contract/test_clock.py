"""Event times in another unit than seconds are noticed, and long histories in seconds are not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlops_assets.data.contract.clock import require_seconds
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SourceError

DAY = 86_400.0
NOW = 1.7e9


@pytest.mark.parametrize(("unit", "factor"), [("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)])
@pytest.mark.parametrize("first", [0.0, NOW])
def test_another_unit_is_refused_and_named(unit: str, factor: float, first: float):
    with pytest.raises(SourceError, match=f"can't be seconds; they are likely {unit}") as refused:
        require_seconds(first * factor, (first + 34 * DAY) * factor, load_contract("creditcard"), where="a.csv")

    assert f"divide by {factor:,.0f}" in refused.value.fix


def test_thirty_four_days_in_milliseconds_say_how_long_they_would_be():
    with pytest.raises(SourceError, match="time spans 34,000 days"):
        require_seconds(0.0, 34 * DAY * 1e3, load_contract("creditcard"), where="a.csv")


def test_what_is_no_known_unit_is_refused_without_a_guess():
    with pytest.raises(SourceError, match="can't be seconds") as refused:
        require_seconds(0.0, 1e30, load_contract("creditcard"), where="a.csv")

    assert "likely" not in refused.value.what


@pytest.mark.parametrize(
    ("earliest", "latest"),
    [(None, None), (0.0, 0.0), (0.0, 2 * DAY), (0.0, 40 * 365 * DAY), (NOW, NOW + DAY), (-NOW, -NOW)],
)
def test_seconds_pass(earliest: float | None, latest: float | None):
    require_seconds(earliest, latest, load_contract("creditcard"), where="a.csv")


def test_timestamps_have_a_unit_of_their_own():
    require_seconds(
        datetime(1970, 1, 1, tzinfo=UTC), datetime(3111, 1, 1, tzinfo=UTC), load_contract("creditcard"), where="a.csv"
    )
