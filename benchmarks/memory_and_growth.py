"""What more rows and more trials cost: peak memory of a worker, and growth of wall time.

- Memory: the peak resident size of a Python worker during a search, minus its size before it touched the data
  (interpreter and libraries), against the size of the training rows as float32. On one machine the rows are
  memory-mapped files, whose pages count for each worker although all share them. Broadcasting them, as on a cluster,
  and the seed recipe's worker are measured once as well.
- Rows: the same points on x1, x4 and x16 rows. Growth is (wall of x16 / wall of x1) / 16: 1 is linear, below 1 is due
  to fixed costs.
- Trials: searches of 25, 100 and 400 trials with TPE, on fewer rows so that the driver's own cost is visible; trees and
  depth are fixed, so that all trials are equal work. In the whole space TPE moves to cheaper or more expensive points,
  so the growth there is reported separately. The overhead per trial, (slots x wall - time in trials) / trials, is
  reported as well.

Sizes that need more memory than is free are skipped with a message.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _ours, _seed_recipe
from benchmarks._data import SEED_TRAIN_ROWS, draw_points, scaled_text, ulb_shaped
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from mlops_assets.training.space import SearchSpace, search_space

# Near linear or better: the loss by CPU caches between a small and a large matrix is within this.
TARGET = 1.25
MEMORY = "peak memory of a worker beyond its libraries / training rows as float32"
MEMORY_BROADCAST = "the same with the rows broadcast, as on a cluster"
MEMORY_WHOLE = "the same with its libraries"
MEMORY_RECIPE = "peak memory of the seed recipe's worker beyond its libraries / ours with the rows broadcast"
ROWS_GROWTH = "growth of wall time with rows, against linear"
TRIALS_GROWTH = "growth of wall time with trials, against linear"
SEARCH_GROWTH = "the same in the whole space, where TPE's trials become longer or shorter"
EQUAL_WORK = search_space("seed", {"max_depth": {"low": 6, "high": 6}, "n_estimators": {"low": 150, "high": 150}})
# Generating rows takes the most memory: 30 columns of doubles, a few copies of them, then the workers' own.
_BYTES_PER_ROW = 30 * 8 * 5
_HARDLY_ANY_ROWS = 1_000


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        rows: Training rows of x1.
        row_factors: The factors, rising, 1 first.
        points: Points tried on each.
        trials: Numbers of trials, rising.
        trials_rows: Training rows of the searches of many trials.
    """

    rows: int = SEED_TRAIN_ROWS
    row_factors: tuple[int, ...] = (1, 4, 16)
    points: int = 8
    trials: tuple[int, ...] = (25, 100, 400)
    trials_rows: int = SEED_TRAIN_ROWS // 8


def measure(sessions: Sessions, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure all.

    Returns:
        Ratios by label, one value per measurement, and the details for the report.
    """
    left_out = [factor for factor in sizes.row_factors if not _fits(sizes.rows * factor)]
    by_rows = [_at_rows(sessions, sizes, sizes.rows * factor) for factor in sizes.row_factors if factor not in left_out]
    recipe_bytes = _recipe_memory(sessions, sizes)
    as_on_a_cluster = _at_rows(sessions, sizes, sizes.rows, as_on_a_cluster=True)
    by_trials = [_at_trials(sessions, sizes, trials, EQUAL_WORK) for trials in sizes.trials]
    searching = [_at_trials(sessions, sizes, trials, search_space("seed")) for trials in sizes.trials]
    ratios = {
        MEMORY: [size["peak_bytes"] / size["matrix_bytes"] for size in by_rows],
        MEMORY_BROADCAST: [as_on_a_cluster["peak_bytes"] / as_on_a_cluster["matrix_bytes"]],
        MEMORY_WHOLE: [size["peak_bytes_with_libraries"] / size["matrix_bytes"] for size in by_rows],
        MEMORY_RECIPE: [recipe_bytes / as_on_a_cluster["peak_bytes"]],
        ROWS_GROWTH: _growths(by_rows, "rows"),
        TRIALS_GROWTH: _growths(by_trials, "trials"),
        SEARCH_GROWTH: _growths(searching, "trials"),
    }
    details = {
        "target_growth": TARGET,
        "by_rows": by_rows,
        "row_factors_left_out_for_memory": left_out,
        "broadcast": as_on_a_cluster,
        "recipe_peak_bytes": recipe_bytes,
        "by_trials": by_trials,
        "by_trials_in_the_whole_space": searching,
    }
    return {label: values for label, values in ratios.items() if values}, details


def _growths(measured: list[dict[str, Any]], by: str) -> list[float]:
    """Return the growth of each larger measurement over the smallest, relative to linear."""
    least = measured[0]
    return [(larger["wall_seconds"] / least["wall_seconds"]) / (larger[by] / least[by]) for larger in measured[1:]]


def _at_rows(sessions: Sessions, sizes: Sizes, rows: int, *, as_on_a_cluster: bool = False) -> dict[str, Any]:
    train, validation = ulb_shaped(rows)
    points = draw_points(search_space("seed"), sizes.points, seed=3)
    with sessions(LOCAL) as spark:
        search = _ours.try_points(spark, train, validation, points, parallelism=SLOTS, as_on_a_cluster=as_on_a_cluster)
    print(f"{train.rows:,} rows: {search.seconds:.1f} s", flush=True)
    return {
        "rows": train.rows,
        "wall_seconds": search.seconds,
        "trial_cpu_seconds": sum(trial.cpu_seconds for trial in search.trials),
        "matrix_bytes": train.X.nbytes,
        "peak_bytes": max(trial.peak_bytes - trial.base_bytes for trial in search.trials),
        "peak_bytes_with_libraries": max(trial.peak_bytes for trial in search.trials),
    }


def _at_trials(sessions: Sessions, sizes: Sizes, trials: int, space: SearchSpace) -> dict[str, Any]:
    train, validation = ulb_shaped(sizes.trials_rows)
    with sessions(LOCAL) as spark:
        search = _ours.search_to_the_end(spark, train, validation, trials=trials, parallelism=SLOTS, space=space)
    in_trials = sum(trial.seconds for trial in search.trials)
    kind = "of equal work" if space == EQUAL_WORK else "in the whole space"
    print(f"{trials} trials {kind}: {search.seconds:.1f} s", flush=True)
    return {
        "trials": trials,
        "rows": train.rows,
        "wall_seconds": search.seconds,
        "mean_trial_seconds": in_trials / trials,
        "seconds_beside_trials_per_trial_and_slot": (SLOTS * search.seconds - in_trials) / trials,
    }


def _recipe_memory(sessions: Sessions, sizes: Sizes) -> int:
    """Return the peak of the recipe's worker beyond its libraries, in bytes; each of its trials gets a new worker."""
    points = draw_points(search_space("seed"), sizes.points, seed=3)[:1]
    peaks = []
    for rows in (sizes.rows, _HARDLY_ANY_ROWS):
        train, test = ulb_shaped(rows)
        with sessions(LOCAL) as spark:
            search = _seed_recipe.search(spark, train, test, trials=1, threads=SLOTS, points=points)
        peaks.append(search.trials[0].peak_bytes)
    return peaks[0] - peaks[1]


def _fits(rows: int) -> bool:
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    return rows * _BYTES_PER_ROW < int(meminfo["MemAvailable"].split()[0]) * 1024


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=Sizes.rows, help="training rows of x1")
    parser.add_argument("--trials", type=int, nargs="+", default=Sizes.trials)
    given = parser.parse_args()
    sizes = Sizes(rows=given.rows, trials_rows=given.rows // 8, trials=tuple(given.trials))
    print(f"x1 is {scaled_text(sizes.rows)}; many trials on {scaled_text(sizes.trials_rows)}", flush=True)
    ratios, details = measure(fresh_session, sizes)
    report("memory_and_growth", ratios=ratios, details=details)
    if details["row_factors_left_out_for_memory"]:
        print(f"skipped, not enough memory: x{details['row_factors_left_out_for_memory']}")
    for search in details["by_trials"]:
        beside = search["seconds_beside_trials_per_trial_and_slot"]
        print(f"{search['trials']} trials: {beside:.3f} s per trial and slot in addition to the trial itself")
    for label in (ROWS_GROWTH, TRIALS_GROWTH):
        print(f"at most {TARGET:g} times linear: {max(ratios.get(label, [0.0])) <= TARGET}, {label}")


if __name__ == "__main__":
    main()
