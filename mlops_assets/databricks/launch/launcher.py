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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

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
from mlops_assets.databricks.launch.accepted import own_tags, refusal
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.code import root_of
from mlops_assets.databricks.launch.failures import RunView, tail
from mlops_assets.databricks.launch.launched import LaunchedRun, page_of
from mlops_assets.databricks.launch.run_steps import ended_steps, planned_steps, steps_to_come
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.uploads import Uploaded, Uploads
from mlops_assets.databricks.launch.warm import WarmCluster, WarmClusters
from mlops_assets.databricks.launch.watch import Watch
from mlops_assets.errors import LaunchError, PlatformError
from mlops_assets.foreign_text import printable
from mlops_assets.retries import again


@dataclass(kw_only=True)
class _Launch(LaunchedRun):
    """The state of one launch.

    Attributes:
        context: The step.
        attempt: Its attempt.
        cluster: The cluster that it has got from an earlier step.
        last: The event that ends the step, once it has arrived.
        failed: Whether it failed; True until it is known to have succeeded.
    """

    context: dg.StepExecutionContext
    attempt: Attempt
    cluster: WarmCluster | None = None
    last: dg.EventLogEntry | None = None
    failed: bool = True


class DatabricksStepLauncher(dg.StepLauncher):
    """Runs steps of one Dagster run on Databricks, each as a run of its own or on the cluster of an earlier one.

    Args:
        api: The workspace.
        spec: How to launch.
        has_followers: Whether a later step of the Dagster run can use a step's cluster; by default if there is one.
    """

    def __init__(
        self,
        api: Api,
        spec: LaunchSpec,
        has_followers: Callable[[dg.StepExecutionContext], bool] = lambda step: bool(steps_to_come(step)),
    ) -> None:
        self._api, self._spec, self._has_followers = api, spec, has_followers
        self._uploads = Uploads(api, spec, Path(cluster_main.__file__))
        self._staging = self._uploads.staging
        self._warm = WarmClusters(api, self._staging, spec)

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Run a step on Databricks and yield its events; called by Dagster.

        Raises:
            dagster.Failure: It could not be launched, or its run ended before the step reported its end.
            dagster.RetryRequested: The same, for a transient reason.
        """
        attempt = Attempt.of(step_context)
        launch = _Launch(log=step_context.log, folder=attempt.folder, context=step_context, attempt=attempt)
        try:
            with dg.raise_execution_interrupts():
                uploaded, sha256 = self._stage(launch)
                launch.cluster = self._warm.take(step_context, uploaded, launch.folder, sha256, launch.key)
            run_id = launch.run_id = self._run_of(launch, uploaded, sha256)
            watch = Watch(self._api, self._staging, launch.folder, launch.key, run_id, self._spec, launch.log.warning)
            launch.watch = watch
            with dg.raise_execution_interrupts():
                yield from self._follow(launch, watch)
            launch.failed = launch.last is None or _is_failure(launch.last)
            if watch.stays:
                self._warm.keep(step_context, launch.cluster or self._warm.started(run_id, attempt, uploaded))
        except PlatformError as error:
            launch.cancel(self._api, self._spec.orphan_seconds)
            self._raise(launch, str(error), transient=error.transient)
        except BaseException as error:
            launch.cancel(self._api, self._spec.orphan_seconds)
            if isinstance(error, DatabricksError):
                self._raise(launch, f"the workspace rejected a call: {error}")
            raise
        finally:
            if launch.failed:
                self._warm.end_idle(step_context)
            self._uploads.release(step_context, launch.folder, failed=launch.failed)
        if launch.last is None:
            self._raise(launch, "")
        yield from self._end(launch, launch.last)

    # --- before the submit --------------------------------------------------------------------------------------------

    def _stage(self, launch: _Launch) -> tuple[Uploaded, str]:
        """Upload what the run needs; return what its Dagster run shares, and the SHA-256 of its request."""
        uploaded = self._uploads.of(launch.context)
        request = {
            "step_key": launch.attempt.step,
            "step": _step_fields(launch.context, str(root_of(self._spec.packages[0]))),
            "reuse": self._warm.instructions(launch.attempt, lambda: self._has_followers(launch.context)),
            **self._uploads.instructions(uploaded),
        }
        content = json.dumps(request).encode()
        self._staging.put(f"{launch.folder}/request.json", content)
        return uploaded, hashlib.sha256(content).hexdigest()

    def _run_of(self, launch: _Launch, uploaded: Uploaded, sha256: str) -> int:
        """Return the run on Databricks in which the step is; without a cluster that took it, submit one."""
        if launch.cluster is not None:
            return launch.cluster.run_id
        body = submission.submission(
            self._spec,
            launch.attempt,
            python_file=uploaded.python_file,
            parameters=[self._staging.on_cluster(launch.folder), sha256, launch.key],
            libraries=uploaded.libraries,
        )
        return submission.submit(self._api, body)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _follow(self, launch: _Launch, watch: Watch) -> Iterator[dg.DagsterEvent]:
        linked = False
        for progress in watch.follow():
            if progress.view is not None:
                if not linked:
                    linked = True
                    yield self._link(launch, progress.view)
                launch.log.info(f"Databricks run {launch.run_id}: {progress.view.state}")
            if progress.record is not None:
                yield from self._take(launch, progress.record)

    def _take(self, launch: _Launch, record: dict[str, Any]) -> Iterator[dg.DagsterEvent]:
        if record["kind"] == "tags":
            launch.context.instance.add_run_tags(launch.context.run_id, own_tags(record["tags"]))
            return
        if record["kind"] != "event":
            launch.take(record)
            return
        entry = dg.deserialize_value(record["entry"], dg.EventLogEntry)
        if reason := refusal(entry, run_id=launch.context.run_id, step=launch.attempt.step):
            launch.log.warning(f"Somebody else writes to {launch.folder}: {printable(reason)} was not taken.")
        elif _ends_step(entry, launch.attempt.step):
            launch.last = entry
        else:
            yield from _forward(launch.context, entry)

    def _link(self, launch: _Launch, view: RunView) -> dg.DagsterEvent:
        return dg.DagsterEvent.from_step(
            event_type=dg.DagsterEventType.ENGINE_EVENT,
            step_context=launch.context,
            message=f"Launched as Databricks run {view.run_id}."
            if launch.cluster is None
            else f"Launched in Databricks run {view.run_id}, whose cluster an earlier step has started.",
            event_specific_data=EngineEventData(metadata=page_of(view)),
        )

    # --- its end ------------------------------------------------------------------------------------------------------

    def _end(self, launch: _Launch, entry: dg.EventLogEntry) -> Iterator[dg.DagsterEvent]:
        """Yield the event that ends the step, with what the run's end adds to it."""
        view = launch.view
        if view is not None and view.has_ended and not view.succeeded and not _is_failure(entry):
            launch.log.warning(
                f"The step succeeded, but its Databricks run ended as {view.state} afterwards: {view.url}"
            )
        yield from _forward(launch.context, _with_run(entry, launch))

    def _raise(self, launch: _Launch, problem: str, *, transient: bool = False) -> NoReturn:
        """Fail the step in Dagster, with everything known about its run.

        Args:
            launch: The launch.
            problem: What went wrong on this side; empty if the run ended by itself.
            transient: Whether that may pass; of a run that ended by itself, its reason says so.
        """
        view, report, trace = launch.view, launch.failure, ""
        if report is not None:
            text, trace = report["text"], report["trace"]
            broke = f"the step could not be run on the cluster: {report['type']}: {text}"
            problem = problem or (broke if trace else text)
        elif view is not None and not problem:
            problem, trace, transient = launch.ending(self._api, view)
        text = "\n\n".join(part for part in (problem, tail(trace), view.url if view else "") if part)
        failure = dg.Failure(description=text, metadata=launch.evidence(trace))
        if transient and report is None:
            raise again(launch.attempt.number, launch.context.op_retry_policy) from failure
        raise failure from None

    # --- cleaning up --------------------------------------------------------------------------------------------------

    def close(self, instance: dg.DagsterInstance) -> None:
        """End what this launcher's Dagster runs have left, unless other processes still need it."""
        for run_id, is_whole in self._uploads.runs().items():
            run = instance.get_run_by_id(run_id)
            if run is not None and (is_whole or planned_steps(instance, run) <= ended_steps(instance, run_id)):
                with contextlib.suppress(LaunchError, DatabricksError):  # the reaper ends what stays
                    self._warm.end(run)
        self._uploads.close(lambda run_id: self._is_over(instance, run_id))

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


def _with_run(entry: dg.EventLogEntry, launch: LaunchedRun) -> dg.EventLogEntry:
    """Return the event of a failed step with link, state message and end of stderr of its run."""
    event = entry.dagster_event
    data = event.event_specific_data if event is not None else None
    if event is None or not isinstance(data, StepFailureData):
        return entry
    own = data.user_failure_data
    metadata: dict[str, Any] = {**(own.metadata if own else {}), **launch.evidence()}
    shown = UserFailureData(own.label if own else "databricks", own.description if own else None, metadata)
    return entry._replace(
        dagster_event=event._replace(
            event_specific_data=StepFailureData(data.error, shown, error_source=data.error_source)
        )
    )
