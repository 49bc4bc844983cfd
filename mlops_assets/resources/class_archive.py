"""The JVM's archive of loaded classes, which makes later starts of Spark faster.

What belongs here: making the archive once per machine, and the options with which a session uses it. What does not:
Spark's other options (`spark`), fetching jars (`delta_jars`), when it is made (`prepare_spark`).

Without it, starting Spark and writing a first Delta table spends more than a third of the JVM's time on loading and
verifying about 20,000 classes. Java can keep them in a file (JEP 350, "Dynamic CDS Archives"). A JVM ignores an archive
of another Java or other jars, so a stale archive only costs disk space (about 180 MB).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.resources.delta_jars import ensure_delta_jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# By default a JVM prints at each start why it can't use an archive, which would clutter the log. The last option makes
# it compare checksums first (0.3 s).
_USE: Final = "-Xshare:auto -Xlog:cds*=off -XX:+UnlockDiagnosticVMOptions -XX:+VerifySharedSpaces"
_EXIT_SECONDS: Final = 300.0  # writing the archive takes about 5 s, more on a busy machine


def find_archive(folder: Path, jars: Iterable[Path], java_home: str | None) -> Path | None:
    """Return the archive for this Java and these jars, or None if there is no complete one.

    Java aborts on a truncated file, whatever its options, so the name contains the size of the file.

    Args:
        folder: The folder of the jars.
        jars: Jars in addition to Spark's own.
        java_home: JAVA_HOME of the process; None looks for `java` in the PATH.
    """
    for path in folder.glob(f"{_stem(jars, java_home)}-*.jsa"):
        if path.stem.rpartition("-")[2] == str(path.stat().st_size):
            return path
    return None


def use_options(archive: Path | None) -> str:
    """Return the Java options for using the archive; empty without an archive."""
    return "" if archive is None else f"-XX:SharedArchiveFile={archive} {_USE}"


def _stem(jars: Iterable[Path], java_home: str | None) -> str:
    """Return the start of the archive's name: a digest of everything that the archive depends on."""
    spark = find_spec("pyspark")  # only its location; importing it would cost every `make` half a second
    java = Path(java_home) / "bin" / "java" if java_home else Path(shutil.which("java") or "java")
    java = java.resolve()
    file = java.stat() if java.exists() else None
    parts = [java, file and (file.st_size, file.st_mtime_ns), spark and spark.origin, *sorted(jars)]
    return f"classes-{hashlib.sha256(chr(10).join(map(str, parts)).encode()).hexdigest()[:16]}"


def make_archive(home: Path, java_home: str | None) -> Path:
    """Run a small session that loads the classes of a typical run, and archive them.

    Args:
        home: MLOPS_HOME; the archive goes next to the jars in it.
        java_home: JAVA_HOME of the process.

    Returns:
        The archive. It appears atomically, even if two processes make it at the same time.

    Raises:
        PlatformError: Spark can't be started.
        OSError: The archive was not written.
    """
    from mlops_assets.resources.spark import SparkResource

    folder = (home / "jars").resolve()
    jars = ensure_delta_jars(folder)
    present = find_archive(folder, jars, java_home)
    if present is not None:
        return present
    with tempfile.TemporaryDirectory(dir=folder, prefix=".archive-") as scratch:
        draft = Path(scratch) / "classes.jsa"
        options = f"-XX:ArchiveClassesAtExit={draft} -Xlog:cds*=off"
        resource = SparkResource(
            home=str(home),
            master="local[2]",
            driver_memory="1g",
            java_home=java_home,
            extra_conf={"spark.driver.extraJavaOptions": options},
        )
        spark = resource.session
        _exercise(spark, Path(scratch) / "table")
        gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 - there is no other access to the JVM's process
        spark.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()  # this ends the JVM, which writes the archive as it exits
        gateway.proc.wait(_EXIT_SECONDS)
        archive = folder / f"{_stem(jars, java_home)}-{draft.stat().st_size}.jsa"
        draft.replace(archive)
    for old in folder.glob("classes-*.jsa"):
        if old != archive:
            old.unlink(missing_ok=True)
    return archive


def _exercise(spark: SparkSession, table: Path) -> None:
    """Do what loading and splitting do: append, read a version, aggregate, merge."""
    rows = spark.range(1_000).selectExpr("id", "id % 7 AS target", "rand(1) AS amount", "current_timestamp() AS at")
    rows.write.format("delta").option("userMetadata", "{}").save(str(table))
    rows.write.format("delta").mode("append").save(str(table))
    pinned = spark.read.format("delta").option("versionAsOf", 1).load(str(table))
    pinned.groupBy("target").agg({"amount": "sum", "id": "count"}).collect()
    pinned.join(rows.select("id", "at"), "id").where("amount > 0.5").toArrow()
    rows.createOrReplaceTempView("new")
    spark.sql(
        f"MERGE INTO delta.`{table}` old USING new ON old.id = new.id AND old.amount < 0 "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )
    spark.sql(f"DESCRIBE HISTORY delta.`{table}`").collect()
