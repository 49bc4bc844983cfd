"""Generated card transactions, shaped like the ULB/Worldline credit card set (Dal Pozzolo et al. 2015).

What belongs here: the generator and its parameters' rules. What does not: anything read from real data; every constant
below was chosen by hand so that the set behaves like a real one where it matters for a fraud model:

- v1..v28 are centred and nearly uncorrelated, with falling variances, as principal components are; a row's components
  share a heavy-tailed radius, so genuine outliers exist.
- Frauds come in modes. Some are loud, some are only visible in a combination of columns, some copy genuine rows: no
  model can find those. A few genuine customers look like frauds, so precision has a cost as well.
- Amounts are lognormal, nights are quiet, frauds care less about the hour.
- Amounts and the signature of frauds drift over the days, so a random split flatters and a time-ordered one does not.
- A few rows are repeated exactly, next to their twin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_assets.data.sources.base import SourceBatch, table_hash
from mlops_assets.errors import SettingsError

Floats = npt.NDArray[np.float64]

COMPONENTS = 28
SECONDS_PER_DAY = 86_400
DUPLICATED_SHARE = 0.0005
# Days until half of all drift has happened; it saturates, so that a long run ends in a new normal, not in noise.
_DRIFT_HALF_LIFE_DAYS = 30.0

# Relative number of transactions in each hour of the day.
_GENUINE_HOURS = np.array([7, 4, 3, 2, 2, 2, 4, 8, 14, 20, 22, 22, 21, 21, 20, 20, 20, 20, 21, 21, 19, 17, 14, 10])
_FRAUD_HOURS = np.array([8, 9, 11, 11, 10, 8, 7, 7, 8, 9, 10, 11, 10, 9, 10, 10, 10, 9, 9, 9, 8, 8, 8, 8])

# Shift of each mode's mean, in standard deviations of the component, keyed by component number. The last mode is the
# one that hides: its rows are drawn like genuine ones.
_MODES: tuple[dict[int, float], ...] = (
    {14: -4.6, 12: -3.9, 10: -3.4, 17: -3.2, 4: 2.8, 11: 2.6, 3: -2.0, 7: -1.6},
    {4: 3.0, 11: 2.8, 14: -2.7, 2: 1.8, 9: -1.8, 16: -1.7},
    {1: -2.1, 3: -2.1, 8: 2.4, 20: 2.7, 21: 2.9, 27: 2.4},
    {14: -0.4, 4: 0.3},
)
# Where the modes move to as the drift completes: frauds learn from being caught.
_DRIFTED_MODES: tuple[dict[int, float], ...] = (
    {14: -3.0, 12: -2.2, 10: -2.0, 17: -1.6, 4: 2.6, 11: 2.0, 18: -2.0, 5: -1.6},
    {4: 1.2, 11: 1.0, 14: -0.9, 2: 2.8, 9: -2.4, 19: 2.4},
    {1: -0.6, 3: -0.6, 8: 1.2, 20: 1.4, 21: 1.4, 27: 2.2, 23: 2.4},
    {14: -0.2, 4: 0.2},
)
_MODE_SHARES = np.array([0.50, 0.22, 0.20, 0.08])
# Lognormal (mean of the log, deviation of the log) of the amount, per mode; the third tests cards with small amounts.
_FRAUD_AMOUNTS = np.array([(3.6, 1.6), (4.4, 1.2), (0.3, 0.7), (3.2, 1.4)])
_GENUINE_AMOUNTS = (3.1, 1.45)
# Share of genuine rows that look like the second mode of frauds (travel, a new phone).
_LOOKALIKE_SHARE = 0.0003


class SyntheticSource:
    """Yields one generated batch.

    Args:
        rows: Number of transactions, at least 100.
        days: Days they span, above 0; may be fractional.
        fraud_rate: Share of frauds, above 0 and below 0.5; at least one row is a fraud.
        seed: Seed of the generator, 0 or more.

    Raises:
        SettingsError: A parameter is out of its range.
    """

    def __init__(self, rows: int = 150_000, days: float = 10.0, fraud_rate: float = 0.005, seed: int = 7) -> None:
        _check(rows, days, fraud_rate, seed)
        self.rows, self.days, self.fraud_rate, self.seed = rows, days, fraud_rate, seed

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the generated set as one batch; its hash covers the columns' names and values."""
        table = generate(self.rows, self.days, self.fraud_rate, self.seed)
        origin = f"synthetic:seed={self.seed},rows={self.rows},days={self.days:g},fraud_rate={self.fraud_rate:g}"
        yield SourceBatch(origin, table_hash(table), table)


def generate(rows: int, days: float, fraud_rate: float, seed: int) -> pa.Table:
    """Generate transactions.

    The same arguments give the same table on one numpy version; across versions as far as numpy promises, that is the
    bits of PCG64 always, the methods that turn them into distributions except where a release note says so (NEP 19).

    Args:
        rows: Number of transactions, at least 100.
        days: Days they span, above 0.
        fraud_rate: Share of frauds, above 0 and below 0.5.
        seed: Seed, 0 or more.

    Returns:
        `rows` rows ordered by time: `time` (double, whole seconds since the first transaction), `v1`..`v28` (double,
        6 decimals), `amount` (double, euros with 2 decimals), `class` (int64, 1 = fraud).

    Raises:
        SettingsError: A parameter is out of its range.
    """
    _check(rows, days, fraud_rate, seed)
    random = np.random.Generator(np.random.PCG64(seed))
    repeated = round(rows * DUPLICATED_SHARE)
    frauds = max(1, round(rows * fraud_rate))
    time, label = _times_and_labels(random, rows - repeated, frauds, days)
    progress = time / (time + _DRIFT_HALF_LIFE_DAYS * SECONDS_PER_DAY)
    mode = np.full(len(time), -1)
    mode[label == 1] = _fraud_modes(random, progress[label == 1])
    components = _components(random, mode, progress)
    amount = _amounts(random, mode, progress)
    # Expensive purchases shift a few components, as in the real set.
    log_amount = np.log1p(amount)
    for number, weight in ((2, -0.25), (7, 0.25), (20, 0.3)):
        components[number - 1] += weight * (log_amount - log_amount.mean())
    _as_principal_components(components)

    # Twins are genuine rows, so that the number of frauds stays what was asked for.
    copies = np.ones(len(time), dtype=np.int64)
    copies[random.choice(np.flatnonzero(label == 0), size=repeated, replace=False)] = 2
    columns = {"time": np.repeat(time, copies)}
    columns |= {f"v{i + 1}": np.repeat(np.round(components[i], 6), copies) for i in range(COMPONENTS)}
    columns["amount"] = np.repeat(np.round(amount, 2), copies)
    return pa.table(columns | {"class": np.repeat(label, copies)})


def _check(rows: int, days: float, fraud_rate: float, seed: int) -> None:
    problems = [
        (rows >= 100, f"rows={rows}: at least 100"),  # noqa: PLR2004 - below this a split has no fraud to hold
        (math.isfinite(days) and days > 0, f"days={days}: a positive number"),
        (0 < fraud_rate < 0.5, f"fraud_rate={fraud_rate}: above 0 and below 0.5"),  # noqa: PLR2004 - frauds are rare
        (seed >= 0, f"seed={seed}: 0 or more"),
    ]
    broken = [text for holds, text in problems if not holds]
    if broken:
        raise SettingsError("; ".join(broken), where="synthetic source", fix="choose values in these ranges")


def _times_and_labels(
    random: np.random.Generator, rows: int, frauds: int, days: float
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return ordered times (whole seconds from 0) and labels, both of shape (rows,)."""
    time = np.concatenate(
        [_day_times(random, rows - frauds, days, _GENUINE_HOURS), _day_times(random, frauds, days, _FRAUD_HOURS)]
    )
    label = np.repeat(np.array([0, 1], dtype=np.int64), [rows - frauds, frauds])
    order = np.argsort(time, kind="stable")
    return time[order] - time[order[0]], label[order]


def _day_times(random: np.random.Generator, count: int, days: float, hours: npt.NDArray[np.int64]) -> Floats:
    """Draw times by inverting the cumulated hourly weights over the whole span."""
    edges = np.append(np.arange(0.0, days * 24, 1.0), days * 24)
    weights = hours[np.arange(len(edges) - 1) % 24] * np.diff(edges)
    cumulated = np.concatenate([[0.0], np.cumsum(weights)])
    return np.floor(np.interp(random.random(count) * cumulated[-1], cumulated, edges) * 3600)


def _fraud_modes(random: np.random.Generator, progress: Floats) -> npt.NDArray[np.int64]:
    """Draw each fraud's mode; loud frauds lose up to half of their share to the hidden ones as the drift completes."""
    edges = np.cumsum(_MODE_SHARES)
    draw = random.random(len(progress))
    mode = np.searchsorted(edges[:-1], draw, side="right")
    gives_up = (mode == 0) & (random.random(len(progress)) < 0.5 * progress)
    mode[gives_up] = len(_MODES) - 1
    return mode


def _components(random: np.random.Generator, mode: npt.NDArray[np.int64], progress: Floats) -> Floats:
    """Return unit-variance components of shape (28, rows), shifted for frauds and for genuine lookalikes."""
    rows = len(mode)
    components = random.standard_normal((COMPONENTS, rows))
    components *= np.exp(random.normal(-0.06, 0.35, rows))
    looks_like = mode.copy()
    looks_like[(mode < 0) & (random.random(rows) < _LOOKALIKE_SHARE)] = 1
    for number, (start, end) in enumerate(zip(_MODES, _DRIFTED_MODES, strict=True)):
        members = np.flatnonzero(looks_like == number)
        # A weak attempt carries a weak signature.
        strength = random.gamma(9.0, 1 / 9, len(members))
        for component in sorted(start.keys() | end.keys()):
            first, last = start.get(component, 0.0), end.get(component, 0.0)
            components[component - 1, members] += strength * (first + (last - first) * progress[members])
    return components


def _amounts(random: np.random.Generator, mode: npt.NDArray[np.int64], progress: Floats) -> Floats:
    """Return amounts in euros, shape (rows,); prices rise by up to a third as the drift completes."""
    log_mean = np.full(len(mode), _GENUINE_AMOUNTS[0])
    log_deviation = np.full(len(mode), _GENUINE_AMOUNTS[1])
    fraud = mode >= 0
    log_mean[fraud], log_deviation[fraud] = _FRAUD_AMOUNTS[mode[fraud]].T
    return np.exp(log_mean + log_deviation * random.standard_normal(len(mode)) + 0.3 * progress)


def _as_principal_components(components: Floats) -> None:
    """Centre each row of `components` and give it its variance, falling from the first to the last; in place."""
    components -= components.mean(axis=1, keepdims=True)
    deviations = np.geomspace(1.95, 0.33, COMPONENTS)
    components *= (deviations / components.std(axis=1))[:, None]
