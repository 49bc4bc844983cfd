"""What a trial that does nothing costs: hyperopt's stock SparkTrials against the platform's dispatcher.

Both run the same no-op objective under TPE in the same Spark session, in turn, at the same parallelism. The stock
dispatcher's floor is its one-second sleeps and a new Python worker per trial; ours is a Spark job.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hyperopt import SparkTrials, fmin, tpe
from hyperopt.base import JOB_STATE_DONE

from benchmarks._report import report
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets.training.search.proposals import point_of, to_hyperopt
from mlops_assets.training.search.spark_trials import EventDrivenSparkTrials
from mlops_assets.training.space import search_space

ROUNDS = 3
TRIALS = 12
PARALLELISM = 2
WANTED_SECONDS = 0.15
SPACE = search_space("seed")


def nothing(_: Any) -> dict[str, Any]:
    """Run a trial that costs nothing."""
    return {"status": "ok", "loss": 0.5}


def seconds_per_trial(trials: Any) -> float:
    """Run one search and return its wall time per trial and slot."""
    started = time.perf_counter()
    fmin(
        nothing,
        to_hyperopt(SPACE),
        algo=partial(tpe.suggest, n_startup_jobs=5),
        max_evals=TRIALS,
        trials=trials,
        rstate=np.random.default_rng(1),
        show_progressbar=False,
        return_argmin=False,
        verbose=False,
    )
    done = sum(trial["state"] == JOB_STATE_DONE for trial in trials._dynamic_trials)  # noqa: SLF001 - to be sure
    if done != TRIALS:
        raise RuntimeError(f"{done} of {TRIALS} trials finished")
    return (time.perf_counter() - started) * PARALLELISM / TRIALS


def main() -> None:
    """Measure in turn, and report stock over ours."""
    logging.getLogger("hyperopt-spark").setLevel(logging.ERROR)
    settings = Settings.from_environment()
    spark = SparkResource(
        home=str(Path(settings.home)), master=f"local[{PARALLELISM}]", java_home=settings.java_home
    ).session
    stock: list[float] = []
    ours: list[float] = []
    for number in range(-1, ROUNDS):  # round -1 warms up and is not counted
        stock_seconds = seconds_per_trial(SparkTrials(parallelism=PARALLELISM, spark_session=spark))
        our_seconds = seconds_per_trial(
            EventDrivenSparkTrials(spark, PARALLELISM, partial(point_of, SPACE), lambda _: None)
        )
        print(f"round {number}: stock {stock_seconds:.2f} s, ours {our_seconds:.3f} s per trial and slot", flush=True)
        if number >= 0:
            stock.append(stock_seconds)
            ours.append(our_seconds)
    report(
        "dispatch_floor",
        ratios={"less time per no-op trial than stock SparkTrials": [a / b for a, b in zip(stock, ours, strict=True)]},
        details={"stock_seconds_per_trial_and_slot": stock, "ours_seconds_per_trial_and_slot": ours, "trials": TRIALS},
    )
    print(f"ours at most {WANTED_SECONDS:g} s per trial and slot in each round: {max(ours) <= WANTED_SECONDS}")


if __name__ == "__main__":
    main()
