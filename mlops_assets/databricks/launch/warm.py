"""Clusters that stay after a step for the next one of the same Dagster run, seen from the launching side.

What belongs here: which run waits, handing it a step, and its end. What does not: how it waits (`request_loop`), a run
of one's own (`submission`), whether a later step wants it (`resources.launcher`).

Steps may be launched by processes of their own, so a waiting run is noted as a tag of the Dagster run, which only
Dagster can write. A tag that is lost (Dagster writes all tags of a run at once) or out of date costs a cluster start
and nothing else: the ticket decides who gets the cluster, and every run of an ended Dagster run is cancelled.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.request_loop import TAKEN, Ticket
from mlops_assets.errors import LaunchError

if TYPE_CHECKING:
    import dagster as dg

    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.spec import LaunchSpec
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.launch.uploads import Uploaded

TAG: Final = "databricks_warm/"
_TAKING_S = 60.0
_ENDING_S = 30.0
_PAUSE_S = 0.5


@dataclass(frozen=True)
class WarmCluster:
    """A run whose cluster can take more than one step.

    Attributes:
        run_id: The run on Databricks.
        kind: Digest of what its steps have in common; only a step of the same kind can follow.
        tickets: Name of its tickets in staging, up to their number.
        taken: How many steps have followed the first.
        is_idle: Whether it waits.
    """

    run_id: int
    kind: str
    tickets: str
    taken: int = 0
    is_idle: bool = False


class WarmClusters:
    """The waiting runs of one workspace, for launches of one cost class.

    Args:
        api: The workspace.
        staging: Where launches store their files.
        spec: How to launch.
    """

    def __init__(self, api: Api, staging: Staging, spec: LaunchSpec) -> None:
        self._api, self._staging, self._spec = api, staging, spec

    def instructions(self, attempt: Attempt, has_followers: Callable[[], bool]) -> dict[str, Any] | None:
        """Return `reuse` of a request, None if the cluster ends with the step.

        Args:
            attempt: The step.
            has_followers: Whether a later step of the same Dagster run can use its cluster.
        """
        if not self._spec.reuse_seconds or not has_followers():
            return None
        return {
            "seconds": self._spec.reuse_seconds,
            "limit_seconds": self._spec.timeout_seconds,
            "tickets": self._staging.scripts.on_cluster(_tickets(attempt)),
        }

    def started(self, run_id: int, attempt: Attempt, uploaded: Uploaded) -> WarmCluster:
        """Return what a run that was just submitted will be once its step has ended."""
        return WarmCluster(run_id, self._kind(uploaded), _tickets(attempt))

    def take(
        self, context: dg.StepExecutionContext, uploaded: Uploaded, folder: str, sha256: str, key: str
    ) -> WarmCluster | None:
        """Hand a step to a waiting run; None if no run takes it, so that it needs one of its own.

        Args:
            context: The step.
            uploaded: What its Dagster run shares.
            folder: The launch's folder in staging, with its request.
            sha256: Hash of the request, in hexadecimal.
            key: The launch's key, hexadecimal.

        Raises:
            LaunchError: A run took it and was cancelled at that moment; the workspace does not answer.
        """
        if not self._spec.reuse_seconds:
            return None
        ticket = Ticket(sha256, key, self._staging.on_cluster(folder))
        for cluster in _noted(context):
            if cluster.is_idle and cluster.kind == self._kind(uploaded):
                following = replace(cluster, taken=cluster.taken + 1, is_idle=False)
                if self._hand_over(following, ticket, folder, context.log.warning):
                    _note(context, following)
                    return following
        return None

    def keep(self, context: dg.StepExecutionContext, cluster: WarmCluster) -> None:
        """Note that a run waits now."""
        _note(context, replace(cluster, is_idle=True))
        context.log.info(
            f"The cluster of Databricks run {cluster.run_id} waits up to {self._spec.reuse_seconds:g} s for the next "
            "step of this run."
        )

    def end_idle(self, context: dg.StepExecutionContext) -> None:
        """Cancel what waits for steps of a Dagster run that has failed or is being cancelled."""
        for cluster in _noted(context):
            if cluster.is_idle:
                self._cancel(cluster.run_id, context.log.warning)

    def end(self, dagster_run: dg.DagsterRun) -> None:
        """Cancel every run of a Dagster run that has ended; without notes of waiting ones no call is made."""
        if any(name.startswith(TAG) for name in dagster_run.tags):
            for run in submission.active_runs(self._api):
                if Attempt.dagster_run_of(str(run.get("run_name") or "")) == dagster_run.run_id:
                    submission.cancel(self._api, int(run["run_id"]))

    def _kind(self, uploaded: Uploaded) -> str:
        spec = self._spec
        shared: Mapping[str, Any] = {
            "cluster": spec.cluster,
            "libraries": [dict(library) for library in (*spec.libraries, *uploaded.libraries)],
            "code": uploaded.code_sha256,
            "env": dict(spec.env),
            "secrets": dict(spec.secrets),
            "python_on_workers": spec.python_on_workers,
        }
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]

    def _hand_over(self, cluster: WarmCluster, ticket: Ticket, folder: str, warn: Callable[[str], object]) -> bool:
        """Whether a run has taken a step. A run that does not take it is cancelled, so that it can't do so later."""
        if submission.look(self._api, cluster.run_id).life_cycle != "RUNNING":
            return False
        name, content, taken = f"{cluster.tickets}-{cluster.taken}.txt", ticket.encode(), f"{folder}/{TAKEN}"
        try:
            if not self._staging.scripts.put_once(name, content):
                return False  # another step was faster
            deadline = time.monotonic() + _TAKING_S
            while time.monotonic() < deadline:
                if self._staging.exists(taken):
                    return True
                if submission.look(self._api, cluster.run_id).has_ended:
                    return self._staging.exists(taken)  # then its watch finds out how it ended
                time.sleep(_PAUSE_S)
        except BaseException:
            self._cancel(cluster.run_id, warn)
            raise
        warn(f"Databricks run {cluster.run_id} was to wait for this step and did not take it; starting a new cluster.")
        self._cancel(cluster.run_id, warn)
        self._await_end(cluster.run_id)
        if self._staging.exists(taken):
            raise LaunchError(
                f"Databricks run {cluster.run_id} took the step when it was already being cancelled",
                where=f"{self._staging.root}/{folder}",
                fix="launch it again; if it happens often, set `reuse_minutes: 0` in the profile",
                transient=True,
            )
        return False

    def _await_end(self, run_id: int) -> None:
        deadline = time.monotonic() + _ENDING_S
        while not submission.look(self._api, run_id).has_ended and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def _cancel(self, run_id: int, warn: Callable[[str], object]) -> None:
        try:
            submission.cancel(self._api, run_id)
        except (LaunchError, DatabricksError) as error:
            warn(f"Databricks run {run_id} could not be cancelled ({error}); it waits for its time limit.")


def _tickets(attempt: Attempt) -> str:
    return f"{attempt.dagster_run}/next-{attempt.token[:16]}"


def _noted(context: dg.StepExecutionContext) -> Iterator[WarmCluster]:
    """Yield the runs of this Dagster run that can take more than one step, as they were noted last."""
    run = context.instance.get_run_by_id(context.run_id)
    for name, text in ({} if run is None else run.tags).items():
        if name.startswith(TAG):
            yield WarmCluster(**json.loads(text))


def _note(context: dg.StepExecutionContext, cluster: WarmCluster) -> None:
    context.instance.add_run_tags(context.run_id, {f"{TAG}{cluster.run_id}": json.dumps(asdict(cluster))})
