"""Runs one job of the code location on the cluster that executes this file, whole: what a deployed workflow starts.

What belongs here: choosing the job, and failing when it fails. What does not: what the job does (the installed wheel),
clusters and settings (`databricks.yml`).

Its arguments are the job's name, and JSON with a run config (optional). Each run has a Dagster instance of its own,
which ends with it: what a run leaves are tables, and runs and models in MLflow.
"""

from __future__ import annotations

import json
import sys

import dagster as dg

from mlops_assets.definitions import defs


def main(name: str, config: str = "{}") -> None:
    """Run a job.

    Raises:
        Exception: The first error of the job, so that the run on Databricks fails too.
    """
    job = defs.resolve_job_def(name)
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(run_config=json.loads(config), instance=instance)


if __name__ == "__main__":
    main(*sys.argv[1:])
