"""A process of its own for `test_outgrown_memory`: a cluster of two executors that can't hold the whole matrix.

`local-cluster` needs a session of its own, and so a process. Spark's own limit on Python workers makes them small:
the address space of each (RLIMIT_AS, `spark.executor.pyspark.memory`) has room for half of the matrix, not for all.
Prints one line of JSON.

Usage: python -m mlops_assets_tests.training.small_cluster HOME FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.errors import SearchError
from mlops_assets.resources.spark import SparkResource
from mlops_assets.training.engines.choice import choose_engine
from mlops_assets.training.engines.cluster_memory import cluster_memory
from mlops_assets.training.engines.distributed import run_distributed_search
from mlops_assets.training.engines.distributed_model import finish_on_cluster
from mlops_assets.training.engines.placed_rows import placed
from mlops_assets.training.final_model import EvaluationPlan, finish
from mlops_assets.training.matrix import matrix_columns, to_matrix
from mlops_assets.training.plan import SearchPlan
from mlops_assets.training.search.search import run_search
from mlops_assets_tests.training.spaces import seed_space

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CHECKOUT = Path(__file__).resolve().parents[2]
FEATURES = tuple(f"f{number:02d}" for number in range(60))
ROWS = {"train": 800_000, "validation": 60_000, "test": 60_000}
CONTRACT = Contract(
    name="wide",
    version=1,
    columns=(
        Column(name="seconds", type="double"),
        *(Column(name=name, type="double", nullable=name == "f01") for name in FEATURES),
        Column(name="amount", type="double", min=0),
        Column(name="fraud", type="long"),
    ),
    features=FEATURES,
    target="fraud",
    event_time="seconds",
    amount="amount",
)
# Near the share of frauds and in small steps: from far below it, Newton's steps of rare frauds overshoot, and what
# comes of that hangs on the last digits of the bins, which two engines have no reason to agree on.
SPACE = seed_space(max_depth=(3, 4), n_estimators=(10, 20), learning_rate=(0.1, 0.2), base_score=(0.03, 0.03))
PLAN = SearchPlan(space=SPACE, trials=2, early_stopping_rounds=0, pruning=False, seed=7)
# Beside what an idle worker takes: more than half of the matrix needs, less than all of it does.
ROOM_MIB = 350

# What a worker's address space comes to before it has any data.
_IDLE = """
import numpy, pandas, pyarrow, pyspark.worker, xgboost, xgboost.spark, mlops_assets.training.engines.distributed
xgboost.train({"nthread": 1}, xgboost.QuantileDMatrix(numpy.zeros((10, 2)), label=numpy.zeros(10)), 1)
print(open("/proc/self/status").read().split("VmPeak:")[1].split()[0])
"""


def limit_mib() -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    told = subprocess.run([sys.executable, "-c", _IDLE], env=environment, capture_output=True, text=True, check=True)
    return int(told.stdout) // 1024 + ROOM_MIB


def session(home: Path, limit: int) -> SparkSession:
    resource = SparkResource(
        home=str(home),
        master="local-cluster[2,1,1024]",
        driver_memory="1g",
        extra_conf={
            "spark.executor.memory": "640m",
            "spark.executor.pyspark.memory": f"{limit}m",
            "spark.executorEnv.MALLOC_ARENA_MAX": "2",
            # Arrow's own allocator reserves address space in blocks as large as the room that is left.
            "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "system",
            # Executors run in a folder of their own, where the checkout is not found by itself.
            "spark.executorEnv.PYTHONPATH": str(CHECKOUT),
            "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.cores.max": "2",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
        },
    )
    return resource.session


def write_table(spark: SparkSession, folder: Path, name: str, seed: int) -> DataFrame:
    rows = spark.range(0, ROWS[name], 1, 2).select(
        F.col("id").alias(ROW_NUMBER),
        F.lit(name).alias(BATCH_ID),
        (F.col("id") * (20 * 86_400 / ROWS[name])).alias("seconds"),
        F.rand(seed).alias("_chance"),
        (F.rand(seed + 1) * 100).alias("amount"),
        *(F.randn(1_000 * seed + number).alias(feature) for number, feature in enumerate(FEATURES)),
    )
    rows = rows.withColumn("f01", F.when(F.col("f02") < 1.5, F.col("f01")))
    odds = -7 + 2 * F.col("f00") + F.coalesce("f01", F.lit(0.0)) * 1.5 + F.abs("f03")
    rows = rows.withColumn("fraud", (F.col("_chance") < 1 / (1 + F.exp(-odds))).cast("long")).drop("_chance")
    rows.write.format("delta").save(str(folder / name))
    return spark.read.format("delta").load(str(folder / name))


def main() -> None:
    home, folder = Path(sys.argv[1]), Path(sys.argv[2])
    took: dict[str, float] = {}
    told: dict[str, Any] = {"limit_mib": limit_mib(), "seconds": took}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        took[name] = round(time.perf_counter() - clock, 1)
        clock = time.perf_counter()

    spark = session(home, told["limit_mib"])
    tables = {name: write_table(spark, folder, name, seed) for seed, name in enumerate(ROWS, 1)}
    lap("tables")

    evaluation = EvaluationPlan(replicates=200, alerts_per_day=30)
    told["choice"] = asdict(choose_engine(ROWS["train"] + ROWS["validation"], len(FEATURES), cluster_memory(spark)))
    told["half"] = asdict(choose_engine(ROWS["train"] // 4, len(FEATURES), cluster_memory(spark)))
    lap("choice")
    with placed(spark, tables["train"], tables["validation"], CONTRACT) as data:
        told["workers"] = data.workers
        found = run_distributed_search(spark, data, PLAN, lambda record: None)
        told["trials"] = [asdict(record) for record in found.trials]
        lap("distributed search")
        there = finish_on_cluster(
            spark,
            data,
            tables["train"],
            tables["validation"],
            lambda: tables["test"],
            CONTRACT,
            found,
            PLAN,
            evaluation,
        )
        lap("distributed model")

    # The same point in the driver's memory, which is not limited.
    matrices = {
        name: to_matrix(table.select(*matrix_columns(CONTRACT)).toArrow(), CONTRACT) for name, table in tables.items()
    }
    here = finish(matrices["train"], matrices["validation"], lambda: matrices["test"], found, PLAN, evaluation)
    lap("model in the driver's memory")
    told["reproduced"] = there.reproduction.passed
    told["there"] = {name: asdict(interval) for name, interval in there.evaluation.metrics.items()}
    told["here"] = {name: asdict(interval) for name, interval in here.evaluation.metrics.items()}
    told["rows"] = there.evaluation.rows
    told["features"] = there.booster.feature_names
    told["top"] = {
        "there": next(iter(there.explanation.explanation.importance)),
        "here": next(iter(here.explanation.explanation.importance)),
    }

    try:
        run_search(spark, matrices["train"], matrices["validation"], PLAN, lambda record: None)
        told["in memory"] = "it fits"
    except SearchError as error:
        told["in memory"] = str(error)
    lap("search in memory")
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    left_behind = Path(pyspark.__file__).parent / "work" / spark.sparkContext.applicationId
    spark.stop()
    shutil.rmtree(left_behind, ignore_errors=True)


if __name__ == "__main__":
    main()
