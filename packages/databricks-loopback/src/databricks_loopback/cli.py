"""The console script `databricks-loopback`: a workspace that lives until Ctrl-C.

What belongs here: arguments and what is printed. What does not: the workspace itself (`workspace`).
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from databricks_loopback.errors import LoopbackError
from databricks_loopback.workspace import Workspace

_EPILOG = """\
example:
  $ databricks-loopback --port 8474 --volume main.default.files
  export DATABRICKS_HOST=http://127.0.0.1:8474
  export DATABRICKS_TOKEN=dapi...

Paste the two lines into another shell: there `WorkspaceClient()` of databricks-sdk now finds this workspace.

exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 the workspace can't start (stderr says why and how to fix it)
"""

_LEVELS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a workspace until SIGINT or SIGTERM, and return the exit code."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        with (
            _folder(options.home) as folder,
            Workspace(folder, port=options.port, delta_jars=_jars(options.jars)) as workspace,
        ):
            for volume in options.volume:
                _add_volume(workspace, volume)
            print(f"export DATABRICKS_HOST={shlex.quote(workspace.host)}")
            print(f"export DATABRICKS_TOKEN={shlex.quote(workspace.token)}", flush=True)
            print(f"Serving until Ctrl-C; the list of runs is at {workspace.host}/", file=sys.stderr, flush=True)
            stop.wait()
            print("Stopping: active runs are cancelled.", file=sys.stderr, flush=True)
    except LoopbackError as error:
        print(f"databricks-loopback: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="databricks-loopback",
        description="Serve a Databricks workspace on 127.0.0.1 that runs the jobs submitted to it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="empty folder for DBFS, volumes and logs, which is kept (default: a temporary one, which is removed)",
    )
    parser.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="CATALOG.SCHEMA.NAME",
        help="create this Unity Catalog volume, with its catalog and schema; can be repeated",
    )
    parser.add_argument(
        "--jars", type=Path, metavar="DIR", help="folder with Delta's jars (default: Spark without Delta)"
    )
    return parser


@contextmanager
def _folder(home: Path | None) -> Iterator[Path]:
    if home is None:
        with tempfile.TemporaryDirectory(prefix="databricks-loopback-") as folder:
            yield Path(folder)
        return
    try:
        home.mkdir(parents=True, exist_ok=True)
        is_empty = not any(home.iterdir())
    except OSError as error:
        raise LoopbackError(
            f"the folder can't be used: {error.strerror}", where=str(home), fix="name another one with --home"
        ) from error
    if not is_empty:
        raise LoopbackError("the folder is not empty", where=str(home), fix="name another one with --home, or empty it")
    yield home.resolve()


def _jars(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise LoopbackError("there are no jars", where=str(folder), fix="name a folder with Delta's jars with --jars")
    return jars


def _add_volume(workspace: Workspace, full_name: str) -> None:
    parts = full_name.split(".")
    if len(parts) != _LEVELS or not all(parts):
        raise LoopbackError(
            "the volume's name does not have three levels", where=full_name, fix="write --volume catalog.schema.name"
        )
    workspace.catalog.add_schema(".".join(parts[:2]))
    if full_name not in {volume["full_name"] for volume in workspace.catalog.volumes(".".join(parts[:2]))}:
        workspace.catalog.add_volume(full_name)
