"""Dagster's own Pipes client with this project's submit and watch, for one run.

What belongs here: the session between the two sides, and the state of a launch. What does not: the files and the
failure of a run (`pipes`), what runs on the cluster (`pipes_main`, `pipes_asset`, `pipes_results`).

`PipesDatabricksClient` (dagster-databricks 0.29.27) is used through its parameters: a context injector, a message
reader, and a client that submits. Its watch is replaced, because it abandons a run when one of its calls fails, and
because it treats an interrupt as the end of the run and goes on as if the run had succeeded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
from dagster_databricks import PipesDatabricksClient
from dagster_pipes import PipesContextData, PipesParams
from databricks.sdk.service.jobs import SubmitTask

from mlops_assets.dagster_internals import EngineEventData
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.accepted import own_tags
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.failures import RunView
from mlops_assets.databricks.launch.launched import LaunchedRun, page_of
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import Staging
from mlops_assets.databricks.launch.watch import Watch

Result = dg.MaterializeResult[Any] | dg.AssetCheckResult
Event = dg.AssetObservation | dg.AssetMaterialization
Reported = Result | Event


@dataclass(kw_only=True)
class PipesLaunch(LaunchedRun):
    """The state of one launch.

    Attributes:
        context: The asset's context.
        messages: Handler of the Pipes messages, once the session is open.
    """

    context: dg.AssetExecutionContext
    messages: dg.PipesMessageHandler | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the asset has reported that it finished without a failure."""
        return self.messages is not None and self.messages.received_closed_message and self.failure is None

    def take(self, record: Mapping[str, Any]) -> None:
        """Handle one report of the script."""
        if record["kind"] == "pipes" and self.messages is not None:  # open while the run is watched
            self.messages.handle_message(record["message"])
        else:
            super().take(record)

    def results(self) -> Iterator[Reported]:
        """Yield the asset's results in their order, completed with what Pipes could not carry; then other events.

        Tags that the asset has added to its run are added here, too.
        """
        if self.messages is None:
            return
        messages = self.messages.get_custom_messages()
        rest = {(each["asset_key"], each["check"]): each for each in messages if "asset_key" in each}
        for result in self.messages.get_reported_results():
            key = "" if result.asset_key is None else result.asset_key.to_escaped_user_string()  # Pipes always sets it
            check = result.check_name if isinstance(result, dg.AssetCheckResult) else None
            yield _completed(result, rest.get((key, check), {}))
        for message in messages:
            if "run_tags" in message:
                self.context.instance.add_run_tags(
                    self.context.op_execution_context.run_id, own_tags(message["run_tags"])
                )
            if "event" in message:
                yield dg.deserialize_value(message["event"], (dg.AssetObservation, dg.AssetMaterialization))


def _completed(result: Result, rest: Mapping[str, Any]) -> Result:
    """Return a result with what was sent beside it (`pipes_results.beyond_pipes`)."""
    exact = {name: dg.deserialize_value(text) for name, text in rest.get("metadata", {}).items()}
    metadata: dict[str, Any] = {**(result.metadata or {}), **exact}
    if isinstance(result, dg.AssetCheckResult):
        return result._replace(metadata=metadata, description=rest.get("description"))
    return result._replace(metadata=metadata, tags=rest.get("tags") or None)


class NotSucceeded(Exception):  # noqa: N818 - not an error of its own: `PipesLaunch` has the details
    """The run has ended, and the asset has not reported success."""


class Interrupted(Exception):  # noqa: N818 - a request, not a failure
    """Dagster asks the step to stop; its Pipes client would swallow Dagster's own exception."""


class DatabricksPipes(PipesDatabricksClient):
    """Dagster's client with this project's submit and watch.

    Args:
        api: The workspace.
        staging: Storage of the launch's folder.
        spec: How to launch.
        launch: The launch, which is kept up to date.
        body: The submission, without the parameters of Pipes.
    """

    def __init__(
        self, api: Api, staging: Staging, spec: LaunchSpec, launch: PipesLaunch, body: Mapping[str, Any]
    ) -> None:
        self._api, self._staging, self._spec, self._launch, self._body = api, staging, spec, launch, body
        super().__init__(
            cast("Any", SimpleNamespace(jobs=self)),
            context_injector=_Injector(staging, launch.folder, launch.key),
            message_reader=_Reader(launch),
        )

    def submit(self, *, tasks: Sequence[SubmitTask]) -> Any:
        """Submit the body with what Dagster's client has added to the task; stands in for `JobsAPI.submit`.

        The body itself is sent, because `SubmitTask` drops fields that the installed SDK does not know.
        """
        (enriched,) = (task.as_dict() for task in tasks)
        task = dict(self._body["tasks"][0])
        task["spark_python_task"] = enriched["spark_python_task"]
        if "new_cluster" in task:
            task["new_cluster"] = {
                **task["new_cluster"],
                "spark_env_vars": enriched["new_cluster"].get("spark_env_vars", {}),
            }
        self._launch.run_id = submission.submit(self._api, {**self._body, "tasks": [task]})
        return SimpleNamespace(bind=lambda: {"run_id": self._launch.run_id})

    def _poll_til_success(self, context: Any, run_id: int) -> None:
        """Watch the run to its end; called by Dagster's client after the submit."""
        del context
        launch = self._launch
        watch = Watch(self._api, self._staging, launch.folder, launch.key, run_id, self._spec, launch.log.warning)
        launch.watch = watch
        try:
            for progress in watch.follow():
                if progress.view is not None:
                    self._show(progress.view)
                if progress.record is not None:
                    launch.take(progress.record)
        except dg.DagsterExecutionInterruptedError:
            raise Interrupted from None
        if not launch.succeeded:
            raise NotSucceeded
        if watch.view is not None and watch.view.has_ended and not watch.view.succeeded:
            launch.log.warning(
                f"The asset succeeded, but its Databricks run ended as {watch.view.state} afterwards: {watch.view.url}"
            )

    def _show(self, view: RunView) -> None:
        text = f"Databricks run {view.run_id}: {view.state}"
        step = self._launch.context.op_execution_context.get_step_execution_context()
        dg.DagsterEvent.engine_event(step, text, EngineEventData(metadata=page_of(view)))

    def _extract_dagster_metadata(self, run_id: int) -> dict[str, Any]:
        """Add nothing to the asset's own metadata: it is the same wherever the asset ran."""
        del run_id
        return {}


class _Injector(dg.PipesContextInjector):
    """Puts the context into the launch's folder."""

    def __init__(self, staging: Staging, folder: str, key: str) -> None:
        self._staging, self._name, self._key = staging, f"{folder}/context.json", key

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Iterator[PipesParams]:
        """See the base class."""
        content = json.dumps(context_data).encode()
        self._staging.put(self._name, content)
        sha256 = hashlib.sha256(content).hexdigest()
        yield {"path": self._staging.on_cluster(self._name), "sha256": sha256, "key": self._key}

    def no_messages_debug_text(self) -> str:
        """See the base class."""
        return f"The context was stored in {self._staging.root}/{self._name}."


class _Reader(dg.PipesMessageReader):
    """Receives messages from the watch, which reads them among the reports of the run."""

    def __init__(self, launch: PipesLaunch) -> None:
        self._launch = launch

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:
        """See the base class."""
        self._launch.messages = handler
        yield {}

    def no_messages_debug_text(self) -> str:
        """See the base class."""
        return f"Messages were expected in {self._launch.folder} of the staging folder."
