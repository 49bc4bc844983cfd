"""What a launch needs to know, as plain values.

What belongs here: fields, their defaults and units. What does not: where they come from (`resources.launcher` makes a
spec of a profile), what is done with them.
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
        cluster: The `new_cluster` object of the Jobs API; empty with `existing_cluster_id`.
        existing_cluster_id: All-purpose cluster to run on instead.
        libraries: `libraries` of the task.
        staging: Where code, events and logs are kept: a Unity Catalog `volume` or `dbfs`.
        staging_path: Folder for them, `/Volumes/<catalog>/<schema>/<volume>[/...]` or `dbfs:/...`.
        script_folder: Workspace folder for the main script with `staging: volume`; by default one in the home folder
            of the launching identity, which nobody else may write to.
        packages: Import names of the packages that travel.
        python_on_workers: Whether the packages can be imported by Python that Spark runs on the workers.
        env: Environment variables of the step; nothing secret.
        secrets: Environment variables of the step and the `<scope>/<key>` that each is read from, on the cluster.
        versions: What the launching side has, as `dataclasses.asdict(preflight.local_versions())`; empty compares
            nothing.
        job_permissions: `access_control_list` of the submission.
        cluster_permissions: The same for the cluster that the run gets.
        timeout_seconds: After which the workspace ends the run.
        keep_staging_on_failure: Whether the staged files of a failed step are kept.
        poll_seconds: Longest time between two looks at a run; after a change it is looked at more often.
        orphan_seconds: A step on the cluster ends itself when its launcher has not given a sign of life for so long.
        settle_seconds: How long to wait for the end of a run whose step has reported its own end.
        retry_seconds: How long a call that fails for a passing reason is tried again.
    """

    cluster: Mapping[str, Any]
    libraries: Sequence[Mapping[str, Any]] = ()
    staging: StagingKind = "volume"
    staging_path: str = ""
    existing_cluster_id: str | None = None
    script_folder: str = ""
    packages: tuple[str, ...] = ("mlops_assets",)
    python_on_workers: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    job_permissions: Sequence[Mapping[str, str]] = ()
    cluster_permissions: Sequence[Mapping[str, str]] = ()
    timeout_seconds: int = 2 * 60 * 60
    keep_staging_on_failure: bool = True
    poll_seconds: float = 5.0
    orphan_seconds: float = 600.0
    settle_seconds: float = 60.0
    retry_seconds: float = 120.0
