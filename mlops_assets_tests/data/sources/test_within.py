"""Which locations lie within a place: what a run's config may name of a model's source."""

from __future__ import annotations

import pytest

from mlops_assets.data.sources.within import outside


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/in", "/in"),
        ("/in/a.csv", "/in"),
        ("/in/a.csv", "/in/"),
        ("file:///in/a.csv", "/in"),
        ("/in/a.csv,/more/b.csv", "/in,/more/*.csv"),
        ("/in/a.csv", "/in/*.csv"),
        ("/in/a?b.csv", "/in/*.csv"),
        ("/in/x/a.csv", "/in/**/*.csv"),
        ("memory:///in/a.csv", "memory://in"),
        ("memory:///in/a.csv", "memory://in/*.csv"),
        ("https://127.0.0.1/a.csv?token=1", "https://127.0.0.1/a.csv?token=1"),
    ],
)
def test_a_part_of_the_place_is_within(location: str, place: str):
    assert outside(location, place) == []


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/elsewhere/a.csv", "/in"),
        ("/in/../etc/a.csv", "/in"),
        ("/input/a.csv", "/in"),
        ("/", "/in"),
        ("/in", "/in/a.csv"),
        ("/in/x/a.csv", "/in/*.csv"),
        ("/in/**", "/in/*"),
        ("memory:///in/a.csv", "/in"),
        ("/in/a.csv", "memory://in"),
        ("https://127.0.0.1/b.csv", "https://127.0.0.1/a.csv"),
        ("https://127.0.0.1/b.csv", "/in"),
    ],
)
def test_anything_else_is_outside(location: str, place: str):
    assert outside(location, place) == [location]


def test_only_what_is_outside_is_named_and_no_secret_of_it():
    assert outside("/in/a.csv,https://user:hidden@127.0.0.1/b.csv", "/in") == ["https://127.0.0.1/b.csv"]
