"""How much faster the same work is done: the platform's search against the seed recipe's, same rows and points.

Both try the same points, drawn once, on the same rows with the same number of trees and no pruning. Each search starts
on a new Spark session without Python workers, and the two take turns at going first. On a machine with two cores the
seed runs one trial at a time on both cores; the platform runs one trial on each.

Half of the rows are frauds, as after the seed's oversampling: at ULB's own share trees are smaller, a fit takes a
quarter less time, and a trial's other costs would weigh more.

Also measured: the recipe at its best on stock SparkTrials, two trials at a time on one core each, and `exact`, the
default of XGBoost 1.x and so of the seed. It takes minutes per fit, hence fewer rows and points, and a smaller ratio
than at the seed's size: our fixed cost per search is then spread over few, short fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import _ours, _seed_recipe
from benchmarks._data import (
    SEED_TRAIN_ROWS,
    SEED_TRIALS,
    draw_points,
    scaled_text,
    ulb_shaped,
)
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.training.space import search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.space import Point

TARGET = 3.0
HIST = "wall time at equal work: the seed recipe with hist / ours"
HIST_BOTH_SLOTS = "the same, the recipe given two slots of one thread"
EXACT = "the same with exact instead of hist, on fewer rows and points"

# Runs one search on a fresh session and returns its wall time in seconds.
Way = Callable[["SparkSession"], float]


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        rows: Training rows.
        points: Points of a search with `hist`.
        rounds: How often `hist` is measured; `exact` is measured once.
        exact_rows: Training rows of the pair with `exact`.
        exact_points: Points of that pair.
    """

    rows: int = SEED_TRAIN_ROWS
    points: int = 16
    rounds: int = 3
    exact_rows: int = SEED_TRAIN_ROWS // 8
    exact_points: int = 3


def measure(sessions: Sessions, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure all pairs.

    Returns:
        Ratios by label, one value per round, and the details for the report.
    """
    data = ulb_shaped(sizes.rows)
    points = draw_points(search_space("seed"), sizes.points, seed=1)
    ways: dict[str, Way] = {
        "recipe": partial(_recipe, data, points, "hist", 1),
        "ours": partial(_platform, data, points),
        "recipe_two_slots": partial(_recipe, data, points, "hist", SLOTS),
    }
    hist = in_turn(sessions, ways, sizes.rounds)
    few = draw_points(search_space("seed"), sizes.exact_points, seed=2)
    small = ulb_shaped(sizes.exact_rows)
    exact = in_turn(
        sessions, {"recipe": partial(_recipe, small, few, "exact", 1), "ours": partial(_platform, small, few)}, 1
    )
    ratios = {
        HIST: ratio(hist, "recipe", "ours"),
        HIST_BOTH_SLOTS: ratio(hist, "recipe_two_slots", "ours"),
        EXACT: ratio(exact, "recipe", "ours"),
    }
    details = {
        "target": TARGET,
        "rows": sizes.rows,
        "points": sizes.points,
        "seconds": hist,
        "exact_rows": sizes.exact_rows,
        "exact_points": sizes.exact_points,
        "seconds_exact": exact,
    }
    return ratios, details


def in_turn(sessions: Sessions, ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Run each way once per round on a new session, reversing the order each time; return wall times by way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            with sessions(LOCAL) as spark:
                seconds[name].append(round(ways[name](spark), 2))
            print(f"round {number}: {name} {seconds[name][-1]:.1f} s", flush=True)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], one: str, other: str) -> list[float]:
    """Return how many times as long as `other` `one` took, round by round."""
    return [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]


def _recipe(
    data: tuple[Matrix, Matrix],
    points: Sequence[Point],
    tree_method: _seed_recipe.TreeMethod,
    parallelism: int,
    spark: SparkSession,
) -> float:
    return _seed_recipe.search(
        spark,
        *data,
        trials=len(points),
        threads=SLOTS // parallelism,
        parallelism=parallelism,
        tree_method=tree_method,
        points=points,
    ).seconds


def _platform(data: tuple[Matrix, Matrix], points: Sequence[Point], spark: SparkSession) -> float:
    return _ours.try_points(spark, *data, points, parallelism=SLOTS).seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=Sizes.rows)
    parser.add_argument("--points", type=int, default=Sizes.points)
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    given = parser.parse_args()
    sizes = Sizes(rows=given.rows, exact_rows=given.rows // 8, points=given.points, rounds=given.rounds)
    print(f"{scaled_text(sizes.rows)}; {sizes.points} points of the seed's {SEED_TRIALS}")
    print(f"with exact: {scaled_text(sizes.exact_rows)}; {sizes.exact_points} points", flush=True)
    ratios, details = measure(fresh_session, sizes)
    report("equal_work", ratios=ratios, details=details)
    print(f"at least {TARGET:g} times in each round with hist: {min(ratios[HIST]) >= TARGET}")


if __name__ == "__main__":
    main()
