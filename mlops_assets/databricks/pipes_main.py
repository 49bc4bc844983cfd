"""The script that runs on the cluster with `launcher: pipes`: opens Dagster Pipes and runs the asset in it.

What belongs here: what must work before the project's code can be imported (so only the standard library and
dagster-pipes are imported at the top), and the order of events. What does not: the asset and its results
(`pipes_asset`), the launching side (`pipes`).

It is uploaded as a file of its own and executed in `__main__` with the globals `sc` and `dbutils`. Pipes passes the
location, the SHA-256 of its context and the key of the reports by environment variables on a new cluster and by
arguments on an existing one; the rest, such as the hash of the code, is in the context's extras. Its messages go
through the same numbered chunks as the reports of a launched step (`launch.reports`), because dagster-pipes' own
writers for DBFS and volumes lose messages: a chunk that is read while it is being written is dropped, one of more than
half a megabyte is cut, and the first failed write ends the writing thread.
"""

from __future__ import annotations

import hashlib
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
    PipesContextData,
    PipesContextLoader,
    PipesEnvVarParamsLoader,
    PipesMessage,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    PipesParams,
    PipesParamsLoader,
    open_dagster_pipes,
)

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.reports import Channel


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


class _Loaded(PipesContextLoader):
    """Hands over the context that was read and verified: the file may have been replaced since."""

    def __init__(self, context: PipesContextData) -> None:
        self._context = context

    @contextmanager
    def load_context(self, params: PipesParams) -> Iterator[PipesContextData]:
        del params
        yield self._context


def main(task_globals: Mapping[str, Any]) -> None:
    """Run the asset that the Pipes context names.

    Args:
        task_globals: The globals of the task; `dbutils` and `sc` are used.

    Raises:
        Exception: Whatever ended the asset, so that the run fails.
    """
    loader = _params_loader()
    params = loader.load_context_params()
    path = Path(params["path"])
    context = json.loads(_verified(path, params["sha256"]))
    launch = context["extras"]["launch"]
    with tempfile.TemporaryDirectory() as here:
        archive, code = Path(here, Path(launch["code"]).name), Path(here, "code")
        archive.write_bytes(_verified(Path(launch["code"]), launch["code_sha256"]))
        with zipfile.ZipFile(archive) as files:
            files.extractall(code)
        sys.path.insert(0, str(code))
        _run(loader, path.parent, params["key"], context, archive, task_globals)


def _verified(path: Path, sha256: str) -> bytes:
    """Return a staged file's content; see `launch.cluster_main.verified`, which can't be imported yet."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(
            f"{path} is not what the launcher wrote. Nothing of it was run. "
            "Fix: find out who else writes to the staging folder, and revoke that; then launch again."
        )
    return content


def _params_loader() -> PipesParamsLoader:
    for loader in (PipesCliArgsParamsLoader(), PipesEnvVarParamsLoader()):
        if loader.is_dagster_pipes_process():
            return loader
    raise RuntimeError("this script must be launched by Dagster Pipes, but the parameters of Pipes are missing")


def _run(
    loader: PipesParamsLoader,
    folder: Path,
    key: str,
    context: PipesContextData,
    archive: Path,
    task_globals: Mapping[str, Any],
) -> None:
    # From the code that was just added to the path.
    from mlops_assets.databricks.launch.cluster_main import prepare
    from mlops_assets.databricks.launch.reports import described, reporting

    def describe(error: BaseException) -> dict[str, Any]:
        return {**described(error), "failure": _failure_fields(error)}

    launch = (context["extras"] or {})["launch"]
    with reporting(folder, key, launch, describe) as reports:
        prepare(launch, task_globals, reports, archive)
        from mlops_assets.databricks.pipes_asset import run_asset

        with open_dagster_pipes(
            context_loader=_Loaded(context), message_writer=_ChunkWriter(reports), params_loader=loader
        ) as pipes:
            run_asset(pipes)


def _failure_fields(error: BaseException) -> dict[str, Any] | None:
    """Return the fields of a `dagster.Failure`, None for another error."""
    if not any(kind.__name__ == "Failure" and kind.__module__.startswith("dagster.") for kind in type(error).__mro__):
        return None
    from mlops_assets.databricks.pipes_results import failure_fields

    return failure_fields(error)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(globals())
