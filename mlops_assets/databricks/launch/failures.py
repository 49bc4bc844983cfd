"""Explains why a launch failed.

What belongs here: turning states, codes and messages of the platform into what happened and how to fix it.
What does not: calls (`api`, `watch`), Dagster (`launcher`).

Codes are those of `databricks.sdk.service.compute.TerminationReasonCode` and `jobs.TerminationCodeCode`; the message
of a run whose cluster did not start is "Cluster '...' was terminated. Reason: <CODE> (<TYPE>). Parameters: ...".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlops_assets.errors import LaunchError

_REASON = re.compile(r"Reason: (?P<code>[A-Z_]+)")
_CAPACITY = "choose another node type or zone, an instance pool, or on-demand machines (`spot: false`)"
_MEMORY = "it most likely ran out of memory: choose a larger `driver_node_type`"
# Part of a code, what it means, how to fix it. The first match is used.
_CODES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "QUOTA",
        "the cloud account's quota is used up",
        "request a higher quota, or use fewer workers or smaller machines",
    ),
    ("SPOT_INSTANCE_TERMINATION", "the cloud reclaimed a spot machine", f"try again; if it happens often, {_CAPACITY}"),
    ("SPOT", "no spot capacity was available", _CAPACITY),
    ("STOCKOUT", "the cloud has no capacity for this machine type (spot or on-demand)", _CAPACITY),
    ("INSUFFICIENT", "the cloud has no capacity for this machine type (spot or on-demand)", _CAPACITY),
    ("INSTANCE_POOL_MAX_CAPACITY", "the instance pool is full", "raise its capacity, or wait for other runs to end"),
    ("INSTANCE_POOL", "the instance pool can't be used", "correct `instance_pool_id` in the profile"),
    ("INSTANCE_TYPE", "this node type can't be launched here", "choose another `node_type` in the profile"),
    ("NODE_TYPE", "this node type can't be launched here", "choose another `node_type` in the profile"),
    (
        "SECRET_RESOLUTION",
        "a secret that the cluster refers to can't be read",
        "check scope and key in `secrets` of the profile, and that the launching identity has READ on the scope",
    ),
    (
        "LIBRARY_INSTALLATION",
        "a library can't be installed on the cluster",
        "check that the cluster can reach the package index, or choose another `runtime`",
    ),
    ("INIT_SCRIPT", "an init script failed", "see its log on the cluster's page"),
    ("DRIVER", "the driver died or can't be reached", f"try again; if it fails at the same place, {_MEMORY}"),
    ("PERMISSION", "the launching identity lacks a permission", "grant the permission that the message names"),
    (
        "RESOURCE_NOT_FOUND",
        "a file of the launch is missing",
        "check `staging_path` in the profile and the permissions on it",
    ),
)
# After these the same step may succeed on another machine, or once other runs have ended.
_TRANSIENT = (
    *("SPOT", "STOCKOUT", "INSUFFICIENT", "QUOTA", "MAX_CAPACITY", "DRIVER_ERROR", "CLOUD_FAILURE"),
    *("COMMUNICATION_LOST", "BOOTSTRAP"),
)


@dataclass(frozen=True)
class RunView:
    """A run as `runs/get` returns it.

    Attributes:
        run_id: Its id.
        life_cycle: `jobs.RunLifeCycleState`.
        result: `jobs.RunResultState`, empty while it runs.
        message: The state message.
        code: `jobs.TerminationCodeCode` of run or task, empty while it runs.
        url: Its page.
        task_run_id: Run id of its only task, which has the output.
        cluster_id: Its cluster, once it has one.
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
            # The task's own message, which the run's only quotes.
            message=str(own.get("state_message") or state.get("state_message") or ""),
            code=str(own_details.get("code") or details.get("code") or ""),
            url=str(document.get("run_page_url") or ""),
            task_run_id=task.get("run_id"),
            cluster_id=cluster.get("cluster_id"),
        )

    @property
    def has_ended(self) -> bool:
        """Whether it has ended and its result is known."""
        return self.life_cycle in ("INTERNAL_ERROR", "SKIPPED") or (
            self.life_cycle == "TERMINATED" and self.result != ""
        )

    @property
    def has_started(self) -> bool:
        """Whether its script may be running or have run."""
        return self.life_cycle not in ("", "PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY")

    @property
    def lost_cluster(self) -> bool:
        """Whether its cluster did not start, or ended before the task did."""
        return bool(_REASON.search(self.message))

    @property
    def succeeded(self) -> bool:
        """Whether it ended with success."""
        return self.result == "SUCCESS"

    @property
    def state(self) -> str:
        """Life cycle, result and message in one line."""
        states = f"{self.life_cycle} {self.result}".strip()
        return f"{states}: {self.message}" if self.message else states


@dataclass(frozen=True)
class Reason:
    """Why a run ended before its step did.

    Attributes:
        what: What happened.
        fix: How to fix it.
        is_transient: Whether the same step may succeed on another machine, or a little later.
    """

    what: str
    fix: str
    is_transient: bool


def reason_of(view: RunView, *, cluster_code: str = "") -> Reason:
    """Return why a run ended without a report from its step.

    Args:
        view: The ended run.
        cluster_code: `termination_reason.code` of its cluster, if known.
    """
    if view.result == "TIMEDOUT":
        return Reason("it took longer than allowed", "raise `timeout_minutes` of the cluster in the profile", False)
    if view.result == "CANCELED":
        return Reason("it was cancelled on Databricks", "launch it again; its page says who cancelled it", False)
    match = _REASON.search(view.message)
    codes = [code for code in (cluster_code, match["code"] if match else "", view.code) if code]
    transient = any(part in code for code in codes for part in _TRANSIENT)
    for code in codes:
        for part, what, fix in _CODES:
            if part in code:
                return Reason(what, fix, transient)
    return Reason("it ended without a report from its step", "look at its page and the driver's log there", transient)


def refused_submission(message: str, *, where: str) -> LaunchError:
    """Return the error for a submission that the workspace rejects."""
    text = message.lower()
    known = (
        ("node type", "choose one of the listed types as `node_type` in the profile"),
        ("policy", "make the cluster in the profile comply with the policy, or change `policy_id`"),
        ("pool", "correct `instance_pool_id` and `driver_instance_pool_id` in the profile"),
        ("spark version", "choose another `runtime` or `spark_version` in the profile"),
        (
            "permission",
            "correct `permissions` of the cluster in the profile, or grant the permission that the message names",
        ),
        ("quota", "wait for other runs to end, or request a higher limit"),
    )
    fix = next((fix for word, fix in known if word in text), "correct the cluster in the profile as the message says")
    # Too many runs at once; the other reasons need somebody to change something.
    return LaunchError(f"the workspace rejected the run: {message}", where=where, fix=fix, transient="quota" in text)


def tail(text: str, *, lines: int = 40, characters: int = 6_000) -> str:
    """Return the last lines of a text."""
    kept = "\n".join(text.rstrip().splitlines()[-lines:])
    return kept if len(kept) <= characters else "... " + kept[-characters:]
