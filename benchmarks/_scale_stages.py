"""One stage of `scale` in a process of its own, so that the peaks of two stages do not mix.

What belongs here: what a stage runs, on a `local-cluster` session, and what Spark's own status says of its executors.
What does not: measuring the driver's memory, which `scale` does from outside, and the input.

Each stage is the asset as a user materializes it. It prints one line of JSON: the seconds, where the work ran, and
what came of it.

Usage: python -m benchmarks._scale_stages STAGE MASTER FOLDER ROWS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import requests
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from benchmarks._sessions import fresh_session
from mlops_assets.assets.batch_scores import BatchScoresConfig, build_batch_scores
from mlops_assets.assets.registered_model import GateConfig
from mlops_assets.assets.sources import FileTransactions
from mlops_assets.assets.tuning_config import Engine
from mlops_assets.data.columns import BATCH_ID, ORIGINAL, REASONS, ROW_NUMBER
from mlops_assets.data.splits.split_frames import row_hash
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import QUARANTINED, RAW
from mlops_assets.resources.tracking import Tracking
from mlops_assets.testing.invoking import Outcome, collect, plain
from mlops_assets_tests.assets import harness

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPEC = harness.spec_of(batch_scores="raw")
# Where a stage finds its input: a few rows that create the tables and warm the JVM up, and the files to load.
FIRST, INPUT = "first", "input"
# Of a model it matters here that there is one. Over the cluster, as for all sets that no driver can hold.
SMALL_MODEL = harness.QUICK.model_copy(update={"engine": Engine.distributed, "trials": 1, "replicates": 500})
ANY_MODEL = GateConfig(min_lift=1.0, beat_simple_scores=False)


@dataclass(frozen=True)
class Place:
    """Where a stage works.

    Attributes:
        spark: The session.
        folder: Holds the inputs, the tables and MLflow's store.
        rows: Rows of the input.
    """

    spark: SparkSession
    folder: Path
    rows: int

    @property
    def lakehouse(self) -> Lakehouse:
        """The platform's tables."""
        return Lakehouse(
            spark=lambda: self.spark,
            database=SPEC.database,
            root=str(self.folder / "lakehouse"),
            locks=str(self.folder / "locks"),
        )

    @property
    def tracking(self) -> Tracking:
        """MLflow's store."""
        store = self.folder / "mlflow"
        store.mkdir(exist_ok=True)
        return Tracking(mlflow_tracking_uri=f"sqlite:///{store / 'mlflow.db'}", artifact_root=str(store / "artifacts"))

    def files(self, name: str) -> FileTransactions:
        """Return one of the inputs as a source."""
        return FileTransactions(location=str(self.folder / name))


# A stage prepares what is not measured, and returns what is; that in turn returns what it has to say.
Work = Callable[[], dict[str, Any]]


def load(place: Place) -> Work:
    """Load with contract, quarantine and identity."""
    _succeeded(harness.load(place.lakehouse, place.files(FIRST)))

    def work() -> dict[str, Any]:
        told = _succeeded(harness.load(place.lakehouse, place.files(INPUT)))
        added, bad = int(told["rows_added"]), int(told["rows_quarantined"])
        if added + bad != place.rows:
            raise RuntimeError(f"{added} rows accepted and {bad} quarantined of {place.rows}")
        return {"quarantined": bad}

    return work


def plain_load(place: Place) -> Work:
    """Read and append by Spark alone, without any check."""
    types = ", ".join(f"`{c.name}` {'bigint' if c.type == 'long' else c.type}" for c in SPEC.contract.columns)

    def append(name: str) -> dict[str, Any]:
        rows = place.spark.read.schema(types).csv(str(place.folder / name), header=True)
        rows.write.format("delta").mode("append").save(str(place.folder / "plain"))
        return {}

    append(FIRST)
    return lambda: append(INPUT)


def cut(place: Place) -> Work:
    """Cut train, validation and test set."""

    def work() -> dict[str, Any]:
        _succeeded(harness.split(place.lakehouse))
        return {}

    return work


def tune(place: Place) -> Work:
    """Train the model that the next stages need."""
    return lambda: {"trees": _succeeded(harness.tune(place.lakehouse, place.tracking, SMALL_MODEL))["trees"]}


def register(place: Place) -> Work:
    """Register the model: score the test set on the executors, compare bit for bit, judge, make it champion."""

    def work() -> dict[str, Any]:
        told = _succeeded(harness.register(place.lakehouse, place.tracking, ANY_MODEL, model=SPEC.registered_model))
        if not told["promoted"]:
            raise RuntimeError(f"the model is not champion: {told['gate']}")
        return {"test_rows": place.lakehouse.read(SET_TABLES["test"], 0).count()}

    return work


def score(place: Place) -> Work:
    """Score all rows of the raw table with the champion."""

    def work() -> dict[str, Any]:
        with dg.build_asset_context() as context:
            outcome = collect(
                build_batch_scores(SPEC)(
                    context,
                    config=BatchScoresConfig(),
                    lakehouse=harness.Databases(place.lakehouse),
                    tracking=place.tracking,
                    loader_cluster=harness.HERE,
                )
            )
        return {"scored": int(_succeeded(outcome)["rows_added"])}

    return work


def contents(place: Place) -> Work:
    """Hash the tables of a load and the sets, whatever the order of their rows."""

    def work() -> dict[str, Any]:
        lakehouse, found = place.lakehouse, {}
        for name in (RAW, QUARANTINED, *SET_TABLES.values()):
            newest = lakehouse.current(name)
            if newest is None:
                continue
            rows = lakehouse.read(name, newest.version)
            values = [F.to_json(ORIGINAL), F.col(REASONS)] if name == QUARANTINED else [row_hash(SPEC.contract, 0)]
            hashed = F.xxhash64(*values, BATCH_ID, ROW_NUMBER).cast("decimal(20, 0)")
            (answer,) = rows.agg(F.count(F.lit(1)), F.sum(hashed)).collect()
            found[name] = [int(answer[0]), str(answer[1])]
        return found

    return work


def load_and_cut(place: Place) -> Work:
    """Do both, and hash what came of it."""

    def work() -> dict[str, Any]:
        for stage in (load, cut):
            stage(place)()
        return contents(place)()

    return work


STAGES: dict[str, Callable[[Place], Work]] = {
    stage.__name__: stage for stage in (load, plain_load, cut, tune, register, score, contents, load_and_cut)
}


def executors(spark: SparkSession) -> dict[str, dict[str, int]]:
    """Return what each executor has read and worked so far, and the driver, by Spark's own account."""
    context = spark.sparkContext
    url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/allexecutors"
    found = requests.get(url, timeout=30).json()
    return {
        one["id"]: {
            "input_bytes": one["totalInputBytes"],
            "shuffle_bytes": one["totalShuffleRead"],
            "task_milliseconds": one["totalDuration"],
            "tasks": one["completedTasks"],
        }
        for one in found
    }


def _succeeded(outcome: Outcome) -> dict[str, Any]:
    if outcome.failure is not None or outcome.failed_checks:
        raise RuntimeError(outcome.message if outcome.failure is not None else f"failed: {outcome.failed_checks}")
    return plain(outcome.results[0])


def main() -> None:
    """Run one stage."""
    stage, master, folder, rows = sys.argv[1:]
    prepared = STAGES[stage]
    with fresh_session(master, **{"spark.ui.enabled": "true", "spark.ui.port": "0"}) as spark:
        work = prepared(Place(spark, Path(folder), int(rows)))
        before, started = executors(spark), time.perf_counter()
        told = work()
        seconds, after = time.perf_counter() - started, executors(spark)
        spent = {
            name: {what: count - before.get(name, {}).get(what, 0) for what, count in counts.items()}
            for name, counts in after.items()
        }
        document = {"seconds": round(seconds, 3), "executors": spent, "application": spark.sparkContext.applicationId}
        sys.stdout.write(json.dumps({**document, "found": told}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
