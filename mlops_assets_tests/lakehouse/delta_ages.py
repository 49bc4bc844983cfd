"""Make a Delta table older than it is: as if its versions had been committed days ago.

What belongs here: rewriting times in a table's log and on its files. What does not: what should follow from its age.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DAY = 86_400.0


def committed_at(spark: SparkSession, table: Path, moments: Mapping[int, float]) -> None:
    """Give versions other times of commit, in seconds since 1970; times must rise with the versions."""
    log = table / "_delta_log"
    for checksum in {*log.glob("*.crc"), *log.glob(".*.crc")}:  # they are about what the files were
        checksum.unlink()
    for version, at in moments.items():
        commit = log / f"{version:020d}.json"
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            for kind, name in (
                ("remove", "deletionTimestamp"),
                ("add", "modificationTime"),
                ("commitInfo", "timestamp"),
            ):
                if kind in action:
                    action[kind][name] = int(at * 1000)
            if "add" in action:
                os.utime(table / action["add"]["path"], (at, at))
        commit.write_text("".join(json.dumps(action) + "\n" for action in actions))
        os.utime(commit, (at, at))
    java: Any = spark.sparkContext._jvm  # PySpark has no such call
    java.org.apache.spark.sql.delta.DeltaLog.clearCache()


def days_ago(days: float) -> float:
    """Return a moment in seconds since 1970."""
    return time.time() - days * _DAY
