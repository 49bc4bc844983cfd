"""Is the model as good? Ours against the seed recipe's and random search's on the Fraud Detection Handbook's data.

The data are not in the project: `make bench NAME=quality ARGS="--data FOLDER"` with the folder that holds
`handbook_2018-04.parquet` and `handbook_2018-05.parquet`. Nothing here or in the platform was tuned on them.

Rows are cut in order of time, the same for all: the last 10 days of May are the test set, scored once per model after
everything is chosen; the days before them are cut into training rows and 7 validation days. Before each cut the
contract's label delay (`label_delay_days`, 7 days for these data) is left out, because its labels would not have been
known. The recipe tunes on the validation rows, which favours it over its own way, a random split. All fit on the
training rows only.

All searches have the same space and number of trials. The recipe maximizes kappa at 0.5; its best point is decoded
correctly. Random search maximizes validation average precision, as ours does, and runs each trial to its end. Brier
score and average precision use the scores as they are. Kappa is taken at the threshold that is best on the validation
rows, for all three, and for the recipe also at its own 0.5.

Rounds differ in the seed of the proposals. Intervals are bootstrapped over the customers of the test rows; they
don't cover that seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import _ours, _seed_recipe
from benchmarks._data import draw_points, frame
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SourceError
from mlops_assets.evaluation.bootstrap import Contender, bootstrap, compare
from mlops_assets.evaluation.intervals import Design
from mlops_assets.evaluation.scorer import Rows
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.matrix import Matrix, to_matrix
from mlops_assets.training.objective import fit, predict, quantized
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets.training.space import Point, search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TEST_DAYS = 10
VALIDATION_DAYS = 7
AP_OVER_RECIPE = "average precision on the test days: ours / the seed recipe's"
AP_OVER_RANDOM = "the same: ours / random search's at the same budget"
KAPPA_OVER_RECIPE = "kappa on the test days, threshold from the validation days: ours / the seed recipe's"
KAPPA_OVER_RECIPE_AT_HALF = "the same: ours / the seed recipe's at its own 0.5"
BRIER_OVER_OURS = "Brier score on the test days: the seed recipe's / ours"
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement: trials of each search, rounds, and bootstrap replicates of an interval."""

    trials: int = 30
    rounds: int = 3
    replicates: int = 500


@dataclass(frozen=True)
class Cut:
    """The three sets."""

    train: Matrix
    validation: Matrix
    test: Matrix


@dataclass(frozen=True)
class Scored:
    """Scores of a fitted model on validation and test rows."""

    validation: Scores
    test: Scores


def read_handbook(folder: Path) -> pa.Table:
    """Read the months that are in the folder.

    Raises:
        SourceError: There is no such file.
    """
    files = sorted(folder.glob("handbook_*.parquet"))
    if not files:
        raise SourceError(
            "no handbook_*.parquet",
            where=str(folder),
            fix='name their folder: make bench NAME=quality ARGS="--data FOLDER"',
        )
    table = pa.concat_tables([pq.read_table(file) for file in files])
    return table.rename_columns([name.lower() for name in table.column_names])


def cut(table: pa.Table) -> Cut:
    """Cut the handbook's rows in order of time, the label delay left out before each cut."""
    contract = load_contract("handbook")
    delay = contract.label_delay_days
    # Rows with equal times keep the file's order; the platform's tables hold it in these two columns.
    table = table.append_column(BATCH_ID, pa.array(np.zeros(table.num_rows, dtype=np.int64)))
    table = table.append_column(ROW_NUMBER, pa.array(np.arange(table.num_rows)))
    rows = to_matrix(table, contract)
    test_from = int(rows.days.max()) + 1 - TEST_DAYS
    validation_from = test_from - delay - VALIDATION_DAYS
    return Cut(
        train=_between(rows, None, validation_from - delay),
        validation=_between(rows, validation_from, test_from - delay),
        test=_between(rows, test_from, None),
    )


def measure(sessions: Sessions, sets: Cut, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Search, fit and evaluate in all three ways, round by round.

    Returns:
        Ratios by label, one value per round, and the details for the report.
    """
    ways = {"ours": _ours_way, "recipe": _recipe_way, "random": _random_way}
    rounds: list[dict[str, Any]] = []
    for number in range(sizes.rounds):
        scored: dict[str, Scored] = {}
        points: dict[str, Any] = {}
        for name in list(ways)[:: -1 if number % 2 else 1]:
            with sessions(LOCAL) as spark:
                points[name], scored[name] = ways[name](spark, sets, sizes, number)
        rounds.append({"seed": number, "points": points, **_evaluate(sets, scored, sizes.replicates)})
        print(f"round {number}: " + _summary(rounds[-1]["metrics"]), flush=True)
    ratios = {
        AP_OVER_RECIPE: _ratios(rounds, "average_precision", "ours", "recipe"),
        AP_OVER_RANDOM: _ratios(rounds, "average_precision", "ours", "random"),
        KAPPA_OVER_RECIPE: _ratios(rounds, "kappa", "ours", "recipe"),
        KAPPA_OVER_RECIPE_AT_HALF: [
            each["metrics"]["ours"]["kappa"]["estimate"] / each["metrics"]["recipe"]["kappa_at_half"]["estimate"]
            for each in rounds
        ],
        BRIER_OVER_OURS: _ratios(rounds, "brier", "recipe", "ours"),
    }
    blocks = {name: getattr(sets, name) for name in ("train", "validation", "test")}
    details = {
        "trials": sizes.trials,
        "sets": {name: {"rows": block.rows, "frauds": block.frauds} for name, block in blocks.items()},
        "rounds": rounds,
    }
    return ratios, details


def best_kappa_threshold(y: npt.NDArray[np.uint8], scores: Scores) -> float:
    """Return the threshold with the largest kappa; among equals the highest."""
    order = np.argsort(-scores, kind="stable")
    falling, fraud = scores[order].astype(np.float64), y[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    caught, alerts = np.cumsum(fraud)[last], last + 1.0
    rows, frauds = float(len(y)), float(fraud.sum())
    by_chance = (alerts * (rows - frauds) + (rows - alerts) * frauds) / rows
    return float(falling[last[np.argmax(1 - (alerts + frauds - 2 * caught) / by_chance)]])


def _ours_way(spark: SparkSession, sets: Cut, sizes: Sizes, seed: int) -> tuple[Point, Scored]:
    plan = SearchPlan(space=search_space("seed"), trials=sizes.trials, parallelism=SLOTS, seed=seed)
    search = run_search(spark, sets.train, sets.validation, plan, lambda _: None)
    model = finish(sets.train, sets.validation, lambda: sets.test, search, plan, EvaluationPlan(replicates=20))
    return search.best.point, Scored(predict(model.booster, sets.validation), model.test_scores)


def _random_way(spark: SparkSession, sets: Cut, sizes: Sizes, seed: int) -> tuple[Point, Scored]:
    points = draw_points(search_space("seed"), sizes.trials, seed=seed)
    search = _ours.try_points(spark, sets.train, sets.validation, points, parallelism=SLOTS)
    best = max(search.trials, key=lambda trial: trial.value).point
    booster = fit(best, quantized(sets.train, threads=SLOTS), seed=seed, threads=SLOTS)
    return best, Scored(predict(booster, sets.validation), predict(booster, sets.test))


def _recipe_way(spark: SparkSession, sets: Cut, sizes: Sizes, seed: int) -> tuple[Point, Scored]:
    search = _seed_recipe.search(spark, sets.train, sets.validation, trials=sizes.trials, threads=SLOTS, seed=seed)
    fitted = _seed_recipe.pipeline(search.best, threads=SLOTS).fit(frame(sets.train), sets.train.y)
    validation, test = (fitted.predict_proba(frame(rows))[:, 1] for rows in (sets.validation, sets.test))
    return search.best, Scored(validation, test)


def _evaluate(sets: Cut, scored: Mapping[str, Scored], replicates: int) -> dict[str, Any]:
    """Return metrics with intervals per way, and paired differences in average precision of ours to the others."""
    metrics = {}
    for name, scores in scored.items():
        threshold = best_kappa_threshold(sets.validation.y, scores.validation)
        metrics[name] = {"threshold": threshold, **_intervals(sets.test, scores.test, threshold, replicates)}
    at_half = _intervals(sets.test, scored["recipe"].test, _seed_recipe.ALERT_FROM, replicates)
    metrics["recipe"]["kappa_at_half"] = at_half["kappa"]
    contenders = {name: Contender(scores.test, metrics[name]["threshold"]) for name, scores in scored.items()}
    rows, design = _rows(sets.test), Design(replicates, seed=1)
    differences = {
        name: compare(rows, candidate=contenders["ours"], baseline=contenders[name], design=design)
        .gains["average_precision"]
        .interval
        for name in ("recipe", "random")
    }
    return {
        "metrics": metrics,
        "average_precision_ours_minus": {
            name: {"estimate": difference.estimate, "low": difference.low, "high": difference.high}
            for name, difference in differences.items()
        },
    }


def _intervals(test: Matrix, scores: Scores, threshold: float, replicates: int) -> dict[str, Any]:
    design = Design(replicates, seed=1)
    intervals = bootstrap(_rows(test), scores=scores, threshold=threshold, design=design).intervals
    return {
        name: {"estimate": intervals[name].estimate, "low": intervals[name].low, "high": intervals[name].high}
        for name in ("average_precision", "kappa", "brier")
    }


def _rows(test: Matrix) -> Rows:
    return Rows(y=test.y, days=test.days, alerts_per_day=100, entities=test.entities)


def _ratios(rounds: list[dict[str, Any]], metric: str, one: str, other: str) -> list[float]:
    return [each["metrics"][one][metric]["estimate"] / each["metrics"][other][metric]["estimate"] for each in rounds]


def _between(rows: Matrix, start: float | None, end: float | None) -> Matrix:
    inside = np.ones(rows.rows, dtype=bool)
    if start is not None:
        inside &= rows.days >= start
    if end is not None:
        inside &= rows.days < end
    return rows.where(inside)


def _summary(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{name}: "
        + ", ".join(
            f"{metric} {interval['estimate']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"
            for metric, interval in values.items()
            if metric != "threshold"
        )
        for name, values in metrics.items()
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds handbook_*.parquet")
    parser.add_argument("--trials", type=int, default=Sizes.trials)
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    given = parser.parse_args()
    sets = cut(read_handbook(given.data))
    for name in ("train", "validation", "test"):
        block: Matrix = getattr(sets, name)
        print(f"{name}: {block.rows:,} rows, {block.frauds:,} frauds", flush=True)
    ratios, details = measure(fresh_session, sets, Sizes(trials=given.trials, rounds=given.rounds))
    report("quality", ratios=ratios, details=details)
    for number, each in enumerate(details["rounds"]):
        for name, difference in each["average_precision_ours_minus"].items():
            ends = f"[{difference['low']:+.4f}, {difference['high']:+.4f}]"
            print(f"round {number}: average precision, ours - {name}: {difference['estimate']:+.4f} {ends}")


if __name__ == "__main__":
    main()
