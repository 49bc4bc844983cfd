"""The step launcher, which Dagster calls instead of running a step itself.

What belongs here: Dagster's side of a launch: the step's reference goes out, its events come in, its end is reported
once. What does not: the workspace's side, which is in the other modules of this package.

Two rules of Dagster shape it. After the event that ends a step nothing may be raised (Dagster no longer regards the
step as in flight), so that event is held back until the run has ended. And a step that fails here, not on the cluster,
fails by an exception of its launcher.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import dagster as dg
from databricks.sdk.errors.base import DatabricksError

from mlops_assets.dagster_internals import (
    EngineEventData,
    ModuleCodePointer,
    PackageCodePointer,
    StepEventStatus,
    StepFailureData,
    UserFailureData,
    copy,
)
from mlops_assets.databricks.launch import cluster_main, submission
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.code import pack, root_of
from mlops_assets.databricks.launch.failures import RunView, reason_of, tail
from mlops_assets.databricks.launch.run_steps import executes_whole_run, planned_steps
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import Staging, staging_of
from mlops_assets.databricks.launch.watch import Watch, WatchEvent
from mlops_assets.errors import LaunchError, PlatformError

_TAIL_CHARACTERS = 20_000


@dataclass
class _Launch:
    """The state of one launch.

    Attributes:
        context: The step.
        attempt: Its attempt.
        folder: Its folder in staging.
        run_id: Its run, once submitted.
        stderr: The end of what the step printed to stderr on the cluster.
        failure: The report of the script on the cluster, if it could not run the step to its end.
        last: The event that ends the step, once it has arrived.
        failed: Whether it failed; True until it is known to have succeeded.
    """

    context: dg.StepExecutionContext
    attempt: Attempt
    folder: str
    run_id: int | None = None
    stderr: str = ""
    failure: dict[str, str] | None = None
    last: dg.EventLogEntry | None = None
    failed: bool = True


class DatabricksStepLauncher(dg.StepLauncher):
    """Runs steps of one Dagster run on Databricks, each as a run of its own.

    Args:
        api: The workspace.
        spec: How to launch.
    """

    # Dagster runs whose files are kept; launchers of several cost classes share a run's folder.
    _kept: ClassVar[set[str]] = set()

    def __init__(self, api: Api, spec: LaunchSpec) -> None:
        self._api, self._spec = api, spec
        self._staging: Staging = staging_of(api, spec.staging, spec.staging_path, script_folder=spec.script_folder)
        self._staged: dict[str, tuple[str, str]] = {}
        self._whole: dict[str, bool] = {}

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Run a step on Databricks and yield its events; called by Dagster.

        Raises:
            dagster.Failure: It could not be launched, or its run ended before the step reported its end.
            dagster.RetryRequested: The same, where the op has a retry policy.
        """
        attempt = Attempt.of(step_context)
        launch = _Launch(step_context, attempt, attempt.folder)
        watch: Watch | None = None
        try:
            with dg.raise_execution_interrupts():
                python_file = self._stage(launch)
            launch.run_id = submission.submit(self._api, self._submission(launch, python_file))
            watch = Watch(self._api, self._staging, launch.folder, launch.run_id, self._spec, step_context.log.warning)
            with dg.raise_execution_interrupts():
                yield from self._follow(launch, watch)
            launch.failed = launch.last is None or _is_failure(launch.last)
        except PlatformError as error:
            self._cancel(launch, watch)
            self._raise(launch, watch, str(error))
        except BaseException as error:
            self._cancel(launch, watch)
            if isinstance(error, DatabricksError):
                self._raise(launch, watch, f"the workspace rejected a call: {error}")
            raise
        finally:
            self._clean_up(launch)
        if launch.last is None:
            self._raise(launch, watch, "", transient=True)
        yield from self._end(launch, launch.last, watch)

    # --- before the submit --------------------------------------------------------------------------------------------

    def _stage(self, launch: _Launch) -> str:
        """Upload what the run needs and return its `python_file`."""
        run_id, context = launch.attempt.dagster_run, launch.context
        if run_id not in self._staged:
            code = pack(self._spec.packages, forbidden=self._api.secrets)
            name = f"{run_id}/{code.name}"
            # Another launcher of this Dagster run may have uploaded it.
            if not self._staging.exists(name):
                self._staging.put(name, code.data)
                context.log.info(
                    f"Code of this run: {len(code.files)} files, {len(code.data) / 1024:.0f} KB, {code.name}"
                )
            script = Path(cluster_main.__file__).read_bytes()
            script_name = f"{run_id}/cluster_main-{hashlib.sha256(script).hexdigest()[:12]}.py"
            self._staged[run_id] = (self._staging.on_cluster(name), self._staging.put_script(script_name, script))
            self._whole[run_id] = executes_whole_run(context)
        code_path, python_file = self._staged[run_id]
        existing = self._spec.existing_cluster_id is not None
        request = {
            "step_key": launch.attempt.step,
            "step": _step_fields(context, str(root_of(self._spec.packages[0]))),
            "code": code_path,
            "versions": dict(self._spec.versions),
            "python_on_workers": self._spec.python_on_workers,
            "env": dict(self._spec.env) if existing else {},
            "secrets": dict(self._spec.secrets) if existing else {},
            "flush_seconds": self._spec.poll_seconds,
            "orphan_seconds": self._spec.orphan_seconds,
        }
        self._staging.put(f"{launch.folder}/request.json", json.dumps(request).encode())
        return python_file

    def _submission(self, launch: _Launch, python_file: str) -> dict[str, Any]:
        parameters = [self._staging.on_cluster(launch.folder)]
        return submission.submission(self._spec, launch.attempt, python_file=python_file, parameters=parameters)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _follow(self, launch: _Launch, watch: Watch) -> Iterator[dg.DagsterEvent]:
        linked = False
        for progress in watch.follow():
            if progress.view is not None:
                if not linked:
                    linked = True
                    yield self._link(launch, progress.view)
                launch.context.log.info(f"Databricks run {launch.run_id}: {progress.view.state}")
            yield from self._take(launch, progress)

    def _take(self, launch: _Launch, progress: WatchEvent) -> Iterator[dg.DagsterEvent]:
        record = progress.record or {}
        kind = record.get("kind")
        if kind == "event":
            entry = dg.deserialize_value(record["entry"], dg.EventLogEntry)
            if _ends_step(entry, launch.attempt.step):
                launch.last = entry
            else:
                yield from _forward(launch.context, entry)
        elif kind == "stdout":
            sys.stdout.write(record["text"])
        elif kind == "stderr":
            launch.stderr = (launch.stderr + record["text"])[-_TAIL_CHARACTERS:]
            sys.stderr.write(record["text"])
        elif kind == "warning":
            launch.context.log.warning(f"Cluster and launching side differ: {record['text']}")
        elif kind == "failure":
            launch.failure = record

    def _link(self, launch: _Launch, view: RunView) -> dg.DagsterEvent:
        return dg.DagsterEvent.from_step(
            event_type=dg.DagsterEventType.ENGINE_EVENT,
            step_context=launch.context,
            message=f"Launched as Databricks run {view.run_id}.",
            event_specific_data=EngineEventData(metadata=_page(view)),
        )

    # --- its end ------------------------------------------------------------------------------------------------------

    def _end(self, launch: _Launch, entry: dg.EventLogEntry, watch: Watch) -> Iterator[dg.DagsterEvent]:
        """Yield the event that ends the step, with what the run's end adds to it."""
        view = watch.view
        if view is not None and view.has_ended and not view.succeeded and not _is_failure(entry):
            launch.context.log.warning(
                f"The step succeeded, but its Databricks run ended as {view.state} afterwards: {view.url}"
            )
        yield from _forward(launch.context, _with_run(entry, view, launch.stderr) if view else entry)

    def _raise(self, launch: _Launch, watch: Watch | None, problem: str, *, transient: bool = False) -> NoReturn:
        """Fail the step in Dagster, with everything known about its run.

        Args:
            launch: The launch.
            watch: The watch over its run, if there is one.
            problem: What went wrong on this side; empty if the run ended by itself.
            transient: Whether the op's retry policy applies if the reason is a transient one.
        """
        view = watch.view if watch else None
        metadata: dict[str, Any] = _page(view) if view else {}
        details, stderr = "", launch.stderr
        if launch.failure is not None:
            problem = problem or (
                launch.failure["text"]
                if not launch.failure["trace"]
                else f"the step could not be run on the cluster: {launch.failure['type']}: {launch.failure['text']}"
            )
            details = launch.failure["trace"]
        elif view is not None and not problem:
            answer = submission.output(self._api, view)
            reason = reason_of(view, cluster_code=submission.termination_code(self._api, view))
            transient = transient and reason.is_transient
            summary = f": {answer['error']}" if answer.get("error") and answer["error"] != view.message else ""
            problem = f"Databricks run {view.run_id} failed, {reason.what}. {view.state}{summary} Fix: {reason.fix}"
            details, stderr = answer.get("error_trace") or "", stderr or answer.get("logs") or ""
        if details:
            metadata["traceback on the cluster"] = dg.MetadataValue.md(f"```\n{tail(details)}\n```")
        if stderr:
            metadata["end of stderr"] = dg.MetadataValue.md(f"```\n{tail(stderr)}\n```")
        text = "\n\n".join(
            part for part in (problem, tail(details) if details else "", view.url if view else "") if part
        )
        failure = dg.Failure(description=text, metadata=metadata)
        policy = launch.context.op_retry_policy
        if policy is not None and transient and launch.failure is None:
            delay = policy.calculate_delay(launch.attempt.number + 1)
            raise dg.RetryRequested(policy.max_retries, delay) from failure
        raise failure from None

    def _cancel(self, launch: _Launch, watch: Watch | None) -> None:
        """Cancel a run that will not be watched any more."""
        if launch.run_id is None or (watch is not None and watch.view is not None and watch.view.has_ended):
            return
        try:
            submission.cancel(self._api, launch.run_id)
        except Exception as error:  # noqa: BLE001 - the error that led here must be raised
            launch.context.log.error(  # noqa: TRY400 - the text says it all
                f"Databricks run {launch.run_id} could not be cancelled ({error}). It ends by itself after "
                f"{self._spec.orphan_seconds:g} s without a heartbeat."
            )
        else:
            launch.context.log.info(f"Databricks run {launch.run_id} was cancelled.")

    # --- cleaning up --------------------------------------------------------------------------------------------------

    def _clean_up(self, launch: _Launch) -> None:
        run_id = launch.attempt.dagster_run
        if launch.failed and self._spec.keep_staging_on_failure:
            self._kept.add(run_id)
            launch.context.log.info(f"Staged files are kept: {self._staging.root}/{launch.folder}")
            return
        self._remove(launch.folder, launch.context)

    def close(self, instance: dg.DagsterInstance) -> None:
        """Remove the staged files of this launcher's Dagster runs, unless other processes still need them."""
        for run_id in self._staged:
            if run_id in self._kept or not (self._whole[run_id] or self._is_over(instance, run_id)):
                continue
            self._remove(run_id, None)
            with contextlib.suppress(Exception):
                self._staging.remove_scripts(run_id)
        self._staged.clear()

    def _is_over(self, instance: dg.DagsterInstance, run_id: str) -> bool:
        """Whether all steps of a run whose steps run in processes of their own have ended, with no files to keep."""
        run = instance.get_run_by_id(run_id)
        if run is None:
            return False
        ended = [stats for stats in instance.get_run_step_stats(run_id) if stats.end_time is not None]
        failed = any(stats.status == StepEventStatus.FAILURE for stats in ended)
        if failed and self._spec.keep_staging_on_failure:
            return False
        return planned_steps(instance, run) <= {stats.step_key for stats in ended}

    def _remove(self, folder: str, context: dg.StepExecutionContext | None) -> None:
        try:
            self._staging.remove(folder)
        except Exception as error:  # noqa: BLE001 - files that stay must not fail a step that has ended
            if context is not None:
                context.log.warning(f"Staged files could not be removed ({self._staging.root}/{folder}): {error}")


# --- the step's reference -------------------------------------------------------------------------------------------


def _step_fields(context: dg.StepExecutionContext, root: str) -> dict[str, str]:
    """Return the fields of Dagster's `StepRunRef` in its own serialization, without this machine's own paths."""
    reference = dg.step_context_to_step_run_ref(context, root)
    job = reference.recon_job
    pointer = job.repository.pointer
    if not isinstance(pointer, (ModuleCodePointer, PackageCodePointer)):
        raise LaunchError(
            f"the code location is not a module ({pointer.describe()})",
            where="workspace.yaml or the -f option",
            fix="load it as a module (`-m mlops_assets.definitions`): the cluster can import that",
        )
    # Paths of this machine mean nothing there, and a container's settings may contain secrets.
    repository = job.repository._replace(
        pointer=pointer._replace(working_directory=None), executable_path=None, container_context=None
    )
    run = copy(reference.dagster_run, remote_job_origin=None, job_code_origin=None)
    fields = reference._replace(recon_job=job._replace(repository=repository), dagster_run=run)._asdict()
    return {name: dg.serialize_value(value) for name, value in fields.items()}


# --- events -----------------------------------------------------------------------------------------------------------


def _ends_step(entry: dg.EventLogEntry, step: str) -> bool:
    event = entry.dagster_event
    if event is None or event.step_key != step:
        return False
    return event.is_step_success or event.is_step_failure or event.is_step_up_for_retry or event.is_step_skipped


def _is_failure(entry: dg.EventLogEntry) -> bool:
    event = entry.dagster_event
    return event is not None and (event.is_step_failure or event.is_step_up_for_retry)


def _forward(context: dg.StepExecutionContext, entry: dg.EventLogEntry) -> Iterator[dg.DagsterEvent]:
    context.instance.handle_new_event(entry)
    if entry.dagster_event is not None:
        yield entry.dagster_event


def _with_run(entry: dg.EventLogEntry, view: RunView, stderr: str) -> dg.EventLogEntry:
    """Return the event of a failed step with link, state message and end of stderr of its run."""
    event = entry.dagster_event
    data = event.event_specific_data if event is not None else None
    if event is None or not isinstance(data, StepFailureData):
        return entry
    own = data.user_failure_data
    metadata: dict[str, Any] = {**(own.metadata if own else {}), **_page(view)}
    if stderr:
        metadata["end of stderr"] = dg.MetadataValue.md(f"```\n{tail(stderr)}\n```")
    shown = UserFailureData(own.label if own else "databricks", own.description if own else None, metadata)
    return entry._replace(
        dagster_event=event._replace(
            event_specific_data=StepFailureData(data.error, shown, error_source=data.error_source)
        )
    )


def _page(view: RunView) -> dict[str, Any]:
    link = {"Databricks run": dg.MetadataValue.url(view.url)} if view.url else {}
    return {**link, "state": view.state}
