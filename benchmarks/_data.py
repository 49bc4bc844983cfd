"""The rows and points that both sides of a benchmark work on.

What belongs here: rows shaped like the ULB card transactions at the seed project's size, and points drawn from its
space. What does not: fitting anything on them.

The seed project trains on 454,881 x 29 rows, which it makes from 227,845 by oversampling the frauds to one half
(ADASYN), and evaluates on 56,962. The rows here are generated at that size. Each benchmark chooses their share of
frauds: `OVERSAMPLED_FRAUD_RATE`, which the seed's trainer sees, where only the cost of the work matters (at ULB's own
share trees are smaller and a fit takes a quarter less time, so a trial's other costs would weigh more);
`ULB_FRAUD_RATE` where scores are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlops_assets.data.contract.contract import SECONDS_PER_DAY, load_contract
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.space import Point, Range, SearchSpace

if TYPE_CHECKING:
    import pyarrow as pa

SEED_TRAIN_ROWS = 454_881
SEED_TEST_ROWS = 56_962
SEED_TRIALS = 100
ULB_FRAUD_RATE = 0.00173
OVERSAMPLED_FRAUD_RATE = 0.499
ULB_DAYS = 2.0


def ulb_shaped(train_rows: int, *, fraud_rate: float = OVERSAMPLED_FRAUD_RATE, seed: int = 7) -> tuple[Matrix, Matrix]:
    """Generate rows like the ULB set's and cut them in order of time.

    Args:
        train_rows: Number of training rows, which come first. The `evaluation_rows` after them are for evaluation; the
            seed recipe, which has no other rows, uses them as its test rows.
        fraud_rate: Share of frauds in all rows.
        seed: Seed of the generator.

    Returns:
        Training and validation rows, 29 features each.
    """
    table = generate(train_rows + evaluation_rows(train_rows), ULB_DAYS, fraud_rate, seed)
    return _matrix(table.slice(0, train_rows)), _matrix(table.slice(train_rows))


def frame(matrix: Matrix) -> pd.DataFrame:
    """Return the features as the seed project holds them: a frame of doubles (its 454,881 x 29 are 105 MB)."""
    return pd.DataFrame(matrix.X.astype(np.float64), columns=list(matrix.features))


def evaluation_rows(train_rows: int) -> int:
    """Return how many rows to evaluate on, in the seed project's proportion; at least the 100 that can be generated."""
    return max(100, round(train_rows * SEED_TEST_ROWS / SEED_TRAIN_ROWS))


def draw_points(space: SearchSpace, count: int, seed: int) -> list[Point]:
    """Draw points from the space, each parameter on its own scale, as hyperopt's random search does."""
    random = np.random.default_rng(seed)
    return [space.to_point({name: _draw(random, item) for name, item in space.ranges.items()}) for _ in range(count)]


def scaled_text(rows: int) -> str:
    """Describe the number of training rows compared with the seed project's."""
    if rows == SEED_TRAIN_ROWS:
        return f"{rows:,} training rows, the seed project's number"
    return f"{rows:,} training rows, scaled by {rows / SEED_TRAIN_ROWS:.3g} from the seed project's {SEED_TRAIN_ROWS:,}"


def _draw(random: np.random.Generator, item: Range) -> float:
    if item.scale == "whole":
        return float(random.integers(int(item.low), int(item.high), endpoint=True))
    if item.scale == "log_uniform":
        return float(np.clip(np.exp(random.uniform(np.log(item.low), np.log(item.high))), item.low, item.high))
    return float(random.uniform(item.low, item.high))


def _matrix(table: pa.Table) -> Matrix:
    contract = load_contract("creditcard")
    X = np.empty((table.num_rows, len(contract.features)), dtype=np.float32)
    for number, name in enumerate(contract.features):
        X[:, number] = table.column(name).to_numpy()
    return Matrix(
        features=contract.features,
        X=X,
        y=table.column("class").to_numpy().astype(np.uint8),
        days=np.floor(table.column("time").to_numpy() / SECONDS_PER_DAY).astype(np.int64),
        amounts=table.column("amount").to_numpy(),
    )
