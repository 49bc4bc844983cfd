"""Rows that the tests of the search share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from mlops_assets.data.sources.synthetic import generate
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.records import TrialRecord


@pytest.fixture(scope="session")
def halves() -> tuple[Matrix, Matrix]:
    """The rows that most searches of the tests are made on."""
    return make_halves()


def make_halves() -> tuple[Matrix, Matrix]:
    """Return 2,000 training rows and 1,000 validation rows."""
    table = generate(rows=3_000, days=6, fraud_rate=0.05, seed=11)
    names = tuple(f"v{number}" for number in range(1, 29))
    X = np.column_stack([table.column(name).to_numpy() for name in names]).astype(np.float32)
    y = table.column("class").to_numpy().astype(np.uint8)
    days = (table.column("time").to_numpy() // 86_400).astype(np.int64)

    def part(rows: slice) -> Matrix:
        return Matrix(names, X[rows], y[rows], days[rows], None)

    return part(slice(0, 2_000)), part(slice(2_000, 3_000))


def without_time(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return records without what differs between two equal searches: clock, source, and addresses in an error."""
    return [
        dataclasses.replace(record, seconds=0.0, resumed_from="", error=record.error.partition("\n")[0])
        for record in records
    ]
