"""Generated transactions of cards at terminals, with frauds in series and labels that arrive late; the truth is known.

What belongs here: the simulation of customers, terminals and frauds, and the features that were known at the time of
each transaction. What does not: loading it (`card_sources`), anything read from real data; every constant was chosen by
hand:

- A customer pays near home, with an amount that is typical of them; prices rise, and new customers join.
- A stolen card pays for a series of purchases within days, far away and with larger amounts, which become less
  conspicuous over time: the thieves learn.
- A tampered terminal makes an ordinary-looking purchase a fraud for weeks.
- A tester tries many cards with tiny amounts at one terminal; some of these cards have a series later.
- A few frauds look like any other purchase. A few are never reported.
- A fraud is reported after a delay with a long tail; nobody reports that a purchase was genuine.

The idea of compromised cards and terminals, and of windows over customers and terminals, comes from the Fraud Detection
Handbook (Le Borgne et al. 2022, chapter 3).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_assets.data.sources.windows import Floats, Integers, Past
from mlops_assets.errors import SettingsError

DAY_S: Final = 86_400
# Names of what made a transaction, by the number in `Simulation.scenario`.
SCENARIOS: Final = ("genuine", "stolen card", "tampered terminal", "tested card", "hidden")
WINDOW_DAYS: Final = (1, 7, 30)

_START_S = 1_735_689_600  # 2025-01-01 00:00 UTC: far enough back that all reports have been made
_HOURS = np.array([5, 3, 2, 2, 2, 3, 6, 12, 18, 21, 23, 25, 26, 24, 22, 22, 23, 25, 26, 24, 20, 15, 11, 7])
_NEIGHBOURS = 12  # terminals that a customer usually goes to
_TRAVELS = 0.04  # share of purchases elsewhere
_STOLEN_PER_DAY = 0.0006  # of a customer's card
_TAMPERED_PER_DAY = 0.0005  # of a terminal
_TESTS_PER_DAY = 0.25
_TESTED_CARDS = 12
_HIDDEN_SHARE = 0.0002
_JOINS_LATER = 0.1  # share of customers
_STILL_PAYS = 0.3  # share of tested cards
_COPIED = 0.45  # share of the cards at a tampered terminal
_SATURDAY = 5
_NEVER_REPORTED = 0.02
# Lognormal delay of a report, in days.
_DELAY_MEDIAN_DAYS, _DELAY_SIGMA, _LONGEST_DELAY_DAYS = 1.6, 0.8, 45.0


@dataclass(frozen=True)
class Simulation:
    """What happened, and what a bank would know of it.

    Attributes:
        transactions: Ordered by time: `transaction_id` (int64, of this simulation alone), `happened_at` (timestamp, us,
            UTC), `customer_id`, `terminal_id` (int64), `amount` (double, euros), the features, and `is_fraud` (int64),
            which is 0 throughout: at the time of a transaction nobody knows better.
        labels: All reports, ordered by time; the last ones come weeks after the last transaction: `transaction_id`,
            `is_fraud` (1), `reported_at` (timestamp, us, UTC).
        fraud: Whether each transaction is a fraud, shape (rows,).
        scenario: What made it, an index into `SCENARIOS`, shape (rows,).
    """

    transactions: pa.Table
    labels: pa.Table
    fraud: npt.NDArray[np.bool_]
    scenario: Integers


@dataclass(frozen=True)
class _Purchases:
    """Purchases in any order; all of shape (rows,)."""

    time: Integers  # seconds since the start
    customer: Integers
    terminal: Integers
    amount: Floats
    scenario: Integers

    def then(self, *others: _Purchases) -> _Purchases:
        parts = (self, *others)
        columns = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("time", "customer", "terminal", "amount", "scenario")
        )
        return _Purchases(*columns)

    def at(self, index: Integers | npt.NDArray[np.bool_]) -> _Purchases:
        return _Purchases(
            self.time[index], self.customer[index], self.terminal[index], self.amount[index], self.scenario[index]
        )


def simulate(customers: int, terminals: int, days: int, seed: int) -> Simulation:
    """Simulate purchases, frauds and reports.

    The same arguments give the same tables, as far as numpy promises that (NEP 19).

    Args:
        customers: Number of customers, at least 20; each makes about one purchase a day.
        terminals: Number of terminals, at least 20.
        days: Whole days, at least 2.
        seed: Seed, 0 or more.

    Raises:
        SettingsError: An argument is out of its range.
    """
    _check(customers, terminals, days, seed)
    random = np.random.Generator(np.random.PCG64(seed))
    world = _World(random, customers, terminals, days)
    purchases = world.ordinary()
    tested, series_of_tested = world.tests(purchases)
    purchases = purchases.then(world.stolen_cards(), tested, series_of_tested)
    inside = purchases.time < days * DAY_S
    purchases = purchases.at(inside)
    purchases = purchases.at(np.lexsort((purchases.customer, purchases.time)))
    scenario = world.tampered(purchases)
    fraud = scenario > 0
    delay_s = _report_delays(random, len(fraud))
    reported = np.where(fraud & (random.random(len(fraud)) >= _NEVER_REPORTED), purchases.time + delay_s, -1)
    ids = _first_id(customers, terminals, days, seed) + np.arange(len(fraud))
    columns = {
        "transaction_id": ids,
        "happened_at": _timestamps(purchases.time),
        "customer_id": purchases.customer,
        "terminal_id": purchases.terminal,
        "amount": purchases.amount,
        **known_features(purchases.time, purchases.customer, purchases.terminal, purchases.amount, reported),
        "distance": np.round(world.distance(purchases.customer, purchases.terminal), 4),
        "is_fraud": np.zeros(len(fraud), dtype=np.int64),
    }
    known = np.flatnonzero(reported >= 0)
    known = known[np.argsort(reported[known], kind="stable")]
    labels = {
        "transaction_id": ids[known],
        "is_fraud": np.ones(len(known), dtype=np.int64),
        "reported_at": _timestamps(reported[known]),
    }
    return Simulation(pa.table(columns), pa.table(labels), fraud, scenario)


def known_features(
    time: Integers, customer: Integers, terminal: Integers, amount: Floats, reported: Integers
) -> dict[str, Floats]:
    """Return what was known at the time of each transaction about its customer and terminal.

    Args:
        time: Seconds, in order, shape (rows,).
        customer: Customers, shape (rows,).
        terminal: Terminals, shape (rows,).
        amount: Euros, shape (rows,).
        reported: When the transaction was reported as fraud, in seconds; -1 for never, shape (rows,).

    Returns:
        By name, shape (rows,): for windows of 1, 7 and 30 days the number of the customer's transactions and their mean
        amount (with this one), the number of the terminal's transactions (with this one) and the reports about the
        terminal (before this moment) for each of them; whether it is night (0 to 6, UTC) and weekend (UTC).
    """
    # Sums of whole cents are exact, so that they don't depend on what comes later.
    counts, cents = Past(customer, time), Past(customer, time, np.rint(amount * 100))
    visits = Past(terminal, time)
    is_reported = reported >= 0
    reports = Past(terminal[is_reported], reported[is_reported])
    features: dict[str, Floats] = {}
    for days in WINDOW_DAYS:
        seconds = days * DAY_S
        count = counts.total(customer, time, seconds, with_now=True)
        there = visits.total(terminal, time, seconds, with_now=True)
        features[f"customer_count_{days}d"] = count
        features[f"customer_mean_amount_{days}d"] = np.round(
            cents.total(customer, time, seconds, with_now=True) / count / 100, 4
        )
        features[f"terminal_count_{days}d"] = there
        features[f"terminal_reports_{days}d"] = np.round(
            reports.total(terminal, time, seconds, with_now=False) / there, 6
        )
    features["is_night"] = (time % DAY_S < 6 * 3600).astype(np.float64)
    features["is_weekend"] = (((_START_S + time) // DAY_S + 3) % 7 >= _SATURDAY).astype(np.float64)
    return features


class _World:
    """Customers and terminals in the unit square, and what happens to them."""

    def __init__(self, random: np.random.Generator, customers: int, terminals: int, days: int) -> None:
        self._random, self._days = random, days
        self._customers, self._terminals = customers, terminals
        self._home = random.random((customers, 2))
        self._place = random.random((terminals, 2))
        self._rate = random.gamma(3.0, 1 / 3, customers)
        self._log_amount = random.normal(3.2, 0.6, customers)
        # One customer in ten joins later.
        joins = (random.random(customers) < _JOINS_LATER) * random.random(customers)
        self._joined_s = joins * days * DAY_S
        apart = np.linalg.norm(self._home[:, None, :] - self._place[None, :, :], axis=2)
        self._near = np.argsort(apart, axis=1)[:, :_NEIGHBOURS]

    def distance(self, customer: Integers, terminal: Integers) -> Floats:
        """Return how far terminals are from customers' homes."""
        apart = self._home[customer] - self._place[terminal]
        return np.hypot(apart[:, 0], apart[:, 1])

    def ordinary(self) -> _Purchases:
        """Return the genuine purchases, of which a few are frauds that look like them."""
        random = self._random
        customer = np.repeat(np.arange(self._customers), random.poisson(self._rate * self._days))
        rows = len(customer)
        time = random.integers(0, self._days, rows) * DAY_S + self._clock(rows)
        customer, time = customer[keep := time >= self._joined_s[customer]], time[keep]
        rows = len(customer)
        # The nearest terminals are visited most.
        usual = self._near[customer, np.minimum(random.geometric(0.25, rows) - 1, self._near.shape[1] - 1)]
        travels = random.random(rows) < _TRAVELS
        terminal = np.where(travels, random.integers(0, self._terminals, rows), usual)
        scenario = np.where(random.random(rows) < _HIDDEN_SHARE, SCENARIOS.index("hidden"), 0)
        return _Purchases(time, customer, terminal, self._amounts(customer, time, 0.0), scenario)

    def stolen_cards(self) -> _Purchases:
        """Return the series of purchases with stolen cards."""
        stolen = self._random.poisson(_STOLEN_PER_DAY * self._customers * self._days)
        customer = self._random.integers(0, self._customers, stolen)
        begins = self._random.integers(0, self._days * DAY_S, stolen)
        return self._series(customer[keep := begins >= self._joined_s[customer]], begins[keep])

    def tests(self, purchases: _Purchases) -> tuple[_Purchases, _Purchases]:
        """Return the attempts of testers, and the series that follow for some of the cards.

        Args:
            purchases: Where the cards that are tested come from.
        """
        random = self._random
        tests = random.poisson(_TESTS_PER_DAY * self._days)
        begins = np.repeat(random.integers(0, self._days * DAY_S, tests), _TESTED_CARDS)
        terminal = np.repeat(random.integers(0, self._terminals, tests), _TESTED_CARDS)
        rows = len(begins)
        customer = random.choice(purchases.customer, rows)
        keep = begins >= self._joined_s[customer]
        customer, begins, terminal = customer[keep], begins[keep], terminal[keep]
        rows = len(begins)
        time = begins + random.integers(0, 3600, rows)
        amount = np.round(random.uniform(0.5, 3.0, rows), 2)
        tested = _Purchases(time, customer, terminal, amount, np.full(rows, SCENARIOS.index("tested card")))
        worked = random.random(rows) < _STILL_PAYS
        return tested, self._series(customer[worked], time[worked] + random.integers(DAY_S, 3 * DAY_S, worked.sum()))

    def tampered(self, purchases: _Purchases) -> Integers:
        """Return the scenarios after terminals were tampered with, each for two to four weeks.

        Args:
            purchases: All purchases, in order.
        """
        random, scenario = self._random, purchases.scenario.copy()
        for _ in range(random.poisson(_TAMPERED_PER_DAY * self._terminals * self._days)):
            terminal, begins = random.integers(0, self._terminals), random.integers(-14, self._days) * DAY_S
            ends = begins + random.integers(14, 29) * DAY_S
            hit = (purchases.terminal == terminal) & (purchases.time >= begins) & (purchases.time < ends)
            hit &= (random.random(len(hit)) < _COPIED) & (scenario == 0)
            scenario[hit] = SCENARIOS.index("tampered terminal")
        return scenario

    def _series(self, customer: Integers, begins: Integers) -> _Purchases:
        random = self._random
        length = random.integers(3, 11, len(customer))
        customer, begins = np.repeat(customer, length), np.repeat(begins, length)
        rows = len(customer)
        time = begins + random.integers(0, 4 * DAY_S, rows)
        terminal = random.integers(0, self._terminals, rows)
        # From three times the usual amount at first to one and a half times at the end.
        progress: Floats = np.minimum(time / (self._days * DAY_S), 1.0)
        amount = self._amounts(customer, time, np.log(3.0 - 1.5 * progress))
        return _Purchases(time, customer, terminal, amount, np.full(rows, SCENARIOS.index("stolen card")))

    def _amounts(self, customer: Integers, time: Integers, shift: Floats | float) -> Floats:
        """Return euros; prices rise by a tenth in a hundred days."""
        log = self._log_amount[customer] + shift + 0.1 * time / (100 * DAY_S)
        amount: Floats = np.exp(log + 0.5 * self._random.standard_normal(len(customer)))
        return np.maximum(np.round(amount, 2), 0.01)

    def _clock(self, rows: int) -> Integers:
        hour = self._random.choice(24, rows, p=_HOURS / _HOURS.sum())
        return hour * 3600 + self._random.integers(0, 3600, rows)


def _first_id(*arguments: int) -> int:
    """Return where ids begin, so that a report of one simulation is never about a transaction of another one."""
    return zlib.crc32(repr(arguments).encode()) % 1_000_000 * 1_000_000_000


def _report_delays(random: np.random.Generator, rows: int) -> Integers:
    days = np.exp(np.log(_DELAY_MEDIAN_DAYS) + _DELAY_SIGMA * random.standard_normal(rows))
    return (np.minimum(days, _LONGEST_DELAY_DAYS) * DAY_S).astype(np.int64)


def _timestamps(seconds: Integers) -> pa.Array:
    return pa.array((_START_S + seconds) * 1_000_000, pa.timestamp("us", tz="UTC"))


def _check(customers: int, terminals: int, days: int, seed: int) -> None:
    smallest = {"customers": (customers, 20), "terminals": (terminals, 20), "days": (days, 2), "seed": (seed, 0)}
    broken = [f"{name}={value}: at least {least}" for name, (value, least) in smallest.items() if value < least]
    if broken:
        raise SettingsError("; ".join(broken), where="source of generated cards", fix="choose larger values")
