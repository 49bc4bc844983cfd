"""How much sooner: wall time until the best validation average precision of the seed recipe's whole search is reached.

Per round, with a seed of its own: the recipe searches as it does (its objective is kappa on the evaluation rows), and
each trial's average precision on those rows is recorded; the best one is the goal. The platform searches the same space
on the same rows with its defaults, including early stopping and pruning; its time is that of its first trial at or
above the goal.

It is compared with two times of the recipe: that of its whole search, which the user waits for because nothing says
that the best point has been found, and that of the trial that reached the goal, as if the user had known. The second
depends on one lucky trial on either side, hence its spread. A round in which the platform does not reach the goal
counts as a ratio of 0.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import _seed_recipe
from benchmarks._data import SEED_TRAIN_ROWS, SEED_TRIALS, ULB_FRAUD_RATE, scaled_text, ulb_shaped
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets.training.space import search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.records import TrialRecord

TARGET = 8.0
WHOLE = "time to the recipe's best average precision: its whole search / our first trial that good"
REACHED = "the same: the recipe's own trial that reached it / our first trial that good"
# (seconds since the start of the search, average precision), one per trial, in the order in which they ended.
Course = list[tuple[float, float]]


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        rows: Training rows.
        recipe_trials: Trials of the recipe's search.
        our_trials: Trials that the platform may take to reach the goal.
        rounds: Rounds.
    """

    rows: int = SEED_TRAIN_ROWS
    recipe_trials: int = 30
    our_trials: int = 100
    rounds: int = 3


def measure(sessions: Sessions, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure all rounds.

    Returns:
        Ratios by label, one value per round, and the details for the report.
    """
    ratios: dict[str, list[float]] = {WHOLE: [], REACHED: []}
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
                    ours = _our_course(spark, *data, sizes.our_trials, seed=number)
        goal = max(value for _, value in recipe)
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
    details = {
        "target": TARGET,
        "rows": sizes.rows,
        "recipe_trials": sizes.recipe_trials,
        "our_trials_at_most": sizes.our_trials,
        "rounds": rounds,
    }
    return ratios, details


def seconds_to(goal: float, course: Course) -> float | None:
    """Return when a search first reached the goal, or None."""
    return next((seconds for seconds, value in course if value >= goal), None)


def _our_course(spark: SparkSession, train: Matrix, validation: Matrix, trials: int, *, seed: int) -> Course:
    course: Course = []
    started = time.perf_counter()

    def note(trial: TrialRecord) -> None:
        # A pruned trial has no model; a failed trial has no value.
        if trial.state == "finished" and trial.value is not None:
            course.append((time.perf_counter() - started, trial.value))

    plan = SearchPlan(space=search_space("seed"), trials=trials, parallelism=SLOTS, seed=seed)
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
    sizes = Sizes(**vars(parser.parse_args()))
    print(f"{scaled_text(sizes.rows)}; the recipe makes {sizes.recipe_trials} of the seed's {SEED_TRIALS} trials")
    ratios, details = measure(fresh_session, sizes)
    report("time_to_quality", ratios=ratios, details=details)
    print(f"at least {TARGET:g} times in the median round: {sorted(ratios[WHOLE])[len(ratios[WHOLE]) // 2] >= TARGET}")


if __name__ == "__main__":
    main()
