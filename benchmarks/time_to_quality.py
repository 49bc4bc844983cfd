"""How much sooner: wall time until the best validation average precision of the seed recipe's whole search is reached.

Per round, with a seed of its own: the recipe searches as it does (its objective is kappa on the evaluation rows), and
each trial's average precision on those rows is recorded; the best one is the goal. The platform searches the same rows
with its defaults: its space and what that starts with, early stopping, pruning; its time is that of its first trial at
or above the goal. With `--space seed` it searches the recipe's own space, which has no starts and nothing against
overfitting: what is left is the dispatch and what ends bad trials early.

Two times of the recipe are compared with it. Like with like is that of its own trial that reached the goal: the first
hit of the same value on both sides. It depends on one lucky trial on either side, so there are ten rounds, on fewer
rows than the seed's; the median has an interval (order statistics), and the share of rounds in which ours was first is
printed. The other is that of the recipe's whole search, which its user waits for, because nothing says that the best
point has been found: it says how long one waits, not which search is better. A round in which the platform does not
reach the goal counts as a ratio of 0.

On fewer rows a trial's fixed costs weigh more, which favours the platform: its trials have less of them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import _seed_recipe
from benchmarks._data import SEED_TRAIN_ROWS, SEED_TRIALS, ULB_FRAUD_RATE, scaled_text, ulb_shaped
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets.training.space import PRESETS, search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.records import TrialRecord

TARGET = 8.0
REACHED = "time to the recipe's best average precision: its own trial that reached it / our first trial that good"
WHOLE = "the same: the recipe's whole search / our first trial that good"
# (seconds since the start of the search, average precision), one per trial, in the order in which they ended.
Course = list[tuple[float, float]]


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        rows: Training rows.
        recipe_trials: Trials of the recipe's search.
        our_trials: Trials that the platform may take to reach the goal; so many that they rather take longer than the
            recipe's whole search.
        rounds: Rounds.
        space: What the platform searches: a preset.
        screening: Share of the genuine rows on which the platform tries a point first (1: it tries all points on all
            rows, as by default). Trials on a sample never count as a hit.
    """

    rows: int = SEED_TRAIN_ROWS // 4
    recipe_trials: int = 20
    our_trials: int = 200
    rounds: int = 10
    space: str = "wide"
    screening: float = 1


def measure(sessions: Sessions, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure all rounds.

    Returns:
        Ratios by label, one value per round, and the details for the report.
    """
    ratios: dict[str, list[float]] = {REACHED: [], WHOLE: []}
    rounds: list[dict[str, Any]] = []
    for number in range(sizes.rounds):
        # Different rows in each round: on one set, one lucky point would decide all rounds.
        data = ulb_shaped(sizes.rows, fraud_rate=ULB_FRAUD_RATE, seed=7 + number)
        ours: Course = []
        recipe: Course = []
        whole = 0.0
        for side in ("recipe", "ours")[:: -1 if number % 2 else 1]:
            with sessions(LOCAL) as spark:
                if side == "recipe":
                    search = _seed_recipe.search(spark, *data, trials=sizes.recipe_trials, threads=SLOTS, seed=number)
                    recipe = [(trial.after_seconds, trial.average_precision) for trial in search.trials]
                    whole = search.seconds
                else:
                    ours = _our_course(spark, *data, sizes, seed=number, goal=_best(recipe))
        goal = _best(recipe)
        recipe_seconds, our_seconds = seconds_to(goal, recipe), seconds_to(goal, ours)
        ratios[WHOLE].append(0.0 if our_seconds is None else whole / our_seconds)
        ratios[REACHED].append(0.0 if our_seconds is None else (recipe_seconds or whole) / our_seconds)
        rounds.append(
            {
                "goal": goal,
                "recipe_whole_seconds": whole,
                "recipe_seconds": recipe_seconds,
                "our_seconds": our_seconds,
                "our_trials_to_the_goal": None if our_seconds is None else sum(at <= our_seconds for at, _ in ours),
                "our_best": max(value for _, value in ours),
                "our_whole_seconds": ours[-1][0],
                "recipe_course": recipe,
                "our_course": ours,
            }
        )
        print(f"round {number}: " + _summary(rounds[-1]), flush=True)
    low, high, level = median_interval(ratios[REACHED])
    details = {
        "target": TARGET,
        "like_with_like": {
            "median": median(ratios[REACHED]),
            "low": low,
            "high": high,
            "level": level,
            "share_first": share_first(ratios[REACHED]),
        },
        "rows": sizes.rows,
        "recipe_trials": sizes.recipe_trials,
        "our_trials_at_most": sizes.our_trials,
        "space": sizes.space,
        "screening": sizes.screening,
        "rounds": rounds,
    }
    return ratios, details


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return an interval of the median, and its level.

    Its ends are values in order: the narrowest pair, equally far from both ends, between which the median of what they
    are drawn from lies with at least that probability (Conover 1999, "Practical Nonparametric Statistics", section
    3.2). With fewer than six values it is all of them, and the level is lower.

    Args:
        values: At least one.
        level: The level wanted.
    """
    ordered, count = sorted(values), len(values)
    # Half of the draws lie below the median: the number of them is binomial.
    below = [math.comb(count, number) / 2**count for number in range(count + 1)]
    cut = 0
    while 2 * cut + 3 < count and 1 - 2 * sum(below[: cut + 2]) >= level:
        cut += 1
    return ordered[cut], ordered[-1 - cut], 1 - 2 * sum(below[: cut + 1])


def share_first(ratios: Sequence[float]) -> float:
    """Return the share of rounds in which the platform reached the goal first."""
    return sum(ratio > 1 for ratio in ratios) / len(ratios)


def seconds_to(goal: float, course: Course) -> float | None:
    """Return when a search first reached the goal, or None."""
    return next((seconds for seconds, value in course if value >= goal), None)


def _best(course: Course) -> float:
    """Return the highest value; of a search that has not run yet none is known, and none is high enough."""
    return max((value for _, value in course), default=math.inf)


class _ReachedError(Exception):
    """Nothing more is asked of the search."""


def _our_course(
    spark: SparkSession, train: Matrix, validation: Matrix, sizes: Sizes, *, seed: int, goal: float
) -> Course:
    """Return the course of our search, up to the goal if it is known by then."""
    course: Course = []
    started = time.perf_counter()

    def note(trial: TrialRecord) -> None:
        # A pruned trial has no model, a failed one no value, and a screened one none that could be compared.
        if trial.state == "finished" and trial.value is not None:
            course.append((time.perf_counter() - started, trial.value))
            if trial.value >= goal:
                raise _ReachedError

    plan = SearchPlan(
        space=search_space(sizes.space),
        trials=sizes.our_trials,
        parallelism=SLOTS,
        seed=seed,
        screening=sizes.screening,
    )
    with suppress(_ReachedError):
        run_search(spark, train, validation, plan, note)
    return course


def _summary(measured: dict[str, Any]) -> str:
    recipe = f"{measured['recipe_seconds']:.1f} s of {measured['recipe_whole_seconds']:.1f} s"
    text = f"goal {measured['goal']:.4f}, recipe {recipe}"
    if measured["our_seconds"] is None:
        return f"{text}; ours NOT REACHED, best {measured['our_best']:.4f} after {measured['our_whole_seconds']:.1f} s"
    return f"{text}; ours {measured['our_seconds']:.1f} s ({measured['our_trials_to_the_goal']} trials)"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=Sizes.rows)
    parser.add_argument("--recipe-trials", type=int, default=Sizes.recipe_trials)
    parser.add_argument("--our-trials", type=int, default=Sizes.our_trials)
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    parser.add_argument("--space", choices=PRESETS, default=Sizes.space)
    parser.add_argument("--screening", type=float, default=Sizes.screening)
    sizes = Sizes(**vars(parser.parse_args()))
    print(f"{scaled_text(sizes.rows)}; the recipe makes {sizes.recipe_trials} of the seed's {SEED_TRIALS} trials")
    ratios, details = measure(fresh_session, sizes)
    report("time_to_quality", ratios=ratios, details=details)
    found = details["like_with_like"]
    print(
        f"like with like: median {found['median']:.1f} [{found['low']:.1f}, {found['high']:.1f}] "
        f"({found['level']:.0%}); ours first in {found['share_first']:.0%} of {len(ratios[REACHED])} rounds"
    )
    print(f"at least {TARGET:g} times like with like in the median round: {found['median'] >= TARGET}")


if __name__ == "__main__":
    main()
