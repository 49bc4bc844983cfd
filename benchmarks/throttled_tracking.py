"""What a throttling MLflow server costs a search.

The same search runs against the same MLflow server, alternately with and without a proxy in front of it that answers
three requests in ten with 429 and `Retry-After: 1`. Time runs from the first trial's start until the last trial is
written; after each search all its trials must be in the server's own store. Points differ only in the learning rate and
nothing is pruned, so that all searches are equal work.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from benchmarks._report import report
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.lineage import PARENT_TAG
from mlops_assets.resources.spark import SparkResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.training.matrix import Matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets.training.search.trial_writer import TrialWriter
from mlops_assets.training.space import search_space
from mlops_assets_tests.mlflow_server import Door, door_before, running_server

ROUNDS = 3
PARALLELISM = 2
TRIALS = 100
ROWS = 60_000
THROTTLED_SHARE = 0.3
PLAN = SearchPlan(
    space=search_space(
        "seed",
        {
            "max_depth": {"low": 6, "high": 6},
            "n_estimators": {"low": 150, "high": 150},
            "reg_alpha": {"low": 0.05, "high": 0.05},
            "base_score": {"low": 0.01, "high": 0.01},
        },
    ),
    trials=TRIALS,
    parallelism=PARALLELISM,
    threads=1,
    early_stopping_rounds=0,
    pruning=False,
)


def halves() -> tuple[Matrix, Matrix]:
    """Return rows to fit on and rows to evaluate on."""
    table = generate(rows=ROWS, days=10, fraud_rate=0.01, seed=1)
    names = tuple(f"v{number}" for number in range(1, 29))
    X = np.column_stack([table.column(name).to_numpy() for name in names]).astype(np.float32)
    y = table.column("class").to_numpy().astype(np.uint8)
    days = (table.column("time").to_numpy() // 86_400).astype(np.int64)
    cut = 3 * ROWS // 4
    train, validation = (Matrix(names, X[part], y[part], days[part], None) for part in (slice(cut), slice(cut, None)))
    return train, validation


def searched(spark: SparkResource, data: tuple[Matrix, Matrix], door: Door, share: float) -> tuple[float, float]:
    """Run one search; return the seconds until the last trial was written, and those of the search alone."""
    tracking = Tracking(mlflow_tracking_uri=door.uri)
    store = tracking.connect("throttled")
    with store.open_run("search", {}) as run:
        door.share = share
        started = time.perf_counter()
        with TrialWriter(run, PLAN.objective, "none") as writer:
            result = run_search(spark.session, *data, PLAN, writer.write)
        seconds = time.perf_counter() - started
        door.share = 0.0
    written = MlflowClient(door.target).search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{run.run_id}'")
    if not len(written) == len(result.trials) == TRIALS:
        raise RuntimeError(f"{len(written)} of {TRIALS} trials were written")
    return seconds, result.seconds


def main() -> None:
    """Measure in turn, and report throttled over unthrottled."""
    settings = Settings.from_environment()
    spark = SparkResource(
        home=str(settings.home), master=f"local[{PARALLELISM}]", java_home=settings.java_home, driver_memory="2g"
    )
    data = halves()
    seconds: dict[float, list[float]] = {0.0: [], THROTTLED_SHARE: []}
    search_alone: dict[float, list[float]] = {0.0: [], THROTTLED_SHARE: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder)) as server,
        door_before(server.uri) as door,
    ):
        for number in range(-1, ROUNDS):  # round -1 warms up and is not counted
            order = (0.0, THROTTLED_SHARE) if number % 2 else (THROTTLED_SHARE, 0.0)
            for share in order:
                whole, alone = searched(spark, data, door, share)
                print(f"round {number}, {share:.0%} throttled: {whole:.2f} s, search alone {alone:.2f} s", flush=True)
                if number >= 0:
                    seconds[share].append(whole)
                    search_alone[share].append(alone)
        throttled = door.throttled
    report(
        "throttled_tracking",
        ratios={
            label: [a / b for a, b in zip(measured[THROTTLED_SHARE], measured[0.0], strict=True)]
            for label, measured in (
                ("time until the last trial is written, throttled over not (limit 1.10)", seconds),
                ("time of the search alone, throttled over not", search_alone),
            )
        },
        details={
            "trials": TRIALS,
            "parallelism": PARALLELISM,
            "throttled_share": THROTTLED_SHARE,
            "throttled_requests": throttled,
            "seconds_unthrottled": seconds[0.0],
            "seconds_throttled": seconds[THROTTLED_SHARE],
        },
    )


if __name__ == "__main__":
    main()
