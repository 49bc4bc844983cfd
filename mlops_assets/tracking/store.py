"""An experiment in MLflow: opens runs, finds them, and always closes them with the right status.

What belongs here: the life cycle of a run. What does not: writing into it (`runs`), connecting (`connection`), the
registry (`registry/`), Dagster.

This module only uses the client interface with explicit run ids. MLflow's fluent interface keeps the "active run" of a
thread in a global variable, so runs of parallel assets could be mixed up or left open.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import PARENT_TAG, PROCESS_TAG, RUN_NAME_TAG, STAGE_TAG
from mlops_assets.processes import has_died, this_process
from mlops_assets.tracking.runs import ParentRun, cut
from mlops_assets.tracking.throttling import is_transient, patiently

logger = logging.getLogger(__name__)

SEARCH = "search"
TRIAL = "trial"
BACKTEST = "backtest"
_MAX_MESSAGE = 500
_global_uri = threading.Lock()


@dataclass(frozen=True)
class Store:
    """An experiment in a tracking store, with its registry."""

    client: MlflowClient
    experiment_id: str
    uri: str
    registry_uri: str

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Make this store MLflow's global one for functions that accept no other; one thread at a time."""
        with _global_uri:
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.registry_uri)
            yield

    @contextmanager
    def open_run(self, name: str, tags: Mapping[str, str], stage: str = SEARCH) -> Iterator[ParentRun]:
        """Open a parent run for the length of a block.

        Only runs of stage `SEARCH` are ever registered.

        The run ends FINISHED, FAILED when the block raises an error, or KILLED when it is interrupted (cancelled in
        the UI, SIGINT, SIGTERM as Dagster delivers it). If the process dies, the next process closes its run, see
        `close_abandoned`.

        Raises:
            TrackingError: MLflow rejects a request or can't be reached, before, in or after the block.
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
        """Turn MLflow's errors in a block into one readable error.

        Raises:
            TrackingError: MLflow rejects a request, or can't be reached any more.
        """
        try:
            yield
        except MlflowException as error:
            message = without_credentials(str(error).partition("\n")[0])
            raise TrackingError(
                f"MLflow rejected a request or can't be reached: {message[:_MAX_MESSAGE]}",
                where=without_credentials(self.uri),
                fix="check the MLflow server and its disk, then run again",
                transient=is_transient(error),
            ) from error

    def close_abandoned(self) -> list[str]:
        """Mark runs as KILLED that dead processes of this machine left open; return their ids."""
        ended = []
        marked = f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` != ''"
        for run in patiently(lambda: self.client.search_runs([self.experiment_id], marked)):
            if has_died(run.data.tags[PROCESS_TAG]):
                self.client.set_terminated(run.info.run_id, "KILLED")
                ended.append(run.info.run_id)
        return ended

    def latest_search(self, tags: Mapping[str, str]) -> str | None:
        """Return the id of the newest finished search with these tags, or None."""
        required = {STAGE_TAG: SEARCH, **tags}
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in required.items())
        runs = self.client.search_runs(
            [self.experiment_id],
            f"attributes.status = 'FINISHED' and {condition}",
            order_by=["attributes.end_time DESC"],
            max_results=1,
        )
        return runs[0].info.run_id if runs else None

    def _break_off(self, run: ParentRun, status: str) -> None:
        """End a search, and any child run that an interrupt left half written.

        The caller is about to raise an error, which matters more than a store that fails as well.
        """
        try:
            self.client.set_terminated(run.run_id, status)
            open_children = f"attributes.status = 'RUNNING' and tags.`{PARENT_TAG}` = '{run.run_id}'"
            for child in self.client.search_runs([self.experiment_id], open_children):
                self.client.set_terminated(child.info.run_id, "KILLED")
        except (MlflowException, OSError) as error:
            logger.warning("MLflow run %s could not be closed as %s: %s", run.run_id, status, error)


def without_credentials(text: str) -> str:
    """Return the text with user and password removed from any address in it."""
    return re.sub(r"://[^/@\s]+@", "://", text)
