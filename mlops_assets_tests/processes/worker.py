"""A process that runs the platform's assets on command; a command may name a point at which to stop.

What belongs here: the process's side of `control`. What does not: the points (`points`), judging the results.

It reads one JSON command per line on stdin and writes one JSON answer per line on stdout; everything that libraries
print goes to stderr. A worker starts its JVM once for all its commands.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

import dagster as dg

from mlops_assets.automation.jobs import MAIN
from mlops_assets.definitions import build_defs
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.instance.home import prepare_instance
from mlops_assets.settings import Settings
from mlops_assets_tests.processes.points import Stop, stopping


def serve(commands: IO[str], answers: IO[str]) -> None:
    """Run commands until stdin ends."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def wait(point: str) -> None:
        send({"reached": point})
        commands.readline()

    for line in iter(commands.readline, ""):
        command = json.loads(line)
        stop = Stop(command["stop_at"], command["then"], wait)
        send(run(command, stop))


def run(command: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Materialize the assets that a command names, in one Dagster run."""
    settings = Settings(
        home=Path(command["home"]), source=command["source"], contract=command["contract"], spark_master="local[2]"
    )
    resources = build_resources(settings)
    if command["locks"]:
        resources["lakehouse"] = resources["lakehouse"].model_copy(update={"locks": command["locks"]})
    definitions = build_defs(settings, **stopping(resources, settings.spec(), stop))
    with dg.DagsterInstance.from_config(str(prepare_instance(settings.dagster_home))) as instance:
        result = definitions.resolve_job_def(MAIN).execute_in_process(
            run_config={"ops": command["config"]},
            asset_selection=[dg.AssetKey(name) for name in command["assets"]],
            instance=instance,
            raise_on_error=False,
        )
    return {
        "run_id": result.run_id,
        "success": result.success,
        "failures": {str(event.step_key): _reason(event) for event in result.get_step_failure_events()},
        "metadata": {
            event.asset_key.to_user_string(): _plain(event.materialization.metadata)
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        },
    }


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data is not None:
        return str(failure.user_failure_data.description)
    return str(failure.error)


def _plain(metadata: Any) -> dict[str, int | float | str]:
    return {name: entry.value for name, entry in metadata.items() if isinstance(entry.value, int | float | str)}


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        serve(sys.stdin, stream)
