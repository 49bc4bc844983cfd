"""Is the registered model as good on later days? Ours against the seed's recipe, fixed settings and random search.

By default the rows are generated histories (source `cards`) that begin with nothing known, unless `--past` says so. The
data of a public simulation are not in the project: `make bench NAME=quality ARGS="--data FOLDER"` with the folder that
holds `handbook_2018-04.parquet` and `handbook_2018-05.parquet` of the Fraud Detection Handbook. Nothing here or in the
platform was tuned on them; that half of a model is its anchor was decided on generated histories.

On several days everything known so far is taken, in order of time: rows whose labels have had the contract's delay of 7
days. Each way makes its model of them, and all are scored on the 7 days that follow, which nobody has seen:

- **ours**: the platform's split, its search as it is by default, the evaluation, and the refit on all known rows, which
  is what is registered.
- **recipe**: the seed's search (its space; kappa at 0.5) on the same training and validation rows, and its best point
  fitted on the training rows. Choosing on later rows favours it over its own way, a random split. Its point is also
  fitted on all known rows, which the seed does not do (`recipe, refitted`).
- **fixed**: three settings that people write down without a search, fitted on all known rows.
- **random**: random points of our space, as many as ours tries, with our early stopping; the best on the validation
  rows is fitted on all known rows as ours is.

Of the handbook's customers half are taken, for the time it takes. Average precision is on all rows of the later days.
Intervals are bootstrapped over customers. Those of a mean over the days take the days for independent, so they don't
cover that the same customers pay in all of them, nor the seed of a search. A promise is the figure that a way has
before the later days come: for ours the rehearsal of the refit on the test rows, for searches also the value of the
point on the validation rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import _ours, _seed_recipe
from benchmarks._data import draw_points, frame
from benchmarks._later_days import DELAY, LATER_DAYS, Period, generated, periods, read_handbook
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.evaluation.bootstrap import Contender, bootstrap, compare
from mlops_assets.evaluation.intervals import Design, Interval
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.folds import earlier_folds
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.production import refit
from mlops_assets.training.search.search import run_search
from mlops_assets.training.space import Point

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIXED: Mapping[str, Point] = {
    "fixed: XGBoost's defaults": {"n_estimators": 100},
    "fixed: depth 6, 100 trees of 0.1": {"n_estimators": 100, "max_depth": 6, "learning_rate": 0.1},
    "fixed: depth 5, 300 trees of 0.05": {
        "n_estimators": 300,
        "max_depth": 5,
        "learning_rate": 0.05,
        "min_child_weight": 5,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
    },
}
OURS, RECIPE, REFITTED, RANDOM = "ours", "recipe", "recipe, refitted", "random"
BEST_FIXED = "average precision on later days, mean: ours / the best fixed setting's"
OVER_RECIPE = "the same: ours / the seed recipe's"
OVER_RANDOM = "the same: ours / random search's with early stopping"
ABOVE_RECIPE, KEPT_WITHIN = 0.03, 0.015
THREADS = SLOTS
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement: trials of each search, days, and bootstrap replicates of an interval."""

    trials: int = SearchPlan().trials
    days: int = 4
    replicates: int = 100


@dataclass(frozen=True)
class Made:
    """A way's model of one day.

    Attributes:
        scores: Of the later rows, float32 [rows].
        point: What was fitted.
        trees: With how many trees.
        promised: Average precision that was known before, by where: `validation`, `rehearsal`.
    """

    scores: Scores
    point: Point
    trees: int
    promised: Mapping[str, float] = field(default_factory=dict)


Way = Callable[["SparkSession", Period, Sizes, int], dict[str, Made]]


def measure(sessions: Sessions, known: list[Period], sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Make all models day by day, and score what followed.

    Returns:
        Ratios by label, one value per day, and the details for the report.
    """
    ways: list[Way] = [_ours_way, _recipe_way, _random_way, _fixed_way]
    days = []
    for number, period in enumerate(known):
        made: dict[str, Made] = {}
        for way in ways[:: -1 if number % 2 else 1]:
            with sessions(LOCAL) as spark:
                made |= way(spark, period, sizes, number)
        days.append(_evaluated(period, made, sizes.replicates))
        print(f"day {period.start}: " + _line(days[-1]["average_precision"]), flush=True)
    means = {name: fmean(day["average_precision"][name]["estimate"] for day in days) for name in _names(days)}
    best = max(FIXED, key=lambda name: means[name])
    ratios = {
        label: [day["average_precision"][OURS]["estimate"] / day["average_precision"][name]["estimate"] for day in days]
        for label, name in ((BEST_FIXED, best), (OVER_RECIPE, RECIPE), (OVER_RANDOM, RANDOM))
    }
    gains = {
        name: mean_interval([day["average_precision_ours_minus"][name] for day in days])
        for name in days[0]["average_precision_ours_minus"]
    }
    details = {
        "trials": sizes.trials,
        "mean_average_precision": means,
        "best_fixed": best,
        "mean_average_precision_ours_minus": gains,
        "promise_missed_by": promises(days),
        "days": days,
    }
    return ratios, details


def mean_interval(intervals: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of differences with an interval, the days taken for independent of each other."""
    estimate = fmean(each["estimate"] for each in intervals)
    half = sum(((each["high"] - each["low"]) / 2) ** 2 for each in intervals) ** 0.5 / len(intervals)
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def promises(days: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return for each promise of a way how far it was off: in the mean over the days, and on a day in the mean.

    `error` is the standard error of the mean, from how the days differ; None with one day.
    """
    found = {}
    for name in _names(days):
        for where in days[0]["promised"][name]:
            missed = [
                day["promised"][name][where] - day["average_precision"][name]["estimate"]
                for day in days
                if where in day["promised"][name]
            ]
            found[f"{name}, {where}"] = {
                "mean": fmean(missed),
                "error": stdev(missed) / len(missed) ** 0.5 if len(missed) > 1 else None,
                "mean_of_absolute": fmean(abs(each) for each in missed),
            }
    return found


def _ours_way(spark: SparkSession, period: Period, sizes: Sizes, seed: int) -> dict[str, Made]:
    plan = SearchPlan(trials=sizes.trials, parallelism=SLOTS, seed=seed)
    train, validation = period.train, period.validation
    older = earlier_folds(train, [period.gap], validation, folds=plan.folds, gap_days=DELAY)
    search = run_search(spark, train, validation, plan, lambda _: None, older=older)
    model = finish(train, validation, lambda: period.test, search, plan, EvaluationPlan(replicates=20), older)
    production = refit(lambda: period.before_test, lambda: period.mature, period.test, train.days, model, search, plan)
    promised = {"validation": float(search.best.value or 0.0), "rehearsal": production.rehearsed_average_precision}
    return {OURS: Made(predict(production.booster, period.later), search.best.point, production.trees, promised)}


def _random_way(spark: SparkSession, period: Period, sizes: Sizes, seed: int) -> dict[str, Made]:
    plan = SearchPlan(trials=sizes.trials)
    points = draw_points(plan.space, sizes.trials, seed=seed)
    search = _ours.try_points(
        spark,
        period.train,
        period.validation,
        points,
        parallelism=SLOTS,
        space=plan.space,
        early_stopping=plan,
    )
    best = max(search.trials, key=lambda trial: trial.value)
    trees = round(best.rounds * period.mature.rows / period.train.rows)
    return {RANDOM: _fitted(best.point, trees, period, seed, {"validation": best.value})}


def _fixed_way(spark: SparkSession, period: Period, sizes: Sizes, seed: int) -> dict[str, Made]:
    del spark, sizes
    return {name: _fitted(point, int(point["n_estimators"]), period, seed, {}) for name, point in FIXED.items()}


def _fitted(point: Point, trees: int, period: Period, seed: int, promised: Mapping[str, float]) -> Made:
    binned = quantized(period.mature, threads=THREADS)
    booster = fit(point, binned, seed=seed, threads=THREADS, rounds=trees)
    return Made(predict(booster, period.later), point, trees, promised)


def _recipe_way(spark: SparkSession, period: Period, sizes: Sizes, seed: int) -> dict[str, Made]:
    train, validation = period.train, period.validation
    search = _seed_recipe.search(spark, train, validation, trials=sizes.trials, threads=THREADS, seed=seed)
    made = {}
    for name, rows in ((RECIPE, train), (REFITTED, period.mature)):
        fitted = _seed_recipe.pipeline(search.best, threads=THREADS).fit(frame(rows), rows.y)
        scores = fitted.predict_proba(frame(period.later))[:, 1]
        made[name] = Made(scores, search.best, int(search.best["n_estimators"]))
    return made


def _evaluated(period: Period, made: Mapping[str, Made], replicates: int) -> dict[str, Any]:
    """Return average precision with intervals per way, and paired differences of ours to the others."""
    later = period.later
    rows = Rows(y=later.y, days=later.days, alerts_per_day=100, entities=later.entities)
    design = Design(replicates, seed=1)
    figures = {
        name: bootstrap(rows, scores=each.scores, threshold=0.5, design=design).intervals["average_precision"]
        for name, each in made.items()
    }
    gains = {
        name: compare(
            rows, candidate=Contender(made[OURS].scores, 0.5), baseline=Contender(each.scores, 0.5), design=design
        )
        .gains["average_precision"]
        .interval
        for name, each in made.items()
        if name != OURS
    }
    return {
        "start": period.start,
        "sets": {
            name: {"rows": block.rows, "frauds": block.frauds}
            for name in ("train", "validation", "test", "mature", "later")
            for block in (getattr(period, name),)
        },
        "points": {name: dict(each.point) for name, each in made.items()},
        "trees": {name: each.trees for name, each in made.items()},
        "promised": {name: dict(each.promised) for name, each in made.items()},
        "average_precision": {name: _plain(interval) for name, interval in figures.items()},
        "average_precision_ours_minus": {name: _plain(interval) for name, interval in gains.items()},
    }


def _plain(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _names(days: list[dict[str, Any]]) -> list[str]:
    return [OURS, *(name for name in sorted(days[0]["average_precision"]) if name != OURS)]


def _line(found: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(f"{name} {v['estimate']:.4f} [{v['low']:.4f}, {v['high']:.4f}]" for name, v in found.items())


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="folder that holds handbook_*.parquet; without it, generated rows")
    parser.add_argument("--histories", type=int, default=6, help="generated histories")
    parser.add_argument("--past", type=int, default=0, help="days before a generated history that its features know")
    parser.add_argument("--trials", type=int, default=Sizes.trials)
    parser.add_argument("--days", type=int, default=Sizes.days, help="days on which models are made, at most 4")
    parser.add_argument("--share", type=float, default=0.5, help="share of the customers, for the time it takes")
    given = parser.parse_args()
    if given.data is None:
        known = [generated(history, given.past) for history in range(1, given.histories + 1)]
    else:
        known = periods(read_handbook(given.data), given.days, share=given.share)
    for period in known:
        sets = {name: getattr(period, name) for name in ("train", "validation", "test", "mature", "later")}
        print(
            f"day {period.start}: " + ", ".join(f"{n} {s.rows:,} rows {s.frauds:,} frauds" for n, s in sets.items()),
            flush=True,
        )
    ratios, details = measure(fresh_session, known, Sizes(trials=given.trials, days=len(known)))
    report("quality", ratios=ratios, details=details)
    means, gains = details["mean_average_precision"], details["mean_average_precision_ours_minus"]
    print(f"{OURS}: average precision {means[OURS]:.4f} in the mean over the days of {LATER_DAYS} days each")
    for name, gain in gains.items():
        ends = f"[{gain['low']:+.4f}, {gain['high']:+.4f}]"
        print(f"{name}: {means[name]:.4f}; ours - it: {gain['estimate']:+.4f} {ends}")
    for name, missed in details["promise_missed_by"].items():
        error = "" if missed["error"] is None else f" (standard error {missed['error']:.4f})"
        print(f"promise of {name}: {missed['mean']:+.4f} in the mean{error}, {missed['mean_of_absolute']:.4f} on a day")
    print(f"at least the best fixed setting's: {gains[details['best_fixed']]['estimate'] >= 0}")
    print(f"at least {ABOVE_RECIPE:g} above the recipe's: {gains[RECIPE]['estimate'] >= ABOVE_RECIPE}")
    missed = details["promise_missed_by"][f"{OURS}, rehearsal"]
    print(f"the rehearsal's promise kept within {KEPT_WITHIN:g} in the mean: {abs(missed['mean']) <= KEPT_WITHIN}")
    if missed["error"] is None or missed["error"] > KEPT_WITHIN / 2:
        print("so few days can't tell: the standard error of that mean is more than half of it")


if __name__ == "__main__":
    main()
