"""An errand: one small task on the cluster of loaders, outside of Dagster, whose answers come back as JSON.

What belongs here: sending it, waiting for it, cleaning up. What does not: what it does there (`errand_on_cluster`),
what is asked and what the answers mean (`first_run`, `cost`).

It goes the way of a launched step: the same staging, cluster, libraries and identity. Its run has no mark of Dagster in
its name, so the reaper leaves it alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.failures import reason_of
from mlops_assets.databricks.launch.staging import staging_of
from mlops_assets.errors import LaunchError
from mlops_assets.resources.launcher import launch_spec

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.profile import DatabricksProfile

ANSWERS, SEEN = "answers.json", "seen.json"
_ENDED: Final = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
_LOOK_S = 0.5
# A file of a volume may be readable here somewhat later than it was closed there.
_SETTLE_S = 60.0


def run_errand(
    profile: DatabricksProfile, credentials: Mapping[str, str], name: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Run checks on the cluster of loaders and return their answers.

    Args:
        profile: The Databricks environment.
        credentials: By the names of databricks-sdk; if empty, the SDK looks for them.
        name: Name of the run.
        request: `checks`, names of functions of `errand_on_cluster`, and what these need.

    Returns:
        `checks`, one dictionary (`level`, `text`, and what else it says) for each; `run`, the address of the run's
        page; `seconds`, from the submission to the end; `seen_after_s`, seconds between the moment at which a file was
        closed on the cluster, by its clock, and the one at which it could be read here.

    Raises:
        LaunchError: The workspace refuses it, or it ends without answers.
    """
    api = Api(Credentials(profile.host, **credentials, unified=not credentials))
    spec = launch_spec(profile, "loader", env={})
    staging = staging_of(api, spec.staging, spec.staging_path, script_folder=spec.script_folder)
    key = f"{name}-{int(time.time())}-{uuid.uuid4().hex[:8]}"
    document = json.dumps({**request, "folder": staging.on_cluster(key)}).encode()
    script = (resources.files("mlops_assets.diagnostics") / "errand_on_cluster.py").read_bytes()
    try:
        staging.put(f"{key}/request.json", document)
        python_file = staging.scripts.put(f"{key}/errand.py", script)
        content = spec.requirements.encode()
        libraries = [{"requirements": staging.scripts.put(f"{key}/requirements.txt", content)}] if content else []
        body = submission.submission(
            spec,
            Attempt(key, name, name, 0),
            python_file=python_file,
            parameters=[staging.on_cluster(f"{key}/request.json"), hashlib.sha256(document).hexdigest()],
            libraries=libraries,
        )
        body["run_name"] = name
        started = time.monotonic()
        run_id = submission.submit(api, body)
        try:
            answers = _followed(api, staging, key, run_id)
        except BaseException:
            with contextlib.suppress(Exception):  # it ends by its time limit
                submission.cancel(api, run_id)
            raise
        return {**answers, "seconds": round(time.monotonic() - started, 1)}
    finally:
        for remove in (staging.remove, staging.scripts.remove):
            with contextlib.suppress(Exception):  # what stays does no harm, and must not hide an error
                remove(key)


def _followed(api: Api, staging: Staging, key: str, run_id: int) -> dict[str, Any]:
    seen: float | None = None
    view = submission.look(api, run_id)
    while view.life_cycle not in _ENDED:
        if seen is None and (noted := staging.get(f"{key}/{SEEN}")):
            seen = time.time() - float(json.loads(noted)["closed_at"])
        time.sleep(_LOOK_S)
        view = submission.look(api, run_id)
    deadline = time.monotonic() + _SETTLE_S
    while view.result == "SUCCESS" and (found := staging.get(f"{key}/{ANSWERS}")) is None:
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    if view.result != "SUCCESS" or found is None:
        reason = reason_of(view, cluster_code=submission.termination_code(api, view))
        said = submission.output(api, view).get("error") or view.message
        raise LaunchError(f"{reason.what}: {said}", where=view.url, fix=reason.fix, transient=reason.is_transient)
    return {"checks": json.loads(found), "run": view.url, "seen_after_s": None if seen is None else round(seen, 1)}
