"""A process that loads files over a cluster of two executors on this machine, for tests that kill parts of it.

What belongs here: the process. What does not: what is killed, and what must be in the tables afterwards.

Usage: python -m mlops_assets_tests.lakehouse.load_over_cluster HOME [stream:]LOCATION
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlops_assets.data.contract.column import Column
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.sources import large_files
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.lakehouse import loading
from mlops_assets.lakehouse.arriving_files import ArrivingFiles
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.resources.spark import SparkResource

CONTRACT = Contract(
    name="payments",
    version=1,
    columns=(
        Column(name="id", type="long"),
        Column(name="time", type="double"),
        Column(name="amount", type="double", min=0),
        Column(name="fraud", type="long", min=0, max=1),
    ),
    features=("amount",),
    target="fraud",
    event_time="time",
    key="id",
    max_bad_share=0.2,
)
PIECE_BYTES = 100_000
STREAM = "stream:"


def main(home: Path, location: str) -> None:
    """Load, and print how many rows came in."""
    large_files.LARGE_BYTES = large_files.PIECE_BYTES = PIECE_BYTES
    spark = SparkResource(
        home=str(home),
        master="local-cluster[2,1,1024]",
        driver_memory="1g",
        extra_conf={"spark.task.maxFailures": "4"},  # as on clusters; embedded Spark has nobody else to try
    )
    lakehouse = Lakehouse(
        spark=lambda: spark.session, database="payments", root=str(home / "lakehouse"), locks=str(home / "locks")
    )
    with lakehouse.exclusive(RAW):
        store, stream = TransactionStore(lakehouse, CONTRACT), location.removeprefix(STREAM)
        report = (
            loading.load(store, FilesSource(location))
            if stream == location
            else ArrivingFiles(lakehouse, stream, settle_seconds=0).load_into(store)
        )
        lost = loading.repair(store)
    failed = [outcome.description for outcome in report.outcomes if not outcome.passed]
    print(  # noqa: T201
        f"accepted {report.accepted}, quarantined {report.quarantined}, failed {failed}, lost {lost}", flush=True
    )
    spark.session.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
