"""Stands in for the Databricks CLI where it can't be had: the few commands of `release`, on a loopback workspace.

Usage: as `databricks`; DATABRICKS_HOST and DATABRICKS_TOKEN name the workspace.

What belongs here: `bundle deploy`, `bundle run` and `cluster-policies` by databricks-sdk, from the same
`databricks.yml` (`bundle`). What does not: a real deployment, which is the CLI's. It differs in what the loopback
workspace lacks: jobs are kept in a file beside their code and run as one-time runs, and grants are checked but not
made.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from bundle import BundleError, given_by, problems, resources
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat

_STATE = "jobs.json"


def main() -> int:
    """Run one command and return the exit code."""
    parser = argparse.ArgumentParser(prog="databricks")
    parser.add_argument("area", choices=["bundle", "cluster-policies"])
    parser.add_argument("verb", choices=["deploy", "run", "list", "create", "edit"])
    parser.add_argument("job", nargs="?")
    parser.add_argument("--target", default="")
    parser.add_argument("--var", action="append", default=[])
    parser.add_argument("--json")
    parser.add_argument("--output")
    given = parser.parse_args()
    client = WorkspaceClient(product="databricks-cli", product_version="0.0.0")
    try:
        if given.area == "cluster-policies":
            print(json.dumps(_policies(client, given.verb, json.loads(given.json or "{}"))))
        else:
            user = client.current_user.me().user_name
            known = {f"var.{name}": value for name, _, value in (text.partition("=") for text in given.var)}
            known |= given_by(os.environ)
            known |= {"workspace.host": client.config.host or "", "workspace.current_user.userName": user or ""}
            folder = f"/Users/{user}/.bundle/mlops_assets/{given.target}"
            if given.verb == "deploy":
                _deploy(client, resources(given.target, known, Path.cwd()), folder)
            else:
                return _run(client, folder, given.job)
    except (BundleError, DatabricksError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _policies(client: WorkspaceClient, verb: str, body: dict[str, str]) -> Any:
    if verb == "list":
        return [policy.as_dict() for policy in client.cluster_policies.list()]
    if verb == "create":
        return client.cluster_policies.create(name=body["name"], definition=body["definition"]).as_dict()
    client.cluster_policies.edit(body["policy_id"], name=body["name"], definition=body["definition"])
    return {}


def _deploy(client: WorkspaceClient, found: dict[str, dict[str, Any]], folder: str) -> None:
    wrong = list(problems(found))
    if wrong:
        raise BundleError("\n".join(wrong))
    for schema in found["schemas"].values():
        if schema["name"] not in {known.name for known in client.schemas.list(schema["catalog_name"])}:
            client.schemas.create(schema["name"], schema["catalog_name"], comment=schema.get("comment"))
    for volume in found["volumes"].values():
        place = volume["catalog_name"], volume["schema_name"]
        if volume["name"] not in {known.name for known in client.volumes.list(*place)}:
            client.volumes.create(*place, volume["name"], VolumeType(volume["volume_type"]))
    client.workspace.mkdirs(folder)
    jobs = json.loads(json.dumps(found["jobs"]))
    for job in jobs.values():
        for task in job["tasks"]:
            python = task["spark_python_task"]
            python["python_file"] = _uploaded(client, python["python_file"], folder)
            task["libraries"] = [
                {kind: _uploaded(client, path, folder) for kind, path in library.items()}
                for library in task["libraries"]
            ]
    content = io.BytesIO(json.dumps(jobs).encode())
    client.workspace.upload(f"{folder}/{_STATE}", content, format=ImportFormat.RAW, overwrite=True)
    print(f"Deployed {len(jobs)} jobs.")


def _uploaded(client: WorkspaceClient, path: str, folder: str) -> str:
    place = f"{folder}/{Path(path).name}"
    with Path(path).open("rb") as content:
        client.workspace.upload(place, content, format=ImportFormat.RAW, overwrite=True)
    return f"/Workspace{place}"


def _run(client: WorkspaceClient, folder: str, name: str) -> int:
    with client.workspace.download(f"{folder}/{_STATE}") as content:
        job = json.load(content)[name]
    clusters = {cluster["job_cluster_key"]: cluster["new_cluster"] for cluster in job["job_clusters"]}
    tasks = []
    for task in job["tasks"]:
        fields = {key: value for key, value in task.items() if key != "job_cluster_key"}
        tasks.append({**fields, "new_cluster": clusters[task["job_cluster_key"]]})
    body = {"run_name": job["name"], "timeout_seconds": job["timeout_seconds"], "tasks": tasks}
    run_id = client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)["run_id"]
    run = client.jobs.wait_get_run_job_terminated_or_skipped(run_id)
    succeeded = (
        run.state is not None and run.state.result_state is not None and run.state.result_state.value == "SUCCESS"
    )
    for task_run in run.tasks or []:
        output = client.jobs.get_run_output(task_run.run_id or 0)
        print((output.error or output.logs or "")[-2_000:])
    print(f"{job['name']}: {'succeeded' if succeeded else 'failed'}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
