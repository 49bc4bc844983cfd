"""The leak rules, by simulation: honest features raise no alarm, leaks of each kind are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlops_assets.evaluation.leaks import ChangedRows, find_leaks

ROWS, RATE = 8_000, 0.01
Floats = Any
Maker = Callable[[np.random.Generator, Floats], Floats]


def labels(random: np.random.Generator, rows: int = ROWS, rate: float = RATE) -> Floats:
    return (random.random(rows) < rate).astype(np.uint8)


def named(
    X: Floats, y: Floats, changes: dict[str, ChangedRows] | None = None, weights: Floats | None = None
) -> dict[str, str]:
    features = [f"f{number}" for number in range(X.shape[1])]
    found = find_leaks(
        features, X.astype(np.float32), y, np.ones(len(y)) if weights is None else weights, changes or {}
    )
    return {leak.feature: leak.reason for leak in found}


def shifted(by: float) -> Maker:
    """A normal feature whose mean is shifted for frauds; 3 is far more than an honest feature of fraud data has."""
    return lambda random, y: random.normal(0, 1, len(y)) + by * y


def filled(random: np.random.Generator, y: Floats) -> Floats:
    """Missing for most, three times as often there for frauds."""
    return np.where(random.random(len(y)) < np.where(y == 1, 0.3, 0.1), random.normal(0, 1, len(y)), np.nan)


def flag(random: np.random.Generator, y: Floats) -> Floats:
    """A rare flag, such as a changed address, that half of the frauds have."""
    return (random.random(len(y)) < np.where(y == 1, 0.5, 0.01)).astype(float)


def risk(random: np.random.Generator, y: Floats) -> Floats:
    """Like the handbook's risk of a terminal: mostly 0, high for a part of the frauds and some genuine rows."""
    return np.where(random.random(len(y)) < np.where(y == 1, 0.6, 0.02), random.uniform(0.1, 1, len(y)), 0.0)


def certain(random: np.random.Generator, y: Floats) -> Floats:
    """Like an amount above a limit in the handbook: all such rows are frauds, yet they are few of the frauds."""
    return np.where((y == 1) & (random.random(len(y)) < 0.3), 500.0, random.lognormal(3, 1, len(y)).clip(0, 220))


HONEST: dict[str, Maker] = {
    "noise": shifted(0),
    "weak": shifted(1),
    "good": shifted(2),
    "excellent": shifted(3),
    "filled": filled,
    "flag": flag,
    "risk": risk,
    "certain": certain,
    "constant": lambda random, y: np.ones(len(y)),
    "empty": lambda random, y: np.full(len(y), np.nan),
}


def copied(random: np.random.Generator, y: Floats) -> Floats:
    return y + random.normal(0, 0.1, len(y))


def inverted(random: np.random.Generator, y: Floats) -> Floats:
    return -copied(random, y)


def coded(random: np.random.Generator, y: Floats) -> Floats:
    """A code among others that stands for fraud: decisive and not monotone."""
    return np.where(y == 1, 4.0, random.choice([1.0, 2.0, 3.0, 5.0, 6.0], len(y)))


def narrow(random: np.random.Generator, y: Floats) -> Floats:
    """Frauds in the middle of the genuine values, in a band that holds one genuine row in 10,000."""
    return np.where(y == 1, random.uniform(0.5, 0.5001, len(y)), random.uniform(0, 1, len(y)))


def mostly_copied(random: np.random.Generator, y: Floats) -> Floats:
    """The label, wrong for one fraud in twenty."""
    return np.where(random.random(len(y)) < 0.05, 0, y)


def dispute_number(random: np.random.Generator, y: Floats) -> Floats:
    """Filled for nine frauds in ten, and for a genuine row in 10,000."""
    there = random.random(len(y)) < np.where(y == 1, 0.9, 0.0001)
    return np.where(there, random.integers(1, 10**6, len(y)), np.nan)


def dispute_count(random: np.random.Generator, y: Floats) -> Floats:
    """The same with zeros for missing."""
    return np.nan_to_num(dispute_number(random, y))


def erased(random: np.random.Generator, y: Floats) -> Floats:
    """Deleted once a fraud is known."""
    return np.where(y == 1, np.nan, random.normal(0, 1, len(y)))


LEAKS: dict[str, tuple[Maker, str]] = {
    "copied": (copied, "decides"),
    "inverted": (inverted, "decides"),
    "coded": (coded, "decides"),
    "narrow": (narrow, "decides"),
    "mostly copied": (mostly_copied, "for frauds only"),
    "dispute number": (dispute_number, "filled for frauds only"),
    "dispute count": (dispute_count, "other than 0 for frauds only"),
    "erased": (erased, "decides"),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_raises_no_alarm(name: str):
    """60 tables with 40 to 400 frauds."""
    random = np.random.default_rng(1)
    alarms = 0
    for number in range(60):
        y = labels(random, rate=(0.005, 0.01, 0.05)[number % 3])
        alarms += len(named(HONEST[name](random, y)[:, None], y))

    assert alarms == 0


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found_and_its_reason_is_given(name: str):
    """20 tables; the leak stands among honest features, which stay unnamed."""
    make, said = LEAKS[name]
    random = np.random.default_rng(2)
    for number in range(20):
        y = labels(random, rate=(0.005, 0.01, 0.05)[number % 3])
        X = np.column_stack([shifted(2)(random, y), make(random, y), risk(random, y)])

        found = named(X, y)

        assert list(found) == ["f1"], (name, number)
        assert said in found["f1"]


def test_a_sample_of_the_genuine_rows_is_judged_like_all_of_them():
    """Without weights, a flag that is right one time in ten would look like one that is right nine times in ten."""
    random = np.random.default_rng(3)
    y = labels(random, 200_000, 0.002)
    wrong = (random.random(len(y)) < np.where(y == 1, 0.9, 0.02)).astype(float)
    kept = (y == 1) | (random.random(len(y)) < 0.01)

    assert named(wrong[kept, None], y[kept], weights=np.where(y[kept] == 1, 1.0, 100.0)) == {}
    assert list(named(wrong[kept, None], y[kept])) == ["f0"]


def test_too_few_frauds_are_no_evidence():
    y = np.zeros(1_000, dtype=np.uint8)
    y[:19] = 1
    assert named(y[:, None].astype(float), y) == {}
    y[19] = 1
    assert list(named(y[:, None].astype(float), y)) == ["f0"]


# Values that change with the label.


def drawn(random: np.random.Generator, frauds: int, others: int, of_frauds: float, of_others: float) -> ChangedRows:
    return ChangedRows(frauds, random.binomial(frauds, of_frauds), others, random.binomial(others, of_others))


def alarm(rows: ChangedRows) -> bool:
    y = np.array([0, 1], dtype=np.uint8)
    return bool(named(np.zeros((2, 1)), y, {"f0": rows}))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize(("frauds", "others"), [(20, 20), (40, 2_000), (300, 30)])
def test_corrections_that_have_nothing_to_do_with_labels_raise_no_alarm(share: float, frauds: int, others: int):
    random = np.random.default_rng(4)

    assert sum(alarm(drawn(random, frauds, others, share, share)) for _ in range(2_000)) == 0


@pytest.mark.parametrize(("of_frauds", "of_others"), [(1.0, 0.0), (0.8, 0.05), (1.0, 0.3)])
def test_values_that_change_with_the_label_are_found(of_frauds: float, of_others: float):
    random = np.random.default_rng(5)

    found = [alarm(drawn(random, 60, 500, of_frauds, of_others)) for _ in range(300)]

    assert np.mean(found) >= 0.99


def test_a_change_needs_twenty_rows_of_either_kind():
    assert not alarm(ChangedRows(19, 19, 500, 0))
    assert not alarm(ChangedRows(500, 500, 19, 0))
    assert alarm(ChangedRows(20, 20, 20, 0))
