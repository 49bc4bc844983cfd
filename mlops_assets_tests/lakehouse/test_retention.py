"""How long removed files are kept: never so short that a pinned version loses one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.retention import MARGIN_HOURS, Pin, decide_retention

HOUR = 3_600.0
NOW = 1_000_000_000.0
commits = st.lists(st.floats(0, NOW + 10 * HOUR), min_size=1, max_size=30).map(lambda ages: dict(enumerate(ages)))


def pins(*versions: int) -> list[Pin]:
    return [Pin("t", version, f"model version {version}") for version in versions]


@given(commits, st.data(), st.integers(0, 2_000))
def test_whatever_was_removed_since_a_pinned_version_is_kept(
    committed: dict[int, float], data: st.DataObject, asked: int
):
    pinned = data.draw(st.lists(st.sampled_from(sorted(committed)), min_size=1, max_size=5))

    found = decide_retention(asked, pins(*pinned), committed, NOW, where="t")

    cutoff = NOW - found.hours * HOUR
    assert all(committed[later] >= cutoff for pin in pinned for later in committed if later >= pin)
    assert all(committed[pin] - cutoff >= min(MARGIN_HOURS * HOUR, found.hours * HOUR) for pin in pinned)
    assert found.hours >= asked
    assert found.pinned == tuple(sorted(set(pinned)))


def test_without_an_old_pin_it_is_what_was_asked_for():
    committed = {0: NOW - 1_000 * HOUR, 1: NOW - 10 * HOUR}

    assert decide_retention(168, [], committed, NOW, where="t").hours == 168
    young = decide_retention(168, pins(1), committed, NOW, where="t")
    assert (young.hours, young.reason) == (168, "asked for; pinned versions are younger")
    old = decide_retention(168, pins(1, 0), committed, NOW, where="t")
    assert (old.hours, old.reason) == (1_000 + MARGIN_HOURS, "version 0 is needed by model version 0")


def test_a_pin_that_the_log_does_not_know_is_one_clear_error():
    with pytest.raises(StorageError, match=r"no version 3 \(model version 3\), 5 \(model version 5\)") as caught:
        decide_retention(168, pins(5, 7, 3), {7: NOW}, NOW, where="raw_transactions")

    assert caught.value.where == "raw_transactions"
    assert "nothing was vacuumed" in caught.value.what
