"""The settings of a launch, as plain values.

What belongs here: fields, their defaults and units. What does not: where they come from (`resources.launcher` makes a
spec from a profile), how they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

StagingKind = Literal["volume", "dbfs"]


@dataclass(frozen=True)
class LaunchSpec:
    """How steps of one cost class are launched.

    Attributes:
        cluster: The `new_cluster` object of the Jobs API; empty with one of the next two.
        existing_cluster_id: All-purpose cluster to run on instead.
        environment_version: Version of the serverless environment to run in instead.
        libraries: `libraries` of the task.
        requirements: Content of a requirements file that is one more of them; only with `staging: volume`.
        staging: Storage for code, events and logs: a Unity Catalog `volume` or `dbfs`.
        staging_path: Folder for them, `/Volumes/<catalog>/<schema>/<volume>[/...]` or `dbfs:/...`.
        script_folder: Workspace folder for the main script with `staging: volume`; defaults to one in the home
            folder of the launching identity, which others can't write to.
        packages: Import names of the packages that are sent.
        python_on_workers: Whether Python functions that Spark runs on the workers can import the packages.
        env: Environment variables of the step's process, in the request; no secrets.
        secrets: The same, each with the `<scope>/<key>` that the step's process reads it from.
        versions: Versions of the launching side, as `dataclasses.asdict(preflight.local_versions())`; empty skips the
            comparison.
        job_permissions: `access_control_list` of the submission.
        cluster_permissions: The same for the run's cluster.
        budget_policy_id: Budget policy of the run.
        timeout_seconds: Time limit, after which the workspace ends the run.
        reuse_seconds: How long the cluster of a step waits for another step of the same Dagster run; 0 to end it.
        keep_staging_on_failure: Whether the staged files of a failed step are kept.
        poll_seconds: Longest pause between two polls of a run; after a change polls are more frequent.
        orphan_seconds: A step on the cluster ends itself when its launcher has sent no heartbeat for this long.
        settle_seconds: How long to wait for the end of a run whose step has reported its own end.
        retry_seconds: How long a call that fails for a transient reason is retried.
    """

    cluster: Mapping[str, Any]
    libraries: Sequence[Mapping[str, Any]] = ()
    requirements: str = ""
    staging: StagingKind = "volume"
    staging_path: str = ""
    existing_cluster_id: str | None = None
    environment_version: str = ""
    script_folder: str = ""
    packages: tuple[str, ...] = ("mlops_assets",)
    python_on_workers: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    job_permissions: Sequence[Mapping[str, str]] = ()
    cluster_permissions: Sequence[Mapping[str, str]] = ()
    budget_policy_id: str | None = None
    timeout_seconds: int = 2 * 60 * 60
    reuse_seconds: float = 0.0
    keep_staging_on_failure: bool = True
    poll_seconds: float = 5.0
    orphan_seconds: float = 600.0
    settle_seconds: float = 60.0
    retry_seconds: float = 120.0
