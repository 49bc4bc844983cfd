"""How much of the slots' time is training: measured on two slots, simulated for larger clusters.

Measured: CPU time of the trials / (slots x wall time of the search), on `local[2]` and on a `local-cluster` of two
executors, where the data and the results cross process boundaries. TPE proposes, and every trial runs to its end.
Binning, once per worker, is part of its first trial; the figure without it is reported too. Starting the Python
workers, imports, distribution of the data, proposals, dispatch and the tail of the search count as overhead. A search
with the platform's defaults, whose trials are shorter because they are pruned and stopped early, is measured once as
well.

Simulated: the seed project's clusters, from the dispatch, distribution and trial lengths measured in this run, next to
the figures that the project publishes (100 evaluations: 5133 s on 1 worker, 585 s on 14). There are two questions:
- The seed's trials are long (51 s on a worker of 8 cores). What would its search lose with our dispatch and
  distribution? Slots are workers, as in the seed. And how much of their time is in trials that count, if slots that are
  idle at the end try further points (`use_idle_slots`)?
- Ours are short. How many workers does a search of such trials keep busy, and how long must trials be to fill 14?
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import fmin, tpe

from benchmarks import _ours
from benchmarks._data import SEED_TRAIN_ROWS, SEED_TRIALS, scaled_text, ulb_shaped
from benchmarks._meters import Probe
from benchmarks._report import report
from benchmarks._sessions import LOCAL, SLOTS, Sessions, fresh_session
from benchmarks._simulation import (
    CORES,
    SEED_SECONDS,
    TRIALS_PER_SLOT,
    WORKERS,
    Costs,
    bend,
    chart,
    efficiency,
    mean_wall_seconds,
    seed_efficiency,
    stretched,
    useful_share,
    wall_seconds,
)
from mlops_assets.settings import Settings
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.proposals import point_of, to_hyperopt
from mlops_assets.training.search.search import EXTRA_LENGTH, run_search
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.space import search_space

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.training.matrix import Matrix

TARGET = 0.90
CLUSTER = f"local-cluster[{SLOTS},1,1024]"
SIMULATED_AT = 14
ON_LOCAL = f"parallel efficiency, trial CPU time / (slots x wall), {LOCAL}"
ON_CLUSTER = f"the same on {CLUSTER}"
WITH_DEFAULTS = f"the same with early stopping and pruning, {LOCAL}, time in trials instead of CPU time"
SIMULATED = f"the same, simulated on {SIMULATED_AT} workers with 100 trials as long as the seed's"
USEFUL_TARGET = 0.95
USEFUL = f"time in trials that count, simulated on {SIMULATED_AT} workers, if idle slots try further points at the end"


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        rows: Training rows.
        trials: Trials of a search.
        rounds: Searches per master.
        idle_trials: Trials that do nothing, to measure the dispatch.
        masters: Where it is measured; the first also feeds the simulation.
    """

    rows: int = SEED_TRAIN_ROWS
    trials: int = SEED_TRIALS
    rounds: int = 2
    idle_trials: int = SEED_TRIALS
    masters: tuple[str, ...] = (LOCAL, CLUSTER)


def measure(sessions: Sessions, sizes: Sizes) -> tuple[dict[str, list[float]], dict[str, Any], bytes]:
    """Measure the masters in turn, then simulate.

    Returns:
        Ratios by label, one value per round, the details for the report, and the chart (PNG).
    """
    data = ulb_shaped(sizes.rows)
    with sessions(sizes.masters[0]) as spark:
        costs, binning_seconds = _costs(spark, data, sizes.idle_trials)
    print(f"{costs}, binning {binning_seconds:.2f} s", flush=True)
    searches: dict[str, list[_ours.MeteredSearch]] = {master: [] for master in sizes.masters}
    for number in range(sizes.rounds):
        for master in sizes.masters[:: -1 if number % 2 else 1]:
            with sessions(master) as spark:
                search = _ours.search_to_the_end(spark, *data, trials=sizes.trials, parallelism=SLOTS)
            searches[master].append(search)
            print(f"round {number}: {master}: {_busy(search):.3f} of {search.seconds:.1f} s", flush=True)
    with sessions(sizes.masters[0]) as spark:
        plan = SearchPlan(space=search_space("seed"), trials=sizes.trials, parallelism=SLOTS)
        usual = run_search(spark, *data, plan, lambda _: None)
    usual_trials = sum(trial.seconds for trial in usual.trials)
    first = searches[sizes.masters[0]]
    lengths = _lengths(first[-1], binning_seconds)
    simulated = _simulate(lengths, costs, binning_seconds)
    labels = dict(zip((LOCAL, CLUSTER), (ON_LOCAL, ON_CLUSTER), strict=True))
    ratios = {labels[master]: [_busy(search) for search in each] for master, each in searches.items()}
    ratios[WITH_DEFAULTS] = [usual_trials / (SLOTS * usual.seconds)]
    ratios[SIMULATED] = [simulated["seed_like"][SIMULATED_AT]["busy"]]
    ratios[USEFUL] = [simulated["seed_like_useful"][SIMULATED_AT]]
    details = {
        "target": TARGET,
        "rows": sizes.rows,
        "trials": sizes.trials,
        "wall_seconds": {master: [search.seconds for search in each] for master, each in searches.items()},
        "without_binning": {
            master: [_busy(search, len({trial.worker for trial in search.trials}) * binning_seconds) for search in each]
            for master, each in searches.items()
        },
        "trial_cpu_over_trial_wall": {
            master: [_total(search) / sum(trial.seconds for trial in search.trials) for search in each]
            for master, each in searches.items()
        },
        "with_defaults": {
            "wall_seconds": usual.seconds,
            "mean_trial_seconds": usual_trials / len(usual.trials),
            "pruned": sum(trial.state == "pruned" for trial in usual.trials),
        },
        "costs": asdict(costs),
        "binning_seconds": binning_seconds,
        "trial_seconds": lengths,
        "simulation_of_this_machine": {
            "simulated_wall_seconds": wall_seconds(lengths, SLOTS, _with_binning(costs, binning_seconds)),
            "measured_wall_seconds": first[-1].seconds,
        },
        "simulated": simulated,
    }
    return ratios, details, _picture(simulated)


def _busy(search: _ours.MeteredSearch, left_out_seconds: float = 0.0) -> float:
    return (_total(search) - left_out_seconds) / (SLOTS * search.seconds)


def _total(search: _ours.MeteredSearch) -> float:
    return sum(trial.cpu_seconds for trial in search.trials)


def _lengths(search: _ours.MeteredSearch, binning_seconds: float) -> list[float]:
    """Return the trials' lengths in the order of proposal; those of a worker's first trial without the binning."""
    seen: set[int] = set()
    lengths: dict[int, float] = {}
    for trial in search.trials:
        lengths[trial.number] = trial.seconds - (0.0 if trial.worker in seen else binning_seconds)
        seen.add(trial.worker)
    return [max(lengths[number], 0.01) for number in sorted(lengths)]


def _costs(spark: SparkSession, data: tuple[Matrix, Matrix], idle_trials: int) -> tuple[Costs, float]:
    """Measure what a search costs in addition to its trials, on a session without Python workers, and the binning."""
    started = time.perf_counter()
    with _ours.broadcast(spark, *data) as sent:
        serialized = time.perf_counter() - started
        started = time.perf_counter()
        binning = max(spark.sparkContext.parallelize(range(SLOTS), SLOTS).map(Probe(sent)).collect())
        first = time.perf_counter() - started - binning
    _idle_search(spark, 2)  # the workers import what a trial needs
    wall, cpu = _idle_search(spark, idle_trials)
    return Costs(serialized, cpu, max(0.0, wall - cpu), first), binning


def _idle_search(spark: SparkSession, trials: int) -> tuple[float, float]:
    """Return wall time, and the driver's CPU time, per trial of a search with one slot whose trials do nothing."""
    space = search_space("seed")
    wall, cpu = time.perf_counter(), time.process_time()
    fmin(
        _nothing,
        to_hyperopt(space),
        algo=partial(tpe.suggest, n_startup_jobs=max(1, min(20, trials // 4))),
        max_evals=trials,
        trials=EventDrivenSparkTrials(spark, 1, partial(point_of, space), lambda _: None),
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
    )
    return (time.perf_counter() - wall) / trials, (time.process_time() - cpu) / trials


def _nothing(point: Any) -> dict[str, Any]:
    return {"status": "ok", "loss": float(point["learning_rate"]), "seconds": 0.0}


def _with_binning(costs: Costs, binning_seconds: float) -> Costs:
    return Costs(**{**asdict(costs), "first_trial_seconds": costs.first_trial_seconds + binning_seconds})


def _simulate(lengths: list[float], costs: Costs, binning_seconds: float) -> dict[str, Any]:
    """Return simulated efficiencies by scenario and number of workers, and where they bend."""
    paid = _with_binning(costs, binning_seconds)
    free = Costs(0.0, 0.0, 0.0, 0.0)
    seed_like = stretched(lengths, SEED_TRIALS, SEED_SECONDS[1] / SEED_TRIALS)
    many = stretched(lengths, 10 * SEED_TRIALS, fmean(lengths))
    return {
        "seed_published": {workers: seed_efficiency(workers) for workers in WORKERS},
        "seed_like": {workers: _at(seed_like, workers, workers, paid) for workers in WORKERS},
        "seed_like_without_any_cost": {workers: _at(seed_like, workers, workers, free) for workers in WORKERS},
        "seed_like_useful": {workers: useful_share(seed_like, workers, paid, EXTRA_LENGTH) for workers in WORKERS},
        "our_trials_100": {workers: _on_cores(lengths[:SEED_TRIALS], workers, paid) for workers in WORKERS},
        "our_trials_1000": {workers: _on_cores(many, workers, paid) for workers in WORKERS},
        "our_mean_trial_seconds": fmean(lengths),
        # Mean length from which trials fill 14 or 112 slots; None if no length does.
        "bend_mean_trial_seconds": {
            f"{trials}_trials_on_{slots}_slots": _finite(bend(lengths, trials, slots, paid, TARGET))
            for trials, slots in ((100, SIMULATED_AT), (1000, SIMULATED_AT), (1000, SIMULATED_AT * CORES))
        },
        # The last trials leave slots idle, whatever the overhead of a trial: how many trials are needed?
        "bend_trials": {workers: _trials_that_fill(lengths, workers, paid) for workers in WORKERS[1:]},
    }


def _trials_that_fill(lengths: list[float], workers: int, costs: Costs) -> int | None:
    """Return how many trials as long as the seed's keep that many workers busy; None if more than 2,000."""
    for trials in range(10, 2001, 10):
        if efficiency(stretched(lengths, trials, SEED_SECONDS[1] / SEED_TRIALS), workers, costs) >= TARGET:
            return trials
    return None


def _at(trials: list[float], workers: int, slots: int, costs: Costs) -> dict[str, float]:
    seconds = mean_wall_seconds(trials, slots, costs)
    return {"seconds": seconds, "busy": sum(trials) / (slots * seconds), "slots": slots, "workers": workers}


def _on_cores(trials: list[float], workers: int, costs: Costs) -> dict[str, float]:
    """Use one-core slots, as many as the cluster has and the number of trials allows; idle cores count as lost."""
    slots = min(workers * CORES, max(1, len(trials) // TRIALS_PER_SLOT))
    point = _at(trials, workers, slots, costs)
    return {**point, "busy": point["busy"] * slots / (workers * CORES)}


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds


def _picture(simulated: dict[str, Any]) -> bytes:
    published = {workers: value for workers, value in simulated["seed_published"].items() if value is not None}
    ours = {workers: point["busy"] for workers, point in simulated["seed_like"].items()}
    bound = {workers: point["busy"] for workers, point in simulated["seed_like_without_any_cost"].items()}
    short = {workers: point["busy"] for workers, point in simulated["our_trials_1000"].items()}
    mean = simulated["our_mean_trial_seconds"]
    return chart(
        {
            "the seed, as published": published,
            "its 100 trials, our dispatch": ours,
            "its 100 trials, if nothing else took time": bound,
            "1,000 of our trials": short,
        },
        "Simulated parallel efficiency of a search",
        f"the seed's 100 trials take 51 s on a worker each, ours {mean:.1f} s on a core",
    )


def _print_simulation(simulated: dict[str, Any]) -> None:
    print("workers  seed published   its trials, ours   no cost at all   100 of our trials   1,000 of our trials")
    for workers in WORKERS:
        published = simulated["seed_published"][workers]
        cells = [simulated[name][workers]["busy"] for name in _SCENARIOS]
        print(f"{workers:7d}  {'-' if published is None else f'{published:.2f}':>14}  " + _cells(cells))
    bends = {
        limits: "no length" if seconds is None else f"{seconds:.1f} s"
        for limits, seconds in simulated["bend_mean_trial_seconds"].items()
    }
    print(f"mean trial length from which efficiency is {TARGET:.2f}: {bends}")
    print(f"trials as long as the seed's from which it is, by workers: {simulated['bend_trials']}")


_SCENARIOS = ("seed_like", "seed_like_without_any_cost", "our_trials_100", "our_trials_1000")


def _cells(values: list[float]) -> str:
    return "".join(f"{value:17.2f}" for value in values)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=Sizes.rows)
    parser.add_argument("--trials", type=int, default=Sizes.trials)
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    sizes = Sizes(**vars(parser.parse_args()))
    print(f"{scaled_text(sizes.rows)}; {sizes.trials} of the seed's {SEED_TRIALS} trials", flush=True)
    ratios, details, picture = measure(fresh_session, sizes)
    _print_simulation(details["simulated"])
    report("parallel_efficiency", ratios=ratios, details=details)
    (Settings.from_environment().home / "bench" / "parallel_efficiency.png").write_bytes(picture)
    for label, values in ratios.items():
        target = USEFUL_TARGET if label == USEFUL else TARGET
        print(f"at least {target:.2f}: {median(values) >= target}, {label}")


if __name__ == "__main__":
    main()
