"""The Spark session: embedded on a laptop, the cluster's own on Databricks.

What belongs here: building the session's configuration and starting it when it is first used. What does not: tables
(`lakehouse`), what runs on Spark (`data`, `training`).

The session is lazy because Dagster builds resources in the run process, in each step process and on the cluster;
starting a JVM in each would cost 5 to 10 s every time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from mlops_assets.errors import StorageError
from mlops_assets.resources.connection import Connection

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# C1 only and a serial collector: on two cores this halves the cold start (5.6 s against 11 s), and the heavy work,
# training, is not done by the JVM.
_JVM_FLAGS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_LOG_CONFIG = (Path(__file__).parent / "log4j2.properties").as_uri()


class SparkResource(Connection):
    """Embedded Spark with Delta, started on first use through dagster-pyspark's lazy resource.

    Attributes:
        home: Folder for Spark's scratch files, warehouse and the cached Delta jars.
        master: Spark master, such as `local[*]`.
        driver_memory: Heap of the JVM.
        java_home: JAVA_HOME to check and to use; None takes `java` from the PATH.
        extra_conf: More Spark settings, applied last; Java options among them are appended; the last of a kind wins.
        on_cluster: Whether this process runs on a cluster, which has a session and whose settings are not ours.
    """

    home: str
    master: str = "local[*]"
    driver_memory: str = "2g"
    java_home: str | None = None
    extra_conf: dict[str, str] = Field(default_factory=dict)
    on_cluster: bool = False

    _lazy: Any = PrivateAttr(default=None)

    @property
    def session(self) -> SparkSession:
        """The process's Spark session; the first call starts it.

        Raises:
            SettingsError: Java is missing or too old.
            StorageError: The scratch folder can't be written, or the Delta jars can't be fetched.
        """
        if self._lazy is None:
            if self.on_cluster:  # where dagster-pyspark is not installed
                from pyspark.sql import SparkSession as Session

                return Session.builder.getOrCreate()
            conf = self._configuration()
            # Imported here: dagster_pyspark imports pyspark, which loading the code location must not.
            from dagster_pyspark import LazyPySparkResource

            self._lazy = LazyPySparkResource(spark_config=conf)
        session: SparkSession = self._lazy.spark_session
        return session

    def _configuration(self) -> dict[str, str]:
        from mlops_assets.resources.class_archive import find_archive, use_options
        from mlops_assets.resources.delta_jars import ensure_delta_jars
        from mlops_assets.resources.java import require_java
        from mlops_assets.resources.scratch import own_scratch

        require_java(self.java_home)
        home = Path(self.home)
        scratch = home / "spark"
        try:
            temporary = own_scratch(scratch / "tmp")
        except OSError as error:
            raise StorageError.not_writable(scratch, error) from None
        # Executors must be the Python that has the dependencies; with another one SparkTrials fails with the
        # misleading "There are no evaluation tasks".
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        # Through links to where the jars lie: the archive of classes fits these paths alone.
        folder = (home / "jars").resolve()
        jars = ensure_delta_jars(folder)
        class_path = os.pathsep.join(str(jar) for jar in jars)
        more = self.extra_conf.get(_JAVA_OPTIONS, "")
        # A JVM that makes an archive can't use one.
        shared = "" if "ArchiveClassesAtExit" in more else use_options(find_archive(folder, jars, self.java_home))
        options = f"{_JVM_FLAGS} {shared} -Dlog4j2.configurationFile={_LOG_CONFIG}"
        options += f" -Djava.io.tmpdir={temporary} -Dderby.system.home={scratch}"
        return {
            "spark.app.name": "mlops_assets",
            "spark.master": self.master,
            "spark.driver.memory": self.driver_memory,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # On the class path, and not in `spark.jars`, which copies them for each session; classes that come that way
            # are in no archive.
            "spark.driver.extraClassPath": class_path,
            "spark.executor.extraClassPath": class_path,
            # Hadoop sets the mode of each file that it makes, whatever the process's own umask is.
            "spark.hadoop.fs.permissions.umask-mode": "077",
            "spark.local.dir": str(temporary),
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.sql.session.timeZone": "UTC",
            # By default Spark writes INT96, which other readers take for nanoseconds: those end in the year 2262.
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.shuffle.partitions": "2",
            "spark.databricks.delta.snapshotPartitions": "2",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            # A failing trial is recorded with its error; trying it four times over would only cost time.
            "spark.task.maxFailures": "1",
            **self.extra_conf,
            _JAVA_OPTIONS: f"{options} {more}".rstrip(),
        }
