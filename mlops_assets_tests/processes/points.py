"""Points within an asset at which a worker can be stopped.

What belongs here: resources that behave like the platform's own and can stop midway. What does not: processes
(`worker`, `control`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.splits import TABLES
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lineage import PARENT_TAG
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import DEFAULT_EXPERIMENT, FraudModelSpec
from mlops_assets.tracking.store import Store
from mlops_assets_tests.assets.harness import Databases

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Point(StrEnum):
    """Where to stop."""

    NOWHERE = ""
    RAW_STAGED = "raw rows are staged, Spark has not begun"
    RAW_HALF_WRITTEN = "the raw table's first data file is there, its commit is not"
    QUARANTINE_COMMITTED = "the bad rows are committed, the good ones are not"
    RAW_COMMITTED = "the good rows are committed, the manifest is not"
    REPLAY_MARKED = "the rows to be replayed are marked, the raw table does not have them"
    REPLAY_RECORDED = "the replayed rows are in the raw table and on record, and still in quarantine"
    ONE_SET_COMMITTED = "the training set is committed, the others are not"
    TRIAL_HALF_RECORDED = "the second child run is open and empty"
    SIXTH_TRIAL_HALF_RECORDED = "the sixth child run is open and empty"
    VERSION_WITHOUT_ALIAS = "the version is created, no alias points to it"


class Then(StrEnum):
    """What to do there."""

    DIE = "SIGKILL for this process alone, as the kernel does it when memory runs out"
    DIE_WITH_ALL = "SIGKILL for this process and its JVM at once"
    WAIT = "wait until the test says go"


@dataclass(frozen=True)
class Stop:
    """Stops the process at one point.

    Attributes:
        at: The point.
        then: What happens there.
        wait: Notifies the test and returns when the test says go.
    """

    at: str
    then: str
    wait: Callable[[str], None]

    def reached(self, point: Point) -> None:
        """Stop here, if this is the point."""
        if point != self.at:
            return
        if self.then == Then.DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.then == Then.DIE_WITH_ALL:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        else:
            self.wait(point)


def stopping(resources: Mapping[str, Any], spec: FraudModelSpec, stop: Stop) -> dict[str, Any]:
    """Return the resources that can stop, built from those of the settings."""
    lakehouse, tracking = resources["lakehouse"].open(spec), resources["tracking"]

    return {
        "lakehouse": Databases(
            _stopping_lakehouse(stop)(
                spark=lakehouse.spark, database=lakehouse.database, root=lakehouse.root, locks=lakehouse.locks
            )
        ),
        "tracking": _stopping_tracking(stop)(**{name: getattr(tracking, name) for name in Tracking.model_fields}),
    }


# Classes defined here, not instances with a field: Dagster copies a resource by its configuration.
def _stopping_lakehouse(stop: Stop) -> type[Lakehouse]:
    class StoppingLakehouse(Lakehouse):
        def append(
            self,
            name: str,
            rows: DataFrame,
            *,
            base: TableVersion | None,
            metadata: Mapping[str, Any],
            new_columns: bool = False,
            skip_by: Sequence[str] = (),
        ) -> TableVersion:
            if name == RAW:
                stop.reached(Point.RAW_STAGED)
                if stop.at == Point.RAW_HALF_WRITTEN:
                    threading.Thread(target=_watch, args=(Path(self.location(name)), stop), daemon=True).start()
            written = super().append(name, rows, base=base, metadata=metadata, new_columns=new_columns, skip_by=skip_by)
            if name in (QUARANTINED, RAW):
                stop.reached(Point.QUARANTINE_COMMITTED if name == QUARANTINED else Point.RAW_COMMITTED)
            return written

        def merge(
            self, name: str, rows: DataFrame, *, key: str, base: TableVersion, metadata: Mapping[str, Any]
        ) -> TableVersion:
            written = super().merge(name, rows, key=key, base=base, metadata=metadata)
            stop.reached(Point.RAW_COMMITTED)
            return written

        def replace(
            self, name: str, rows: DataFrame, *, base: TableVersion | None, metadata: Mapping[str, Any]
        ) -> TableVersion:
            if name == QUARANTINED and not metadata["replays"]:
                stop.reached(Point.REPLAY_RECORDED)
            written = super().replace(name, rows, base=base, metadata=metadata)
            if name == TABLES["train"]:
                stop.reached(Point.ONE_SET_COMMITTED)
            if name == QUARANTINED and metadata["replays"]:
                stop.reached(Point.REPLAY_MARKED)
            return written

    return StoppingLakehouse


def _stopping_tracking(stop: Stop) -> type[Tracking]:
    class StoppingTracking(Tracking):
        def connect(self, experiment: str = DEFAULT_EXPERIMENT) -> Store:
            if experiment not in self._stores:
                store = super().connect(experiment)
                self._stores[experiment] = replace(store, client=_StoppingClient(store.uri, stop))
            return super().connect(experiment)

    return StoppingTracking


def _watch(folder: Path, stop: Stop) -> None:
    """Stop as soon as Spark has written data; the commit comes noticeably later."""
    while not any(folder.glob("*.parquet")):
        time.sleep(0.001)
    stop.reached(Point.RAW_HALF_WRITTEN)


_TRIALS = {2: Point.TRIAL_HALF_RECORDED, 6: Point.SIXTH_TRIAL_HALF_RECORDED}


class _StoppingClient(MlflowClient):
    def __init__(self, uri: str, stop: Stop) -> None:
        super().__init__(uri, uri)
        self._stop, self._children = stop, 0

    def log_batch(self, run_id: str, *arguments: Any, **named: Any) -> Any:
        self._children += PARENT_TAG in self.get_run(run_id).data.tags
        if self._children in _TRIALS:
            self._stop.reached(_TRIALS[self._children])
        return super().log_batch(run_id, *arguments, **named)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._stop.reached(Point.VERSION_WITHOUT_ALIAS)
        super().set_registered_model_alias(name, alias, version)
