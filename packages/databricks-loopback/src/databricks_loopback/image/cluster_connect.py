"""Spark of serverless compute: a Connect server that starts on first use, and what its client may not do.

What belongs here: starting the server, and the refusals of the platform that an open-source server does not make. What
does not: `spark` itself (`cluster_spark`), the settings of the server, which are in spark-defaults.conf.

Sources: "Serverless compute limitations" (no caching, no RDDs), "Set Spark configuration properties" (the list of
settings), "Enrich tables with custom metadata" (no commit metadata by a setting) of the Databricks reference; messages
as users report them (capitalone/datacompy#407).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

# On a machine with much else to do; the time limit of the run is the other end.
_START_S = 600.0
_MAIN = "org.apache.spark.sql.connect.service.SparkConnectServer"
# What can be set on serverless compute; reading any other setting fails as well.
_SETTINGS = frozenset(
    {
        "spark.databricks.execution.timeout",
        "spark.sql.ansi.enabled",
        "spark.sql.files.maxPartitionBytes",
        "spark.sql.legacy.timeParserPolicy",
        "spark.sql.session.timeZone",
        "spark.sql.shuffle.partitions",
    }
)
_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_CACHING = ("persist", "cache", "unpersist", "checkpoint", "localCheckpoint")


class Server:
    """The Connect server of this machine; its clients are told by `SPARK_REMOTE`."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        os.environ["SPARK_REMOTE"] = f"sc://127.0.0.1:{self._port}"
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it unless it runs, and wait until it listens.

        Raises:
            RuntimeError: It does not start.
        """
        if self._process is not None:
            return
        home = Path(import_module("pyspark").__file__ or "").parent
        listen = {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": str(self._port)}
        conf = [part for name, value in listen.items() for part in ("--conf", f"{name}={value}")]
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_REMOTE", "SPARK_CONN"))}
        log = Path("/local_disk0/connect.log")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(home / "bin" / "spark-submit"), "--class", _MAIN, *conf, "spark-internal"],
                env={**own, "SPARK_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text("utf-8", "replace")[-4_000:]
                    raise RuntimeError(f"the Spark Connect server does not listen: {said}") from None
                time.sleep(0.2)
            else:
                return


def refusals() -> dict[str, Callable[[ModuleType], None]]:
    """Return, by module of pyspark, what makes it refuse what serverless compute refuses."""
    return {
        "pyspark.core.context": _without_context,
        "pyspark.sql.connect.conf": _few_settings,
        "pyspark.sql.connect.dataframe": _without_caching,
        "pyspark.sql.connect.readwriter": _metadata_of_new_tables,
    }


def _without_context(module: ModuleType) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            "[JVM_ATTRIBUTE_NOT_SUPPORTED] Directly accessing the underlying Spark driver JVM using the attribute "
            "'sparkContext' is not supported on serverless compute."
        )

    vars(module)["SparkContext"].__init__ = refuse


def _few_settings(module: ModuleType) -> None:
    kind = vars(module)["RuntimeConf"]
    for name in ("set", "get", "unset"):
        setattr(kind, name, _only_known(vars(kind)[name]))


def _only_known(method: Callable[..., Any]) -> Callable[..., Any]:
    def limited(conf: Any, key: str, *values: Any) -> Any:
        # pyspark's own modules read settings of the session too.
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001
        if key not in _SETTINGS and not caller.startswith("pyspark."):
            error = import_module("pyspark.errors").AnalysisException
            raise error(
                f"[CONFIG_NOT_AVAILABLE] Configuration {key} is not available. SQLSTATE: 42K0I",
            )
        return method(conf, key, *values)

    limited.__wrapped__ = method  # type: ignore[attr-defined]
    return limited


def _without_caching(module: ModuleType) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise import_module("pyspark.errors").AnalysisException(
            "[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute. SQLSTATE: 0A000"
        )

    for name in _CACHING:
        setattr(vars(module)["DataFrame"], name, refuse)


def _metadata_of_new_tables(module: ModuleType) -> None:
    """Let the writer's option count for a commit that creates a table, as in the platform's Delta.

    Open-source Delta 4.3 ignores it there and reads the session's setting (delta-io/delta#722).
    """
    kind = vars(module)["DataFrameWriter"]
    save = vars(kind)["saveAsTable"]

    def save_as_table(writer: Any, *arguments: Any, **named: Any) -> Any:
        conf = writer._spark.conf  # noqa: SLF001
        metadata = writer._write.options.get("userMetadata")  # noqa: SLF001
        if metadata is None:
            return save(writer, *arguments, **named)
        type(conf).set.__wrapped__(conf, _METADATA, metadata)
        try:
            return save(writer, *arguments, **named)
        finally:
            type(conf).unset.__wrapped__(conf, _METADATA)

    kind.saveAsTable = save_as_table
