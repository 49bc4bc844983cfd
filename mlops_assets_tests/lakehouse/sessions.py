"""Small rows of a session, and its settings.

What belongs here: what several files of this room ask of Spark. What does not: tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def numbers(spark: SparkSession, first: int, last: int) -> DataFrame:
    """Return the numbers from `first` to before `last` as `id`, in one file when written."""
    return spark.range(first, last, 1, 1)


def session_settings(spark: SparkSession) -> dict[str, str]:
    """Return the session's settings, without the version that Delta itself remembers of the last commit."""
    found = {row["key"]: row["value"] for row in spark.sql("SET").collect()}
    return {name: value for name, value in found.items() if "lastCommit" not in name}
