"""The process of a SQL warehouse: statements come in as lines of JSON, and their ends go out as lines of JSON.

What belongs here: executing a statement with Spark, its parameters, and its result as text. What does not: states and
the API (`sql_warehouse`, `api.sql_statements`).

Each statement has a session of its own, and several run at once; two that write one table conflict as Delta makes them.
A parameter is bound, never pasted into the text: it is cast to its type by Spark's own CAST first, and a value that it
can't be cast to fails the statement. The process ends with its input.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# At most 10 statements run at once on a cluster of a warehouse ("SQL warehouse sizing").
_AT_ONCE = 10
_SIMPLE_TYPE = re.compile(r"[A-Z_]+(\(\d+(,\s*\d+)?\))?", re.IGNORECASE)


def main(tables: Path, jars: Path) -> None:
    """Serve until the input ends.

    Args:
        tables: Folder of managed tables.
        jars: Folder with Delta's jars.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing but answers may reach the caller
    engine = _Warehouse(tables, jars, answers)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for line in sys.stdin:
            pool.submit(engine.run, json.loads(line))
        os._exit(0)


class _Warehouse:
    def __init__(self, tables: Path, jars: Path, answers: Any) -> None:
        self._tables, self._jars, self._answers = tables, jars, answers
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._spark: Any = None
        self._known: set[str] = set()

    def run(self, task: Mapping[str, Any]) -> None:
        """Execute a statement and say how it ended."""
        end: dict[str, Any] = {"id": task["id"], "state": "FAILED", "error": None, "columns": [], "rows": []}
        try:
            session = self._session(task)
            self._say({"id": task["id"], "state": "RUNNING"})
            frame = session.sql(task["statement"], args=_arguments(session, task["parameters"]))
            columns = [(item.name, item.dataType.simpleString()) for item in frame.schema.fields]
            texts = frame.selectExpr(*(f"CAST(`{name}` AS STRING)" for name, _ in columns)) if columns else frame
            rows = [list(row) for row in texts.collect()]
            end |= {"state": "SUCCEEDED", "columns": columns, "rows": rows}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the statement's end
            thrown = getattr(error, "java_exception", None)  # of an exception that PySpark has no class for
            end["error"] = ["BAD_REQUEST", str(error if thrown is None else thrown.getMessage()).strip()]
        self._say(end)

    def _define(self, name: str, statement: str) -> None:
        if name not in self._known:
            self._spark.sql(statement)
            self._known.add(name)

    def _say(self, what: Mapping[str, Any]) -> None:
        with self._writing:
            self._answers.write(json.dumps(what) + "\n")

    def _session(self, task: Mapping[str, Any]) -> Any:
        """Return a session in the statement's schema, in which all schemas and their tables are known."""
        with self._lock:
            if self._spark is None:
                self._spark = _start(self._tables, self._jars)
            for name in task["databases"]:
                self._define(name, f"CREATE SCHEMA IF NOT EXISTS `{name}`")
                for log in self._tables.glob(f"{name}.db/*/_delta_log"):  # also those that a cluster has written
                    table = f"`{name}`.`{log.parent.name}`"
                    place = log.parent.as_uri()
                    self._define(table, f"CREATE TABLE IF NOT EXISTS {table} USING DELTA LOCATION '{place}'")
            session = self._spark.newSession()
        session.sql(f"USE `{task['database']}`")
        return session


def _arguments(session: Any, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of named parameters, each of its SQL type.

    Raises:
        ValueError: A type is none that a parameter may have.
    """
    if not parameters:
        return {}
    kinds = [str(item.get("type") or "STRING") for item in parameters]
    for kind in kinds:
        if not _SIMPLE_TYPE.fullmatch(kind):
            raise ValueError(f"[UNSUPPORTED_DATATYPE] a parameter can't be of the type {kind}")
    texts = {f"p{number}": item.get("value") for number, item in enumerate(parameters)}
    casts = ", ".join(f"CAST(:p{number} AS {kind}) AS p{number}" for number, kind in enumerate(kinds))
    (row,) = session.sql(f"SELECT {casts}", args=texts).collect()
    return {str(item["name"]): row[number] for number, item in enumerate(parameters)}


def _start(tables: Path, jars: Path) -> Any:
    builder_of = importlib.import_module("pyspark.sql").SparkSession.builder  # an extra of the package
    tables.mkdir(parents=True, exist_ok=True)
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": os.environ["LOOPBACK_WAREHOUSE_MEMORY"],
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraClassPath": f"{jars}/*",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.catalogImplementation": "in-memory",
        # Spark 4.1 binds parameters in its parser, and Delta 4.3's parser in front of it does not hand them on.
        "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
        "spark.sql.warehouse.dir": tables.as_uri(),
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
    }
    builder = builder_of.appName("SQL warehouse")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
