"""Spark sessions for benchmarks: each measured search starts on one of its own, without Python workers.

What belongs here: opening and closing such a session. What does not: what is run on it.

A search that finds the workers of the search before it starts seconds ahead; whoever measures two sides in one process
must give both the same start. The JVM stays: starting it is no part of a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Opens a session on a master, such as `local[2]`.
Sessions = Callable[[str], AbstractContextManager["SparkSession"]]
SLOTS = 2
LOCAL = f"local[{SLOTS}]"


@contextmanager
def fresh_session(master: str) -> Iterator[SparkSession]:
    """Open a session of the platform's own kind, and stop it at the end.

    Args:
        master: `local[N]` or `local-cluster[WORKERS,CORES,MEGABYTES]`.
    """
    settings = Settings.from_environment()
    resource = SparkResource(
        home=str(settings.home),
        master=master,
        java_home=settings.java_home,
        extra_conf={
            # Executors of a local-cluster work in folders of their own, where this checkout can't be imported from.
            "spark.executorEnv.PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            # The session is there when they are: their JVMs' start is no part of a search either. On one machine the
            # maximum, which they are counted against, means nothing.
            "spark.cores.max": str(SLOTS),
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
        },
    )
    session = resource.session
    try:
        yield session
    finally:
        session.stop()
