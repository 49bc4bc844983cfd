"""An experiment in MLflow: runs are opened, found, and always closed with the right status.

What belongs here: the life of a run. What does not: what is written into it (`runs`), connecting (`connection`), the
registry (`registry/`), Dagster.

Only the client interface with explicit run ids is used. MLflow's fluent interface keeps the "active run" of a thread
in a global; that is how runs of parallel assets come to be mixed up or left open.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import PARENT_TAG, PROCESS_TAG, RUN_NAME_TAG, STAGE_TAG
from mlops_assets.tracking.runs import ParentRun, cut
from mlops_assets.tracking.throttling import patiently

logger = logging.getLogger(__name__)

SEARCH = "search"
TRIAL = "trial"
BACKTEST = "backtest"
_MAX_MESSAGE = 500
_global_uri = threading.Lock()


@dataclass(frozen=True)
class Store:
    """An experiment in a tracking store, and the registry beside it."""

    client: MlflowClient
    experiment_id: str
    uri: str
    registry_uri: str

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Make this store MLflow's global one while a function runs that knows no other; one thread at a time."""
        with _global_uri:
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.registry_uri)
            yield

    @contextmanager
    def open_run(self, name: str, tags: Mapping[str, str], stage: str = SEARCH) -> Iterator[ParentRun]:
        """Open a parent run for the length of a block.

        Only a run of stage `SEARCH` is ever registered.

        The run ends FINISHED, FAILED when the block raises an error, or KILLED when it is interrupted (cancelled in
        the UI, SIGINT, SIGTERM as Dagster delivers it). A process that dies without a word is closed by the next
        one, see `close_abandoned`.

        Raises:
            TrackingError: MLflow refuses a request or can't be reached, before, in or after the block.
        """
        with self.answering():
            self.close_abandoned()
            labelled = {**cut(tags), RUN_NAME_TAG: name, STAGE_TAG: stage, PROCESS_TAG: this_process()}
            opened = patiently(lambda: self.client.create_run(self.experiment_id, tags=labelled))
            run = ParentRun(self, opened.info.run_id)
            try:
                yield run
                patiently(lambda: self.client.set_terminated(run.run_id, "FINISHED"))
            except Exception:
                self._break_off(run, "FAILED")
                raise
            except BaseException:  # an interrupt: KeyboardInterrupt or Dagster's own
                self._break_off(run, "KILLED")
                raise

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what MLflow raises in a block into the one error that users read.

        Raises:
            TrackingError: MLflow refuses a request, or can't be reached although it could a moment ago.
        """
        try:
            yield
        except MlflowException as error:
            said = without_credentials(str(error).partition("\n")[0])
            raise TrackingError(
                f"MLflow refused a request or went away: {said[:_MAX_MESSAGE]}",
                where=without_credentials(self.uri),
                fix="see to the MLflow server or its disk, then run again",
            ) from error

    def close_abandoned(self) -> list[str]:
        """End the runs, as KILLED, that processes of this machine left open when they died; return their ids."""
        ended = []
        marked = f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` != ''"
        for run in patiently(lambda: self.client.search_runs([self.experiment_id], marked)):
            if _has_died(run.data.tags[PROCESS_TAG]):
                self.client.set_terminated(run.info.run_id, "KILLED")
                ended.append(run.info.run_id)
        return ended

    def latest_search(self, tags: Mapping[str, str]) -> str | None:
        """Return the id of the newest finished search with these tags, or None."""
        wanted = {STAGE_TAG: SEARCH, **tags}
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
        found = self.client.search_runs(
            [self.experiment_id],
            f"attributes.status = 'FINISHED' and {condition}",
            order_by=["attributes.end_time DESC"],
            max_results=1,
        )
        return found[0].info.run_id if found else None

    def _break_off(self, run: ParentRun, status: str) -> None:
        """End a search, and the child that an interrupt may have caught between the requests that write it.

        An error is on its way: it matters more than a store that is gone, too.
        """
        try:
            self.client.set_terminated(run.run_id, status)
            open_children = f"attributes.status = 'RUNNING' and tags.`{PARENT_TAG}` = '{run.run_id}'"
            for child in self.client.search_runs([self.experiment_id], open_children):
                self.client.set_terminated(child.info.run_id, "KILLED")
        except (MlflowException, OSError) as error:
            logger.warning("MLflow run %s could not be closed as %s: %s", run.run_id, status, error)


def without_credentials(text: str) -> str:
    """Return the text without the user and the password of any address in it."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def this_process() -> str:
    """Return the tag by which `close_abandoned` knows whether a run's process is still there."""
    return f"{platform.node()}:{os.getpid()}:{_start_of(os.getpid())}"


def _has_died(process: str) -> bool:
    """Return whether a process tag names a process of this machine that is no more."""
    host, _, rest = process.partition(":")
    pid, _, start = rest.partition(":")
    if host != platform.node() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return start != _start_of(int(pid)) if start else False


def _start_of(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; nothing for a zombie, or where there is no /proc.

    A number alone says little: in a container every run may have the number of the one that was killed before it.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from field 3 of proc(5) on; the name before it may hold blanks
    return "" if fields[0] in "ZX" else fields[19]
