"""How many clusters the main job starts, with and without `reuse_minutes`.

What belongs here: counting from the job itself and the profile. What does not: what a start costs (docs), whether the
workspace can start them (`clusters`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dagster as dg

from mlops_assets.databricks.preflight import Finding
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.diagnostics.findings import ok
from mlops_assets.resources.placement import cluster_starts, places_of_steps
from mlops_assets.spec import FraudModelSpec

_MAIN = "main"


def check_starts(
    profile: DatabricksProfile, definitions: dg.Definitions, models: Iterable[FraudModelSpec]
) -> Iterator[Finding]:
    """Yield how many clusters the main job of each model starts."""
    clusters = {"loader": profile.clusters.loader, "trials": profile.clusters.trials}
    started = {name for name, cluster in clusters.items() if cluster.starts_cluster}
    kept = {name for name, cluster in clusters.items() if cluster.reuse_minutes}
    for spec in models:
        job = definitions.resolve_job_def(spec.prefixed(_MAIN))
        places = [place for place in places_of_steps(job).values() if place in started]
        now, without, all_kept = (cluster_starts(places, reused) for reused in (kept, set(), started))
        other = f"{without} without reuse_minutes" if kept else f"{all_kept} with reuse_minutes of the clusters"
        yield ok(f"cluster starts of {job.name}", f"{now}" if all_kept == without else f"{now} ({other})")
