"""Spark sessions for benchmarks: each measured search gets a new one, without Python workers.

What belongs here: opening and closing such a session. What does not: what is run on it.

A search that can reuse the workers of the search before it starts seconds ahead, so two sides that are measured in one
process must both start without workers. The JVM is kept: starting it is not part of a search.
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

# Opens a session on a master such as `local[2]`.
Sessions = Callable[[str], AbstractContextManager["SparkSession"]]
SLOTS = 2
LOCAL = f"local[{SLOTS}]"


@contextmanager
def fresh_session(master: str, **conf: str) -> Iterator[SparkSession]:
    """Open a session of the platform's own kind, and stop it at the end.

    Args:
        master: `local[N]` or `local-cluster[WORKERS,CORES,MEGABYTES]`.
        conf: More Spark settings.
    """
    settings = Settings.from_environment()
    resource = SparkResource(
        home=str(settings.home),
        master=master,
        driver_memory=settings.driver_memory,
        java_home=settings.java_home,
        extra_conf={
            # Executors of a local-cluster run in folders of their own, where this checkout can't be imported.
            "spark.executorEnv.PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            # The session is ready only when they are: starting their JVMs is no part of a search either. On one machine
            # the maximum that they are counted against has no other effect.
            "spark.cores.max": str(SLOTS),
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
            **conf,
        },
    )
    session = resource.session
    try:
        yield session
    finally:
        session.stop()
