"""SQL warehouses: statements that are really executed, by Spark with Delta.

What belongs here: the warehouses, the states of a statement, and the process that executes it. What does not: the REST
API (`api.sql_statements`), what runs in that process (`warehouse_main`).

A warehouse starts with its first statement, which is PENDING until then. Its tables are those of the clusters' managed
tables (`spark_catalog.<schema>.<table>` with `metastore`); a schema of another catalog has a folder of its own beside
them. Within a statement, a table is named by one or two parts, under the catalog and schema of the request: open-source
Spark has no catalogs of Delta tables but `spark_catalog`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from databricks_loopback.catalog import Catalog
from databricks_loopback.cluster_settings import WAREHOUSE
from databricks_loopback.storage import Storage
from databricks_loopback.wire import ApiError, missing

TERMINAL = ("SUCCEEDED", "FAILED", "CANCELED", "CLOSED")


@dataclass
class Statement:
    """A statement and what became of it.

    Attributes:
        id: Its id.
        state: As in `databricks.sdk.service.sql.StatementState`.
        error: Code and message of one that failed.
        columns: Name and SQL type of each column of the result.
        rows: The result; each value as text, or None.
        finished: Set at its end.
    """

    id: str
    state: str = "PENDING"
    error: tuple[str, str] | None = None
    columns: Sequence[tuple[str, str]] = ()
    rows: Sequence[Sequence[str | None]] = ()
    finished: threading.Event = field(default_factory=threading.Event)

    def end(self, state: str) -> None:
        """Record its end, unless it has ended."""
        if not self.finished.is_set():
            self.state = state
            self.finished.set()


class _Engine:
    """The process of one warehouse, started on first use."""

    def __init__(self, folder: Path, tables: Path, jars: Path, java_home: Path | None, memory: str) -> None:
        self._folder, self._tables, self._jars = folder, tables, jars
        self._java_home, self._memory = java_home, memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._waiting: dict[str, Statement] = {}

    def submit(self, statement: Statement, task: Mapping[str, Any]) -> None:
        """Hand a statement to the process."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            self._waiting[statement.id] = statement
            _to(self._process).write(json.dumps({"id": statement.id, **task}) + "\n")
            _to(self._process).flush()

    @property
    def running(self) -> bool:
        """Whether the process has been started and not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the process with its JVM."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        java = {"JAVA_HOME": str(self._java_home)} if self._java_home else {}
        with (self._folder / "stderr").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "databricks_loopback.warehouse_main", str(self._tables), str(self._jars)],
                cwd=self._folder,
                env={**os.environ, "LOOPBACK_WAREHOUSE_MEMORY": self._memory, **java},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            said = json.loads(line)
            statement = self._waiting.get(said["id"])
            if statement is None:
                continue
            if said["state"] == "RUNNING":
                if not statement.finished.is_set():
                    statement.state = "RUNNING"
                continue
            statement.error = None if said["error"] is None else (said["error"][0], said["error"][1])
            statement.columns = [(name, kind) for name, kind in said["columns"]]
            statement.rows = said["rows"]
            statement.end(said["state"])
        for statement in list(self._waiting.values()):
            if not statement.finished.is_set():
                statement.error = ("INTERNAL_ERROR", "The warehouse has stopped.")
                statement.end("FAILED")


class Warehouses:
    """The SQL warehouses of a workspace, and their statements.

    Args:
        folder: Folder for their processes.
        storage: Where managed tables are.
        catalog: The schemas, and who may use them.
        jars: Folder with Delta's jars.
        java_home: JAVA_HOME, or None.
        memory: Heap of a warehouse, in JVM notation.
    """

    def __init__(
        self, folder: Path, storage: Storage, catalog: Catalog, jars: Path, java_home: Path | None, memory: str
    ) -> None:
        self._folder, self._catalog, self._jars = folder, catalog, jars
        self._tables, self._java_home, self._memory = storage.dbfs / WAREHOUSE, java_home, memory
        self._engines: dict[str, _Engine] = {}
        self._statements: dict[str, Statement] = {}

    def add(self) -> str:
        """Create a warehouse and return its id."""
        made = uuid.uuid4().hex[:16]
        self._engines[made] = _Engine(self._folder / made, self._tables, self._jars, self._java_home, self._memory)
        return made

    def state(self, warehouse_id: str) -> str:
        """Return STOPPED or RUNNING; ApiError RESOURCE_DOES_NOT_EXIST if there is no such warehouse."""
        return "RUNNING" if self._engine(warehouse_id).running else "STOPPED"

    def execute(
        self,
        warehouse_id: str,
        text: str,
        parameters: Sequence[Mapping[str, Any]],
        *,
        user: str,
        catalog: str = "",
        schema: str = "",
    ) -> Statement:
        """Start a statement; it waits for the warehouse, if that has not started.

        Args:
            warehouse_id: The warehouse.
            text: The statement.
            parameters: Its named parameters: name, value as text or None, SQL type.
            user: Who runs it.
            catalog: Catalog of names that have none.
            schema: Schema of names that have none.

        Raises:
            ApiError: There is no such warehouse.
        """
        engine = self._engine(warehouse_id)
        statement = Statement(str(uuid.uuid4()))
        self._statements[statement.id] = statement
        try:
            database = self._database(catalog, schema, user)
        except ApiError as error:
            statement.error = ("BAD_REQUEST", error.message)
            statement.end("FAILED")
            return statement
        task = {"statement": text, "parameters": list(parameters), "database": database, "databases": self._databases()}
        engine.submit(statement, task)
        return statement

    def _engine(self, warehouse_id: str) -> _Engine:
        if warehouse_id not in self._engines:
            raise missing(f"SQL warehouse {warehouse_id} does not exist.")
        return self._engines[warehouse_id]

    def statement(self, statement_id: str) -> Statement:
        """Return a statement; ApiError RESOURCE_DOES_NOT_EXIST if there is none."""
        if statement_id not in self._statements:
            raise missing(f"Statement {statement_id} does not exist.")
        return self._statements[statement_id]

    def stop(self) -> None:
        """End all warehouses."""
        for engine in self._engines.values():
            engine.stop()

    def folder_of(self, full_name: str) -> Path:
        """Return the folder of a managed table `catalog.schema.table`."""
        catalog, schema, table = full_name.split(".")
        return self._tables / f"{_name(catalog, schema)}.db" / table

    def _database(self, catalog: str, schema: str, user: str) -> str:
        """Return Spark's name of the schema; ApiError if it is not there, or must not be used."""
        if not schema:
            return "default"
        full = f"{catalog}.{schema}"
        self._catalog.schema(full)
        self._catalog.require("USE SCHEMA", full, user)
        return _name(catalog, schema)

    def _databases(self) -> list[str]:
        schemas = [item for found in self._catalog.catalogs() for item in self._catalog.schemas(found["name"])]
        return [_name(item["catalog_name"], item["name"]) for item in schemas]


def _name(catalog: str, schema: str) -> str:
    return schema if catalog == "spark_catalog" else f"{catalog}__{schema}"


def _to(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdin is None:
        raise RuntimeError("a warehouse without an input")
    return process.stdin
