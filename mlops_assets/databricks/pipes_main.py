"""The script that runs on the cluster with `launcher: pipes`: opens Dagster Pipes and runs the asset in it.

What belongs here: what must work before the project's code can be imported (so only the standard library and
dagster-pipes are imported at the top), and the order of events. What does not: the asset and its results
(`pipes_asset`), the launching side (`pipes`).

It is uploaded as a file of its own and executed in `__main__` with the globals `sc` and `dbutils`. Pipes passes
the location of its context by environment variables on a new cluster and by arguments on an existing one; the rest is
in the context's extras. Its messages go through the same numbered chunks as the reports of a launched step
(`launch.cluster_main`), because dagster-pipes' own writers for DBFS and volumes lose messages: a chunk that is read
while it is being written is dropped, one of more than half a megabyte is cut, and the first failed write ends the
writing thread.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_pipes import (
    PipesCliArgsParamsLoader,
    PipesDefaultContextLoader,
    PipesEnvVarParamsLoader,
    PipesMessage,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    PipesParams,
    PipesParamsLoader,
    open_dagster_pipes,
)

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.cluster_main import Channel


class _ChunkChannel(PipesMessageWriterChannel):
    """Adds each message to the reports."""

    def __init__(self, reports: Channel) -> None:
        self._reports = reports

    def write_message(self, message: PipesMessage) -> None:
        self._reports.put("pipes", message=message)


class _ChunkWriter(PipesMessageWriter[_ChunkChannel]):
    """Writes Pipes messages among the other reports."""

    def __init__(self, reports: Channel) -> None:
        self._reports = reports

    @contextmanager
    def open(self, params: PipesParams) -> Iterator[_ChunkChannel]:
        del params  # the folder is known: reports go there before Pipes is open
        yield _ChunkChannel(self._reports)


def main(task_globals: Mapping[str, Any]) -> None:
    """Run the asset that the Pipes context names.

    Args:
        task_globals: The globals of the task; `dbutils` and `sc` are used.

    Raises:
        Exception: Whatever ended the asset, so that the run fails.
    """
    loader = _params_loader()
    context = Path(loader.load_context_params()["path"])
    extras: dict[str, Any] = json.loads(context.read_text("utf-8"))["extras"]
    with tempfile.TemporaryDirectory() as code:
        with zipfile.ZipFile(extras["launch"]["code"]) as archive:
            archive.extractall(code)
        sys.path.insert(0, code)
        _run(loader, context.parent, extras, task_globals)


def _params_loader() -> PipesParamsLoader:
    for loader in (PipesCliArgsParamsLoader(), PipesEnvVarParamsLoader()):
        if loader.is_dagster_pipes_process():
            return loader
    raise RuntimeError("this script must be launched by Dagster Pipes, but the parameters of Pipes are missing")


def _run(loader: PipesParamsLoader, folder: Path, extras: dict[str, Any], task_globals: Mapping[str, Any]) -> None:
    # From the code that was just added to the path.
    from mlops_assets.databricks.launch.cluster_main import described, prepare, reporting

    def describe(error: BaseException) -> dict[str, Any]:
        return {**described(error), "failure": _failure_fields(error)}

    launch = extras["launch"]
    with reporting(folder, launch, describe) as reports:
        prepare(launch, task_globals, reports)
        from mlops_assets.databricks.pipes_asset import run_asset

        with open_dagster_pipes(
            context_loader=PipesDefaultContextLoader(), message_writer=_ChunkWriter(reports), params_loader=loader
        ) as pipes:
            run_asset(pipes)


def _failure_fields(error: BaseException) -> dict[str, Any] | None:
    """Return the fields of a `dagster.Failure`, None for another error."""
    if not any(kind.__name__ == "Failure" and kind.__module__.startswith("dagster.") for kind in type(error).__mro__):
        return None
    from mlops_assets.databricks.pipes_asset import failure_fields

    return failure_fields(error)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(globals())
