"""The check that the Dagster instance launches no more steps at once than the profile allows.

What belongs here: reading the limit, which only a Dagster instance knows. What does not: setting it (`instance`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops_assets.databricks.preflight import Finding
from mlops_assets.deployment import LAUNCH_POOL

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from mlops_assets.deployment import Deployment


def launch_limit(deployment: Deployment, instance: DagsterInstance) -> Iterator[Finding]:
    """Compare the Dagster instance's limit of the launch pool with the profile's."""
    if deployment.target != "databricks":
        return
    storage = instance.event_log_storage
    limits = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    limit = limits.get(LAUNCH_POOL, storage.get_pool_config().default_pool_limit)
    wanted = deployment.profile().max_concurrent_launches
    if limit == wanted:
        yield Finding("ok", "launches", f"{wanted} at once")
        return
    is_now = "no limit" if limit is None else f"a limit of {limit}"
    fix = f"dagster instance concurrency set {LAUNCH_POOL} {wanted} (`mlops ui` sets it by itself)"
    yield Finding("warning", "launches", f"{is_now}, but the profile sets {wanted}; run {fix}")
