"""The launching side of `launcher: pipes`: an asset that runs on Databricks through Dagster's own Pipes client.

What belongs here: the session around a run, its results, and what became of it. What does not: what runs on the cluster
(`pipes_main`, `pipes_asset`), and how a run is submitted, watched and cancelled, which it shares with the step launcher
(`launch`).

`PipesDatabricksClient` (dagster-databricks 0.29.27) is used through what it takes: a context injector, a message
reader, and a client that submits. Its watch is replaced: it leaves a run to itself when one of its calls fails, and it
takes an interrupt for the end of the run and goes on as if the run had succeeded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import dagster as dg
from dagster._core.definitions.metadata.external_metadata import metadata_map_from_external
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._core.pipes.context import PipesMessageHandler
from dagster_databricks import PipesDatabricksClient
from dagster_pipes import PipesContextData, PipesParams
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.jobs import SubmitTask

from mlops_assets.databricks import pipes_main
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.code import pack
from mlops_assets.databricks.launch.failures import LaunchError, RunView, reason_of, tail
from mlops_assets.databricks.launch.launcher import _executes_whole_run, _file_name
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import Staging, staging_of
from mlops_assets.databricks.launch.submission import Attempt
from mlops_assets.databricks.launch.watch import Watch
from mlops_assets.errors import PlatformError

Result = dg.MaterializeResult[Any] | dg.AssetCheckResult
DEFINITIONS = "mlops_assets.definitions:defs"
_TAIL_CHARACTERS = 20_000


class PipesRunner:
    """Runs assets of one Dagster run on Databricks, each as a run of its own.

    An asset that is given one hands over to it: `yield from runner.run(context)`, and nothing else.

    Args:
        api: The workspace.
        spec: How to launch; `spec.poll_seconds` also bounds how late messages and logs arrive.
        definitions: `<module>:<name>` of the `Definitions` whose resources the asset gets on the cluster.
    """

    # Dagster runs of which something is kept; runners of several cost classes share a run's folder.
    _kept: ClassVar[set[str]] = set()

    def __init__(self, api: Api, spec: LaunchSpec, *, definitions: str = DEFINITIONS) -> None:
        self._api, self._spec, self._definitions = api, spec, definitions
        self._staging: Staging = staging_of(api, spec.staging, spec.staging_path, script_folder=spec.script_folder)
        self._staged: dict[str, _Staged] = {}

    def run(self, context: dg.AssetExecutionContext) -> Iterator[Result]:
        """Run the asset of this context on Databricks and yield its results.

        Raises:
            dagster.Failure: The asset failed there, or could not be run. What it reported before is yielded first.
        """
        step = context.op_execution_context.get_step_execution_context()
        attempt = Attempt(context.run.run_id, context.run.job_name, step.step.key, step.previous_attempt_count)
        launch = _Launch(context, f"{attempt.dagster_run}/{_file_name(attempt.step)}-{attempt.number}")
        failure: dg.Failure | None = None
        try:
            staged = self._stage(context, attempt.dagster_run)
            body = submission.submission(self._spec, attempt, python_file=staged.python_file, parameters=[])
            client = _Client(self._api, self._staging, self._spec, launch, body)
            client.run(
                context=context, extras=self._extras(context, staged), task=SubmitTask.from_dict(body["tasks"][0])
            )
        except _NotSucceeded:
            failure = self._failure(launch)
        except _Interrupted:
            raise DagsterExecutionInterruptedError from None
        except (PlatformError, DatabricksError) as error:
            failure = self._failure(launch, error)
        finally:
            self._end(launch)
        yield from launch.results()
        if failure is not None:
            raise failure

    def close(self, instance: dg.DagsterInstance) -> None:
        """Remove what the Dagster runs of this runner have staged, unless another process may still need it.

        Args:
            instance: Not used; a step launcher, which is closed at the same place, asks it.
        """
        del instance
        for run_id, staged in self._staged.items():
            if run_id in self._kept or not staged.is_whole_run:
                continue  # the reaper removes it when the run is over
            with contextlib.suppress(PlatformError, DatabricksError):
                self._staging.remove(run_id)
                self._staging.remove_script(staged.python_file)
        self._staged.clear()

    # --- before the submit --------------------------------------------------------------------------------------------

    def _stage(self, context: dg.AssetExecutionContext, run_id: str) -> _Staged:
        """Put up what all assets of a run share."""
        if run_id not in self._staged:
            code = pack(self._spec.packages, forbidden=self._api.secrets)
            name = f"{run_id}/{code.name}"
            # Another runner of this Dagster run may have been here.
            if not self._staging.exists(name):
                self._staging.put(name, code.data)
                size = len(code.data) / 1024
                context.log.info(f"Code of this run: {len(code.files)} files, {size:.0f} KB, {code.name}")
            script = Path(pipes_main.__file__).read_bytes()
            script_name = f"{run_id}/pipes_main-{hashlib.sha256(script).hexdigest()[:12]}.py"
            python_file = self._staging.put_script(script_name, script)
            step = context.op_execution_context.get_step_execution_context()
            self._staged[run_id] = _Staged(self._staging.on_cluster(name), python_file, _executes_whole_run(step))
        return self._staged[run_id]

    def _extras(self, context: dg.AssetExecutionContext, staged: _Staged) -> dict[str, Any]:
        spec, existing = self._spec, self._spec.existing_cluster_id is not None
        run_config: Mapping[str, Any] = context.op_execution_context.run_config
        ops: Mapping[str, Any] = run_config.get("ops") or {}
        return {
            "asset": _importable(context.assets_def),
            "definitions": self._definitions,
            # As it was given: defaults and types are the travelling code's, as they are here.
            "config": (ops.get(context.op_execution_context.op.name) or {}).get("config"),
            "resources_config": dict(run_config.get("resources") or {}),
            "run_tags": dict(context.run.tags),
            "launch": {
                "code": staged.code,
                "versions": dict(spec.versions),
                "python_on_workers": spec.python_on_workers,
                # A cluster of its own has these from its `spark_env_vars`.
                "env": dict(spec.env) if existing else {},
                "secrets": dict(spec.secrets) if existing else {},
                "flush_seconds": spec.poll_seconds,
                "orphan_seconds": spec.orphan_seconds,
            },
        }

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def _failure(self, launch: _Launch, error: Exception | None = None) -> dg.Failure:
        """Return what Dagster shows of a failed asset: its own words, the run's, and where to look.

        Args:
            launch: The launch.
            error: What went wrong on this side, if it did.
        """
        view, told = launch.view, launch.failure
        if error is not None:
            problem = str(error) if isinstance(error, PlatformError) else f"the workspace refuses: {error}"
            return _failure_of(launch, problem, allow_retries=False)
        if told is not None:
            own = told["failure"]
            if own is not None:
                metadata = dict(metadata_map_from_external(own["metadata"]))
                text = own["description"] or told["text"]
                return _failure_of(launch, text, metadata=metadata, allow_retries=own["allow_retries"])
            text = told["text"] if not told["trace"] else f"{told['type']}: {told['text']}"
            return _failure_of(launch, text, trace=told["trace"], allow_retries=bool(told["trace"]))
        if view is None or view.succeeded:
            problem = f"Databricks run {launch.run_id} succeeded, and its reports did not arrive"
            return _failure_of(launch, f"{problem}. To mend it: check the storage behind {self._staging.root}")
        answer = submission.output(self._api, view)
        reason = reason_of(view, cluster_code=submission.termination_code(self._api, view))
        words = f": {answer['error']}" if answer.get("error") and answer["error"] != view.message else ""
        problem = f"Databricks run {view.run_id} failed, {reason.what}. {view.state}{words} To mend it: {reason.mend}"
        launch.stderr = launch.stderr or answer.get("logs") or ""
        return _failure_of(launch, problem, trace=answer.get("error_trace") or "", allow_retries=reason.is_passing)

    def _end(self, launch: _Launch) -> None:
        """Leave nothing behind: no run that nobody watches, no files that nobody needs."""
        log, run_id = launch.context.log, launch.context.run.run_id
        if launch.run_id is not None and not (launch.view is not None and launch.view.has_ended):
            try:
                submission.cancel(self._api, launch.run_id)
            except (PlatformError, DatabricksError) as error:
                log.error(  # noqa: TRY400 - the text says it all, and the traceback is that of an HTTP client
                    f"Databricks run {launch.run_id} could not be cancelled ({error}). It ends by itself when it has "
                    f"had no sign of life for {self._spec.orphan_seconds:g} s."
                )
            else:
                log.info(f"Databricks run {launch.run_id} was cancelled.")
        if not launch.succeeded and self._spec.keep_staging_on_failure:
            self._kept.add(run_id)
            log.info(f"Staged files are kept: {self._staging.root}/{launch.folder}")
            return
        try:
            self._staging.remove(launch.folder)
        except (PlatformError, DatabricksError) as error:
            log.warning(f"Staged files could not be removed ({self._staging.root}/{launch.folder}): {error}")


@dataclass(frozen=True)
class _Staged:
    """What is put up once for all assets of a run.

    Attributes:
        code: The zip, as the cluster names it.
        python_file: The main script, as the Jobs API names it.
        is_whole_run: Whether this process runs all steps of the run.
    """

    code: str
    python_file: str
    is_whole_run: bool


@dataclass
class _Launch:
    """One launch, as far as it has come.

    Attributes:
        context: The asset's context.
        folder: Its folder in staging.
        run_id: Its run, once it is submitted.
        view: The run, as it was last seen.
        stderr: The end of what was printed there.
        failure: What the script on the cluster reported, if it failed.
        messages: What takes the messages of Pipes, once the session is open.
    """

    context: dg.AssetExecutionContext
    folder: str
    run_id: int | None = None
    view: RunView | None = None
    stderr: str = ""
    failure: dict[str, Any] | None = None
    messages: PipesMessageHandler | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the asset has said that it came to its end."""
        return self.messages is not None and self.messages.received_closed_message and self.failure is None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take one report of the script."""
        kind = record["kind"]
        if kind == "pipes" and self.messages is not None:  # the session is open as long as its run is watched
            self.messages.handle_message(record["message"])
        elif kind == "stdout":
            sys.stdout.write(record["text"])
        elif kind == "stderr":
            self.stderr = (self.stderr + record["text"])[-_TAIL_CHARACTERS:]
            sys.stderr.write(record["text"])
        elif kind == "warning":
            self.context.log.warning(f"Cluster and launching side differ: {record['text']}")
        elif kind == "failure":
            self.failure = dict(record)

    def results(self) -> Iterator[Result]:
        """Yield what the asset has reported, in its order, with what Pipes could not carry."""
        if self.messages is None:
            return
        descriptions = {
            (message["asset_key"], message["check"]): message["description"]
            for message in self.messages.get_custom_messages()
        }
        for result in self.messages.get_reported_results():
            if isinstance(result, dg.AssetCheckResult) and result.asset_key is not None:  # Pipes always has it
                key = (result.asset_key.to_escaped_user_string(), result.check_name)
                yield result._replace(description=descriptions.get(key))
            else:
                yield result


# --- Dagster's client -------------------------------------------------------------------------------------------------


class _NotSucceeded(Exception):  # noqa: N818 - not an error of its own: `_Launch` has what is known
    """The run has ended, and the asset has not said that it succeeded."""


class _Interrupted(Exception):  # noqa: N818 - an order, not a failure
    """Dagster wants the step to end; under its own name, Dagster's client would swallow it."""


class _Client(PipesDatabricksClient):
    """Dagster's client over our submit and watch.

    Args:
        api: The workspace.
        staging: Where the launch's folder is.
        spec: How to launch.
        launch: The launch, which is kept up to date.
        body: The submission, without the parameters of Pipes.
    """

    def __init__(self, api: Api, staging: Staging, spec: LaunchSpec, launch: _Launch, body: Mapping[str, Any]) -> None:
        self._api, self._staging, self._spec, self._launch, self._body = api, staging, spec, launch, body
        super().__init__(
            cast("Any", SimpleNamespace(jobs=self)),
            context_injector=_Injector(staging, launch.folder),
            message_reader=_Reader(launch),
        )

    def submit(self, *, tasks: Sequence[SubmitTask]) -> Any:
        """Submit the body with what Dagster's client has put into the task: stands for `JobsAPI.submit`.

        The body itself is sent, because `SubmitTask` drops what the installed SDK does not know.
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
        watch = Watch(self._api, self._staging, launch.folder, run_id, self._spec, launch.context.log.warning)
        try:
            for progress in watch.follow():
                launch.view = watch.view
                if progress.view is not None:
                    self._show(progress.view)
                if progress.record is not None:
                    launch.take(progress.record)
        except DagsterExecutionInterruptedError:
            raise _Interrupted from None
        finally:
            launch.view = watch.view
        if not launch.succeeded:
            raise _NotSucceeded
        if watch.view is not None and watch.view.has_ended and not watch.view.succeeded:
            launch.context.log.warning(
                f"The asset succeeded, and its Databricks run ended as {watch.view.state} afterwards: {watch.view.url}"
            )

    def _show(self, view: RunView) -> None:
        text = f"Databricks run {view.run_id}: {view.state}"
        step = self._launch.context.op_execution_context.get_step_execution_context()
        dg.DagsterEvent.engine_event(step, text, EngineEventData(metadata=_page(view)))

    def _extract_dagster_metadata(self, run_id: int) -> dict[str, Any]:
        """Add nothing to the asset's own metadata: it is the same, wherever the asset ran."""
        del run_id
        return {}


class _Injector(dg.PipesContextInjector):
    """Puts the context into the launch's folder."""

    def __init__(self, staging: Staging, folder: str) -> None:
        self._staging, self._name = staging, f"{folder}/context.json"

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Iterator[PipesParams]:
        """See the base class."""
        self._staging.put(self._name, json.dumps(context_data).encode())
        yield {"path": self._staging.on_cluster(self._name)}

    def no_messages_debug_text(self) -> str:
        """See the base class."""
        return f"The context was put into {self._staging.root}/{self._name}."


class _Reader(dg.PipesMessageReader):
    """Takes messages from the watch, which finds them among the reports of the run."""

    def __init__(self, launch: _Launch) -> None:
        self._launch = launch

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """See the base class."""
        self._launch.messages = handler
        yield {}

    def no_messages_debug_text(self) -> str:
        """See the base class."""
        return f"Messages were expected in {self._launch.folder} of the staging folder."


# --- helpers ----------------------------------------------------------------------------------------------------------


def _failure_of(
    launch: _Launch,
    text: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    trace: str = "",
    allow_retries: bool = True,
) -> dg.Failure:
    """Return a failure with what is known about the run beside its text."""
    shown = dict(metadata or {})
    if launch.view is not None:
        shown |= _page(launch.view)
        text = f"{text}\n\n{launch.view.url}" if launch.view.url else text
    for title, content in (("traceback on the cluster", trace), ("end of stderr", launch.stderr)):
        if content:
            shown[title] = dg.MetadataValue.md(f"```\n{tail(content)}\n```")
    return dg.Failure(description=text, metadata=shown, allow_retries=allow_retries)


def _page(view: RunView) -> dict[str, Any]:
    link = {"Databricks run": dg.MetadataValue.url(view.url)} if view.url else {}
    return {**link, "state": view.state}


def _importable(asset: dg.AssetsDefinition) -> str:
    """Return `<module>:<name>` of an asset, by which the cluster finds it.

    Raises:
        LaunchError: It has no such name.
    """
    function: Any = getattr(cast("Any", asset.op.compute_fn), "decorated_fn", None)
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", ".")
    if module == "__main__" or "." in name:
        raise LaunchError(
            f"{asset.op.name} can't be imported on the cluster",
            where=f"{module}:{name}",
            mend="define assets by a decorated function at the top level of a module of the travelling packages",
        )
    return f"{module}:{name}"
