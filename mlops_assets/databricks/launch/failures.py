"""What went wrong with a launch, in words.

What belongs here: turning states, codes and messages of the platform into what is wrong and what to do.
What does not: calls (`api`, `watch`), Dagster (`launcher`).

Codes are those of `databricks.sdk.service.compute.TerminationReasonCode` and `jobs.TerminationCodeCode`; the words of a
run that waited for its cluster are "Cluster '...' was terminated. Reason: <CODE> (<TYPE>). Parameters: ...".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlops_assets.errors import LaunchError

_REASON = re.compile(r"Reason: (?P<code>[A-Z_]+)")
_CHEAPER = "choose another node type or zone, an instance pool, or on-demand machines (`spot: false`)"
_MEMORY = "it most often ran out of memory, so choose a larger `driver_node_type`"
# Part of a code -> what it means, what to do. The first that fits is taken.
_CODES: Final[tuple[tuple[str, str, str], ...]] = (
    ("QUOTA", "the cloud account's quota is used up", "ask for a higher quota, use fewer workers or smaller machines"),
    ("SPOT_INSTANCE_TERMINATION", "the cloud took a spot machine back", f"try again; if it happens often, {_CHEAPER}"),
    ("SPOT", "no spot machine could be had", _CHEAPER),
    ("STOCKOUT", "the cloud has no such machine free (spot or on-demand)", _CHEAPER),
    ("INSUFFICIENT", "the cloud has no such machine free (spot or on-demand)", _CHEAPER),
    ("INSTANCE_POOL_MAX_CAPACITY", "the instance pool is full", "raise its capacity, or wait for other runs to end"),
    ("INSTANCE_POOL", "the instance pool can't be used", "correct `instance_pool_id` in the profile"),
    ("INSTANCE_TYPE", "this node type can't be launched here", "choose another `node_type` in the profile"),
    ("NODE_TYPE", "this node type can't be launched here", "choose another `node_type` in the profile"),
    (
        "SECRET_RESOLUTION",
        "a secret that the cluster refers to can't be read",
        "check `secrets` of the profile: scope, key, and READ for the identity that launches",
    ),
    (
        "LIBRARY_INSTALLATION",
        "a library can't be installed on the cluster",
        "see its name in the message; check that the cluster reaches the package index, or take another `runtime`",
    ),
    ("INIT_SCRIPT", "an init script failed", "see its log on the cluster's page"),
    ("DRIVER", "the driver died or can't be reached", f"try again; at the same place again: {_MEMORY}"),
    ("PERMISSION", "the identity that launches may not do this", "see the message; grant it the right"),
    ("RESOURCE_NOT_FOUND", "a file of the launch is not there", "check `staging_path` of the profile and the rights"),
)
# After these the same step may well succeed on another machine.
_PASSING = ("SPOT", "STOCKOUT", "INSUFFICIENT", "DRIVER_ERROR", "CLOUD_FAILURE", "COMMUNICATION_LOST", "BOOTSTRAP")


@dataclass(frozen=True)
class RunView:
    """A run as `runs/get` tells it.

    Attributes:
        run_id: Its id.
        life_cycle: `jobs.RunLifeCycleState`.
        result: `jobs.RunResultState`, empty before its end.
        message: The state message.
        code: `jobs.TerminationCodeCode` of run or task, empty before its end.
        url: Its page.
        task_run_id: Id of its only task's run, which has the output.
        cluster_id: Its cluster, once there is one.
    """

    run_id: int
    life_cycle: str
    result: str
    message: str
    code: str
    url: str
    task_run_id: int | None
    cluster_id: str | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RunView:
        """Return the view of a `jobs.Run`."""
        task = (document.get("tasks") or [{}])[0]
        state, own = document.get("state") or {}, task.get("state") or {}
        details = (document.get("status") or {}).get("termination_details") or {}
        own_details = (task.get("status") or {}).get("termination_details") or {}
        cluster = task.get("cluster_instance") or document.get("cluster_instance") or {}
        return cls(
            run_id=int(document["run_id"]),
            life_cycle=str(state.get("life_cycle_state", "")),
            result=str(state.get("result_state") or ""),
            # The task's own words; the run only repeats them in a sentence.
            message=str(own.get("state_message") or state.get("state_message") or ""),
            code=str(own_details.get("code") or details.get("code") or ""),
            url=str(document.get("run_page_url") or ""),
            task_run_id=task.get("run_id"),
            cluster_id=cluster.get("cluster_id"),
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen, and how it ended is known."""
        return self.life_cycle in ("INTERNAL_ERROR", "SKIPPED") or (
            self.life_cycle == "TERMINATED" and self.result != ""
        )

    @property
    def has_started(self) -> bool:
        """Whether its script may run or have run."""
        return self.life_cycle not in ("", "PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY")

    @property
    def lost_cluster(self) -> bool:
        """Whether its cluster did not start, or ended before the task did."""
        return bool(_REASON.search(self.message))

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.result == "SUCCESS"

    @property
    def state(self) -> str:
        """How far it is, in one line."""
        words = f"{self.life_cycle} {self.result}".strip()
        return f"{words}: {self.message}" if self.message else words


@dataclass(frozen=True)
class Reason:
    """Why a run ended before its step did.

    Attributes:
        what: What happened.
        fix: What to do.
        is_passing: Whether the same step may succeed on another machine.
    """

    what: str
    fix: str
    is_passing: bool


def reason_of(view: RunView, *, cluster_code: str = "") -> Reason:
    """Return why a run ended without a word of its step.

    Args:
        view: The ended run.
        cluster_code: `termination_reason.code` of its cluster, if known.
    """
    if view.result == "TIMEDOUT":
        return Reason("it took longer than allowed", "raise `timeout_minutes` of the cluster in the profile", False)
    if view.result == "CANCELED":
        return Reason("it was cancelled on Databricks", "see its page for who did it; launch it again", False)
    found = _REASON.search(view.message)
    codes = [code for code in (cluster_code, found["code"] if found else "", view.code) if code]
    passing = any(part in code for code in codes for part in _PASSING)
    for code in codes:
        for part, what, fix in _CODES:
            if part in code:
                return Reason(what, fix, passing)
    return Reason("it ended without a report of its step", "see its page and the driver's log there", passing)


def refused_submission(message: str, *, where: str) -> LaunchError:
    """Return the error for a submission that the workspace refuses."""
    text = message.lower()
    known = (
        ("node type", "choose one of the named types as `node_type` in the profile"),
        ("policy", "make the profile's cluster follow the policy, or change `policy_id`"),
        ("pool", "correct `instance_pool_id` and `driver_instance_pool_id` in the profile"),
        ("spark version", "choose another `runtime` or `spark_version` in the profile"),
        ("permission", "correct `permissions` of the cluster in the profile, or grant the right that is named"),
        ("quota", "wait for other runs to end, or ask for a higher limit"),
    )
    fix = next((what for word, what in known if word in text), "correct the cluster in the profile as the message says")
    return LaunchError(f"the workspace refuses the run: {message}", where=where, fix=fix)


def tail(text: str, *, lines: int = 40, characters: int = 6_000) -> str:
    """Return the end of a text, whole lines of it."""
    kept = "\n".join(text.rstrip().splitlines()[-lines:])
    return kept if len(kept) <= characters else "... " + kept[-characters:]
