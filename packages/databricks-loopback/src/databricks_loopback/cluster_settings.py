"""The environment variables and Spark settings of a cluster.

What belongs here: the defaults, and how a spec overrides them. What does not: the machine (`sandbox`).

`dbfs:/` and paths without a scheme reach the mounts through Hadoop's ViewFileSystemOverloadScheme, so Spark resolves
paths as on Databricks: `/lake/t` is `dbfs:/lake/t`, which is `/dbfs/lake/t` for Python.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from databricks_loopback import sandbox
from databricks_loopback.clusters import Cluster

# C1 only and a serial collector halve the cold start on two cores.
_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.io.tmpdir=/local_disk0 -Dderby.system.home=/local_disk0"

# Folder of DBFS for managed tables.
WAREHOUSE = "user/hive/warehouse"
_DEFAULTS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraClassPath": f"{sandbox.JARS}/*",
    "spark.driver.extraJavaOptions": _JVM,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.warehouse.dir": f"dbfs:/{WAREHOUSE}",
    "spark.hadoop.fs.defaultFS": "dbfs:///",
    "spark.hadoop.fs.dbfs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
    "spark.hadoop.fs.viewfs.overload.scheme.target.dbfs.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    # Writes no checksum files beside the data; DBFS has none either.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.hadoop.fs.viewfs.mounttable.default.linkFallback": "file:///dbfs",
    "spark.hadoop.fs.viewfs.mounttable.default.link./Volumes": "file:///Volumes",
    "spark.hadoop.fs.viewfs.mounttable.default.link./Workspace": "file:///Workspace",
}
# Without the jars these classes can't be loaded, and Spark would not start.
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.delta.logStore.dbfs.impl": "io.delta.storage.LocalLogStore",
}
# Tables outlive the cluster, because the workspace keeps Derby's files. Only one machine at a time can open them.
_METASTORE = {
    "spark.sql.catalogImplementation": "hive",
    "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={sandbox.METASTORE}/derby;create=true",
    "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
    "spark.hadoop.hive.metastore.schema.verification": "false",
}
# What a shell adds to an empty environment.
_SHELLS_OWN = frozenset({"PWD", "OLDPWD", "SHLVL", "_"})
_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
"""


def environment(cluster: Cluster, variables: Mapping[str, str], java_home: Path | None) -> dict[str, str]:
    """Return the whole environment of a cluster's processes; nothing is inherited.

    Args:
        cluster: The cluster.
        variables: Its resolved `spark_env_vars`, which take precedence.
        java_home: JAVA_HOME, or None.
    """
    path = ["/databricks/python3/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    java = {"JAVA_HOME": str(java_home)} if java_home else {}
    own = {"IS_SERVERLESS": "TRUE"} if cluster.source == "SERVERLESS" else {"DB_CLUSTER_ID": cluster.id}
    return {
        "PATH": ":".join([f"{java_home}/bin", *path] if java_home else path),
        "HOME": sandbox.HOME,
        "LANG": "C.UTF-8",
        "DATABRICKS_RUNTIME_VERSION": cluster.runtime_version,
        **own,
        "PYTHONPATH": sandbox.LIBRARIES,
        "PYSPARK_PYTHON": sandbox.PYTHON,
        "PYSPARK_DRIVER_PYTHON": sandbox.PYTHON,
        "SPARK_CONF_DIR": f"{sandbox.CONTROL}/conf",
        "SPARK_LOCAL_DIRS": "/local_disk0",
        "SPARK_LOCAL_IP": "127.0.0.1",
        **java,
        **variables,
    }


def exported(variables: Mapping[str, str]) -> dict[str, str] | None:
    """Return `spark_env_vars` as the cluster's processes see them, None if their script fails.

    The platform writes a line `export NAME='value'` for each and does not escape the value (Clusters API:
    "key-value pairs of the form (X,Y) are exported as is (i.e., export X='Y')"), so a quote ends it.
    """
    script = "".join(f"export {name}='{value}'\n" for name, value in variables.items())
    done = subprocess.run(
        ["/bin/sh", "-euc", f"{script}exec /usr/bin/env -0"], env={}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None
    pairs = (line.partition("=") for line in done.stdout.split("\0") if line)
    return {name: value for name, _, value in pairs if name not in _SHELLS_OWN or name in variables}


def write_spark_conf(
    folder: Path,
    cluster: Cluster,
    settings: Mapping[str, str],
    *,
    cores: int,
    memory: str,
    delta: bool,
    metastore: bool,
) -> None:
    """Write spark-defaults.conf and the log settings of a cluster.

    Args:
        folder: `SPARK_CONF_DIR`.
        cluster: The cluster.
        settings: Its resolved `spark_conf`, which takes precedence.
        cores: Spark's local cores.
        memory: Heap of the driver, in JVM notation.
        delta: Whether Delta's jars are available.
        metastore: Whether tables are kept in the workspace's metastore.
    """
    tags = "spark.databricks.clusterUsageTags"
    conf = {
        "spark.master": f"local[{cores}]",
        "spark.driver.memory": memory,
        **_DEFAULTS,
        **(_DELTA if delta else {}),
        **(_METASTORE if metastore else {}),
        f"{tags}.clusterId": cluster.id,
        f"{tags}.clusterName": str(cluster.spec.get("cluster_name") or ""),
        f"{tags}.sparkVersion": str(cluster.spec["spark_version"]),
        f"{tags}.clusterLogDeliveryEnabled": str(bool(cluster.log_destination)).lower(),
        f"{tags}.clusterLogDestination": cluster.log_destination,
        **settings,
    }
    folder.mkdir()
    lines = (f"{_escaped(name)} {_escaped(value)}\n" for name, value in conf.items())
    (folder / "spark-defaults.conf").write_text("".join(lines), "utf-8")
    (folder / "log4j2.properties").write_text(_LOGGING, "utf-8")


def _escaped(text: str) -> str:
    # The file is read as Java properties: a backslash escapes, and a line ends the entry.
    return text.replace("\\", "\\\\").replace("\n", "\\n")
