"""The driver of a cluster: runs one Python file as a `spark_python_task`, or the cells of a notebook one after another.

What belongs here: the globals, arguments and end of a task. What does not: Spark (`cluster_spark`), dbutils
(`cluster_dbutils`), choosing the file (the workspace's `runner`).

As on Databricks, the file is executed in `__main__` with `spark`, `sc` and `dbutils` defined; `__file__` is not
defined, and the file's folder is not on `sys.path`. A task that calls `sys.exit`, even with 0, fails.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any


def main(control: Path) -> None:
    """Run the task that `control/task.json` describes and write how it ended to `control/outcome.json`."""
    task: dict[str, Any] = json.loads((control / "task.json").read_text("utf-8"))
    threading.Thread(target=_end_with_the_workspace, args=(task["lifeline"],), daemon=True).start()
    sys.path.insert(0, str(control))
    utilities, spark = importlib.import_module("cluster_dbutils"), importlib.import_module("cluster_spark")
    identity = importlib.import_module("cluster_identity")
    namespace = types.ModuleType("__main__")
    sys.modules["__main__"] = namespace
    tools = namespace.__dict__["dbutils"] = utilities.DBUtils(task["secrets"], task["widgets"])
    if task["is_notebook"]:  # modules that it imports find them there; MLflow looks there too, for more than these have
        module = sys.modules["pyspark.dbutils"] = types.ModuleType("pyspark.dbutils")
        module.__dict__["DBUtils"] = lambda _spark: tools
    identity.define(task["host"], task["token"], namespace.__dict__)
    spark.define_spark(
        namespace.__dict__,
        with_context=task["with_context"],
        schemas=task["schemas"],
        connect=importlib.import_module("cluster_connect") if task["serverless"] else None,
        take_tags=importlib.import_module("cluster_tags").take,
    )
    sys.path.remove(str(control))
    sys.argv = [task["file"], *task["parameters"]]
    sys.addaudithook(_like_a_mount)
    outcome: dict[str, str] = {}
    try:
        code = compile(Path(task["file"]).read_bytes(), task["file"], "exec")
        exec(code, namespace.__dict__)  # noqa: S102 - that is the driver's purpose
    except BaseException as error:  # noqa: BLE001 - any exception is the task's result
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        lines = traceback.format_exception(type(error), error, trace)
        sys.stderr.writelines(lines)
        outcome = {"error": f"{type(error).__name__}: {error}", "error_trace": "".join(lines)}
    sys.stdout.flush()
    sys.stderr.flush()
    draft = control / "outcome.draft"
    draft.write_text(json.dumps(outcome), "utf-8")
    draft.rename(control / "outcome.json")
    # The run ends with its file, without waiting for threads or the JVM.
    os._exit(0)


def _like_a_mount(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what the mount of volumes can't do: a file there is written from its beginning to its end, once.

    Source: "Limitations of working with files in volumes" of the Databricks reference (no appends, no random writes).
    Object stores have no atomic rename, so none is allowed here: whether a mount does one, and what a reader sees
    meanwhile, is not documented.

    Raises:
        OSError: EOPNOTSUPP: a file of a volume is opened for appending, or for reading and writing, or is renamed.
    """
    if event == "os.rename" and any(str(path).startswith("/Volumes/") for path in arguments[:2]):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), str(arguments[0]))
    if event != "open" or not isinstance(arguments[0], str) or not arguments[0].startswith("/Volumes/"):
        return
    flags = arguments[2] or 0
    if flags & os.O_APPEND or (flags & os.O_RDWR and not flags & os.O_TRUNC):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), arguments[0])


def _end_with_the_workspace(lifeline: int) -> None:
    """End this process when the workspace, which holds the other end of a pipe, is gone."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
