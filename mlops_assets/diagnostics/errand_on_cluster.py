"""The script of an errand: runs on a cluster, answers what a request asks, and imports nothing of this project.

What belongs here: the checks that only a cluster can make. What does not: sending it (`errand`), judging the answers
(`first_run`, `cost`).

A check takes the request and returns a level (`ok`, `warning`, `error`), a text and what else it says. If it raises,
its answer is the error. The SQL has only names from the request, which is verified.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
_LONGEST = 600


def _answer(level: str, text: str, **more: Any) -> Answer:
    return {"level": level, "text": text, **more}


def _session() -> Any:
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()


def _distribution(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def runtime(_request: Answer) -> Answer:
    """Which image this is, and that it has Spark without a distribution of it."""
    spark = _session()
    named = {name: _distribution(name) for name in ("pyspark", "delta-spark")}
    there = ", ".join(f"{name} {version}" for name, version in named.items() if version) or "none"
    release = os.environ.get("DATABRICKS_RUNTIME_VERSION", "none")
    text = f"runtime {release}, Python {platform.python_version()}, Spark {spark.version}; distributions: {there}"
    return _answer("ok", text, runtime=release, python=platform.python_version(), spark=spark.version)


def packages(request: Answer) -> Answer:
    """What is installed, of the packages that the request expects."""
    found = {name: _distribution(name) for name in request["packages"]}
    other = [
        f"{name} {found[name] or 'missing'} instead of {wanted}"
        for name, wanted in request["packages"].items()
        if found[name] is None or not _same_release(str(found[name]), wanted)
    ]
    if other:
        return _answer("warning", f"{len(other)} of {len(found)} differ: {', '.join(other)}", found=found)
    return _answer("ok", f"all {len(found)} packages are in the versions that are expected", found=found)


def _same_release(found: str, wanted: str) -> bool:
    """Whether two versions differ at most in the last part, as images of one runtime may."""
    return found == wanted or found.split(".")[:2] == wanted.split(".")[:2]


def texts(request: Answer) -> Answer:
    """Whether quotes and line breaks of the request arrive."""
    arrived = hashlib.sha256(request["text"].encode()).hexdigest() == request["text_sha256"]
    return _answer("ok" if arrived else "error", "quotes and line breaks " + ("arrive" if arrived else "are changed"))


def staging(request: Answer) -> Answer:
    """What the mount of the staging folder can do, and when a file that was closed here can be read elsewhere."""
    folder = Path(request["folder"])
    (folder / "seen.json").write_text(json.dumps({"closed_at": time.time()}), "utf-8")
    probe = folder / "probe"
    probe.mkdir()
    before = probe.stat().st_mtime
    (probe / "one").write_text("1", "utf-8")
    try:
        (probe / "one").rename(probe / "two")
        facts = [f"rename {'works' if (probe / 'two').read_text('utf-8') == '1' else 'loses the content'}"]
    except OSError as error:
        facts = [f"rename is refused ({error.strerror})"]
    try:
        with (probe / "three").open("w", encoding="utf-8") as file:
            file.write("1")
        with (probe / "three").open("a", encoding="utf-8") as file:
            file.write("2")
        facts.append("appending works")
    except OSError as error:
        facts.append(f"appending is refused ({error.strerror})")
    facts.append(
        f"the time of a folder {'follows' if probe.stat().st_mtime != before else 'does not follow'} its files"
    )
    return _answer("ok", "; ".join(facts))


def workers(_request: Answer) -> Answer:
    """Whether workers can import a module that the driver sends them from its own disk."""
    context = _session().sparkContext
    name = f"first_run_{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / f"{name}.py"
        module.write_text("ANSWER = 42\n", "utf-8")
        context.addPyFile(str(module))
        found = context.parallelize(range(2), 2).map(lambda _: importlib.import_module(name).ANSWER).collect()
    text = f"a module of the driver's own disk reaches the workers: {found}"
    return _answer("ok" if found == [42, 42] else "error", text)


def table(request: Answer) -> Answer:
    """Whether a table can be created, written, read as of a version and by its feed, and vacuumed as upkeep does it."""
    spark, name = _session(), request["table"]
    try:
        feed = "TBLPROPERTIES (delta.enableChangeDataFeed = true)"
        spark.sql(f"CREATE TABLE {name} (id BIGINT) USING delta {feed}")
        spark.sql(f"INSERT INTO {name} VALUES (1), (2)")  # noqa: S608
        version = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").first()["version"]
        rows = spark.sql(f"SELECT * FROM {name} VERSION AS OF {version}").count()  # noqa: S608
        changes = spark.sql(f"SELECT * FROM table_changes('{name}', {version}, {version})").count()  # noqa: S608
        details = spark.sql(f"DESCRIBE DETAIL {name}").first()
        vectors = (details["properties"] or {}).get("delta.enableDeletionVectors", "not set")
        facts = [f"{rows} rows at version {version}, {changes} in its feed", f"deletion vectors {vectors}"]
        for kind in ("LITE RETAIN 200 HOURS DRY RUN", "RETAIN 200 HOURS DRY RUN"):
            try:
                spark.sql(f"VACUUM {name} {kind}").collect()
                facts.append(f"VACUUM {kind} works")
            except Exception as error:  # noqa: BLE001 - what it says is the answer
                facts.append(f"VACUUM {kind}: {_short(error)}")
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {name}")
    return _answer("ok" if (rows, changes) == (2, 2) else "error", "; ".join(facts))


def notes(request: Answer) -> Answer:
    """Whether a new table takes the note of its first commit from the writer, and tags."""
    if request["table"].startswith("delta."):
        return _answer("ok", "tables are folders, which take the writer's note and have no tags")
    spark, name = _session(), f"{request['table']}_note"
    try:
        spark.range(1).write.format("delta").option("userMetadata", "the note").saveAsTable(name)
        takes = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").first()["userMetadata"] == "the note"
        facts = [f"a new table {'takes' if takes else 'does not take'} the writer's note"]
        try:
            spark.sql(f"ALTER TABLE {name} SET TAGS ('mlops_first_run' = 'yes')")
            facts.append("it can be tagged")
        except Exception as error:  # noqa: BLE001 - what it says is the answer
            facts.append(f"it can't be tagged: {_short(error)}")
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {name}")
    # A cluster can set the note for its session; serverless compute has only this way.
    needed = "IS_SERVERLESS" in os.environ
    return _answer("error" if needed and not takes else "ok", "; ".join(facts))


def registry(request: Answer) -> Answer:
    """Which codes the registry answers to a second registration and to a missing model."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=request["tracking_uri"], registry_uri=request["registry_uri"])
    name, codes = request["model"], []
    client.create_registered_model(name)
    try:
        for call in (client.create_registered_model, client.get_registered_model):
            try:
                call(name if call == client.create_registered_model else f"{name}_none")
                codes.append("no error")
            except mlflow.exceptions.MlflowException as error:
                codes.append(str(error.error_code))
    finally:
        client.delete_registered_model(name)
    known = codes[0] in request["exists"] and codes[1] in request["missing"]
    text = f"a second registration is answered with {codes[0]}, a missing model with {codes[1]}"
    return _answer("ok" if known else "error", text, codes=codes)


def query(request: Answer) -> Answer:
    """The rows of a statement, at most a thousand."""
    rows = [row.asDict() for row in _session().sql(request["statement"]).limit(1000).collect()]
    return _answer("ok", f"{len(rows)} rows", rows=json.loads(json.dumps(rows, default=str)))


def billing(request: Answer) -> Answer:
    """Whether the usage table can be read."""
    try:
        _session().sql(f"SELECT 1 FROM {request['usage']} LIMIT 1").collect()  # noqa: S608
    except Exception as error:  # noqa: BLE001 - what it says is the answer
        return _answer("warning", f"{request['usage']} can't be read, which `doctor --cost` needs: {_short(error)}")
    return _answer("ok", f"{request['usage']} can be read")


CHECKS = {
    check.__name__: check
    for check in (runtime, packages, texts, staging, workers, table, notes, registry, query, billing)
}


def _short(error: Exception) -> str:
    return " ".join(str(error).partition("\n\tat ")[0].split())[:_LONGEST]


def main(path: str, sha256: str) -> None:
    """Answer the request at `path`.

    Raises:
        ValueError: It is not the one that was sent.
    """
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the request that was sent")
    request = json.loads(content)
    answers: dict[str, Answer] = {}
    for name in request["checks"]:
        try:
            answers[name] = CHECKS[name](request)
        except Exception as error:  # noqa: BLE001 - the next check goes on
            answers[name] = _answer("error", f"{type(error).__name__}: {_short(error)}")
        print(name, answers[name]["level"], answers[name]["text"])  # noqa: T201 - the log of the run
    (Path(request["folder"]) / "answers.json").write_text(json.dumps(answers), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
