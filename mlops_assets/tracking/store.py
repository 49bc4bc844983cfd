"""MLflow runs of a search: one parent a materialization, one child a trial, always closed with the right status.

What belongs here: everything that writes to MLflow's tracking store. What does not: the registry (`registry/`),
what the values mean, Dagster.

Only the client interface with explicit run ids is used. MLflow's fluent interface keeps the "active run" of a thread
in a global; that is how runs of parallel assets come to be mixed up or left open.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from mlops_assets.errors import TrackingError
from mlops_assets.tracking.throttling import patiently

if TYPE_CHECKING:
    import pandas as pd
    import xgboost as xgb

logger = logging.getLogger(__name__)

STAGE = "mlops_assets.stage"
PROCESS = "mlops_assets.process"
PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
SEARCH = "search"
TRIAL = "trial"
BACKTEST = "backtest"
PROBABILITY = "probability_of_fraud"
MODEL_NAME = "model"
_MAX_TAG = 4_000
# SQLAlchemy's name for it, and PostgreSQL's.
_INSERTED_TWICE = ("IntegrityError", "UniqueViolation")
_MAX_MESSAGE = 500
_global_uri = threading.Lock()


@dataclass(frozen=True)
class TableInput:
    """A pinned table that a run has read.

    Attributes:
        name: Table.
        location: Path, or three-level name.
        version: Delta version.
        role: What it was used for: training, validation or test.
    """

    name: str
    location: str
    version: int
    role: str


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
            labelled = {**cut(tags), NAME: name, STAGE: stage, PROCESS: this_process()}
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
        marked = f"attributes.status = 'RUNNING' and tags.`{PROCESS}` != ''"
        for run in patiently(lambda: self.client.search_runs([self.experiment_id], marked)):
            if _has_died(run.data.tags[PROCESS]):
                self.client.set_terminated(run.info.run_id, "KILLED")
                ended.append(run.info.run_id)
        return ended

    def latest_search(self, tags: Mapping[str, str]) -> str | None:
        """Return the id of the newest finished search with these tags, or None."""
        wanted = {STAGE: SEARCH, **tags}
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
            open_children = f"attributes.status = 'RUNNING' and tags.`{PARENT}` = '{run.run_id}'"
            for child in self.client.search_runs([self.experiment_id], open_children):
                self.client.set_terminated(child.info.run_id, "KILLED")
        except (MlflowException, OSError) as error:
            logger.warning("MLflow run %s could not be closed as %s: %s", run.run_id, status, error)


@dataclass(frozen=True)
class ParentRun:
    """A search's run while it is open."""

    store: Store
    run_id: str

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write params, metrics and tags in one request."""
        written = now()
        patiently(
            lambda: self.store.client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, written, 0) for name, value in (metrics or {}).items()],
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, value) for name, value in cut(tags or {}).items()],
            )
        )

    def log_inputs(self, tables: list[TableInput]) -> None:
        """Note the pinned tables as the run's data sets."""
        inputs = []
        for table in tables:
            named = {"path" if "/" in table.location else "delta_table_name": table.location}
            source = DeltaDatasetSource(**named, delta_table_version=table.version)
            dataset = MetaDataset(source=source, name=table.name, digest=f"v{table.version}")
            entity = dataset._to_mlflow_entity()  # noqa: SLF001 - what `mlflow.log_input` calls, without its active run
            inputs.append(DatasetInput(entity, tags=[InputTag("mlflow.data.context", table.role)]))
        try:
            patiently(lambda: self.store.client.log_inputs(self.run_id, datasets=inputs))
        except MlflowException as error:
            # Two runs that are the first to name a data set both insert it, and MLflow's store fails for the second,
            # which finds it when it looks again. The request changes nothing when it is repeated.
            if not any(name in str(error) for name in _INSERTED_TWICE):
                raise
            patiently(lambda: self.store.client.log_inputs(self.run_id, datasets=inputs))

    def log_files(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write artifacts from memory: file name to content."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            patiently(lambda: self.store.client.log_artifacts(self.run_id, scratch, folder))

    def read_file(self, path: str) -> bytes:
        """Return an artifact's content."""
        return read_artifact(self.store, self.run_id, path)

    def log_model(self, model: xgb.Booster, example: pd.DataFrame, params: Mapping[str, object]) -> str:
        """Write the model, with the signature of what it serves, and return its URI.

        A plain booster is logged, not a scikit-learn wrapper: MLflow serves `predict`, which for a wrapper is the
        label; for a booster it is the probability of fraud, which is what the signature promises. It is stored in
        XGBoost's own format, so loading it unpickles nothing.

        Args:
            model: The trained booster.
            example: A few rows of features as a caller would send them (float64).
            params: Shown beside the model.
        """
        signature = ModelSignature(
            inputs=Schema([ColSpec("double", str(name)) for name in example.columns]),
            outputs=Schema([ColSpec("float", PROBABILITY)]),
        )
        shown = {name: str(value) for name, value in params.items()}
        client, experiment_id = self.store.client, self.store.experiment_id
        with self.store.selected():
            logged = patiently(
                lambda: client.create_logged_model(
                    experiment_id, name=MODEL_NAME, source_run_id=self.run_id, params=shown
                )
            )
            patiently(
                lambda: Model.log(
                    artifact_path=None,
                    flavor=mlflow.xgboost,
                    run_id=self.run_id,
                    model_id=logged.model_id,
                    xgb_model=model,
                    signature=signature,
                    input_example=example,
                    pip_requirements=_serving_requirements(),
                )
            )
            patiently(lambda: client.finalize_logged_model(logged.model_id, "READY"))
        return f"models:/{logged.model_id}"


def read_artifact(store: Store, run_id: str, path: str) -> bytes:
    """Return an artifact's content.

    Raises:
        TrackingError: The run has no such artifact, or its store can't be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return Path(store.client.download_artifacts(run_id, path, scratch)).read_bytes()
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"artifact {path} can't be read: {error}",
                where=f"MLflow run {run_id}",
                fix="materialize `tuned_model` again",
            ) from None


def _serving_requirements() -> list[str]:
    return [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "pandas", "xgboost-cpu")]


def cut(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags that every store takes."""
    return {name: str(value)[:_MAX_TAG] for name, value in tags.items()}


def now() -> int:
    """Return the time as MLflow wants it: milliseconds since 1970."""
    return int(time.time() * 1000)


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
