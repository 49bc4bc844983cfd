"""Parts of the rows, and a candidate that collapses in one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._weekly_gates import period
from mlops_assets.evaluation.bootstrap import Contender
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.slices import SliceGain, bands, holm_lower_ends, hours_of_day, slice_gains, values_of

DESIGN = Design(60, 1)


def test_bands_are_thirds_and_cover_what_is_known():
    values = np.append(np.arange(1.0, 31.0), np.nan)
    found = bands("amount", values)

    assert list(found) == ["amount 1 to 10", "amount 11 to 20", "amount 21 to 30"]
    assert [mask.sum() for mask in found.values()] == [10, 10, 10]
    assert bands("amount", np.array([np.nan])) == {}
    assert list(bands("amount", np.full(9, 5.0))) == ["amount 5 to 5"]


def test_hours_and_values():
    assert [mask.sum() for mask in hours_of_day(np.arange(24)).values()] == [6, 6, 6, 6]
    assert list(values_of("kind", np.array([1, 2, 2]))) == ["kind = 1", "kind = 2"]
    assert len(values_of("number", np.arange(90))) == 3
    texts = values_of("country", np.array(["de", None, "at"], dtype=object))
    assert {name: mask.tolist() for name, mask in texts.items()} == {
        "country = at": [False, False, True],
        "country = de": [True, False, False],
    }


def test_a_candidate_that_collapses_in_one_part_is_seen_there_and_nowhere_else():
    rows, new, old = period(np.random.default_rng(3), 400, lead=0.3, own=0.2, genuine=4_000)
    large = rows.amounts is not None and rows.amounts > np.quantile(rows.amounts, 2 / 3)
    blind = np.where(large & (rows.y == 1), 0.001, new)
    parts = bands("amount", np.asarray(rows.amounts))

    def ends(scores: np.ndarray) -> list[float]:
        found = slice_gains(
            rows, parts, candidate=Contender(scores, 0.2), baseline=Contender(old, 0.2), design=DESIGN, min_frauds=50
        )
        assert [part.name for part in found] == list(parts)
        return [holm_lower_ends(found, 0.2)[name] for name in parts]

    assert min(ends(new)) > -0.2, "the control"
    small, middle, high = ends(blind)
    assert min(small, middle) > -0.2
    assert high < -0.3


def test_parts_with_few_frauds_or_no_genuine_row_are_left_out():
    rows, new, old = period(np.random.default_rng(3), 80, lead=0.0, own=0.2)
    masks = {"frauds": rows.y == 1, "few": np.arange(len(rows.y)) % 10 == 0, "all": np.ones(len(rows.y), dtype=bool)}
    found = slice_gains(
        rows, masks, candidate=Contender(new, 0.2), baseline=Contender(old, 0.2), design=DESIGN, min_frauds=50
    )
    assert [part.name for part in found] == ["all"]


def test_lower_ends_are_those_of_holm():
    rows, new, old = period(np.random.default_rng(3), 80, lead=0.0, own=0.2)
    everything = {"all": np.ones(len(rows.y), dtype=bool)}
    (part,) = slice_gains(
        rows, everything, candidate=Contender(new, 0.2), baseline=Contender(old, 0.2), design=DESIGN, min_frauds=2
    )
    gain = replace(part.gain, error=0.1, freedom=1e9, interval=replace(part.gain.interval, estimate=0.0))
    clear = SliceGain("clear", 80, replace(gain, error=0.01))

    assert holm_lower_ends([SliceGain("one", 80, gain)], 0.2)["one"] == pytest.approx(-0.195996, abs=1e-5)
    both = holm_lower_ends([SliceGain("one", 80, gain), clear], 0.2)
    assert both == {"clear": pytest.approx(-0.0224140, abs=1e-5), "one": pytest.approx(-0.195996, abs=1e-5)}
    assert holm_lower_ends([], 0.2) == {}
