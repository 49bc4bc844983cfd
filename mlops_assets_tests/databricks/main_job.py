"""The main job in a process of its own, here or on a loopback workspace, and what it told Dagster and MLflow.

What belongs here: running it and reading what is left of it, for the proofs that compare two ways to run it. What does
not: what must be equal (the tests).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster._serdes import serialize_value
from mlflow import MlflowClient

from mlops_assets.lineage import RUN_PROCESS_TAG, STAGE_TAG

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "ops": {
        "raw_transactions": {"config": {"source": {"rows": 4_000, "days": 6, "fraud_rate": 0.03, "seed": 3}}},
        "tuned_model": {"config": {"trials": 4, "parallelism": 1, "replicates": 50}},
    },
}
# The same data and another search, which ends in another booster: the same one is not registered twice.
SEARCHED_AGAIN: dict[str, Any] = {
    "ops": SMALL["ops"] | {"tuned_model": {"config": SMALL["ops"]["tuned_model"]["config"] | {"seed": 77}}},
}
# What names the run, its place or its memory, or measures time; everything else must be the same wherever it runs.
OWN = frozenset(
    {"table", "model", "mlflow_run_id", "model_uri", "production_model_uri", "search_seconds", "engine_reason"}
    | {"mlflow_run", "mlflow_version", "pictures", "raw_data_version", "champions", "champions_over_time"}
)


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Attributes:
        home: Its MLOPS_HOME.
        run_id: Its Dagster run, empty if none was made.
        succeeded: Whether it succeeded.
        log: What it printed to stderr.
    """

    home: Path
    run_id: str
    succeeded: bool
    log: str

    @property
    def events(self) -> list[dg.DagsterEvent]:
        """What Dagster's event log holds of it, oldest first."""
        with dg.DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            entries = instance.all_logs(self.run_id)
        return [entry.dagster_event for entry in entries if entry.dagster_event is not None]

    @property
    def tags(self) -> dict[str, str]:
        """The tags that say what the run was for and made from."""
        with dg.DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            run = instance.get_run_by_id(self.run_id)
        assert run is not None
        named = {name: tag for name, tag in run.tags.items() if name.startswith("mlops_assets/")}
        return {name: tag for name, tag in named.items() if name != RUN_PROCESS_TAG}

    @property
    def materialized(self) -> dict[str, dict[str, Any]]:
        """Metadata of each asset, serialized."""
        found: dict[str, dict[str, Any]] = {}
        for event in self.events:
            if event.is_step_materialization:
                made = event.step_materialization_data.materialization
                told = {name: serialize_value(cast("Any", value)) for name, value in made.metadata.items()}
                found[made.asset_key.to_user_string()] = told
        return found

    @property
    def checks(self) -> dict[tuple[str, str], Any]:
        """All that is told of each check, by asset and name."""
        return {
            (found.asset_key.to_user_string(), found.check_name): (
                found.passed,
                found.severity,
                found.blocking,
                found.description,
                {name: serialize_value(cast("Any", value)) for name, value in found.metadata.items()},
            )
            for found in (
                event.asset_check_evaluation_data
                for event in self.events
                if event.event_type_value == "ASSET_CHECK_EVALUATION"
            )
        }

    @property
    def failures(self) -> dict[str, str]:
        """What each failed step says, by step."""
        return {
            str(event.step_key): str(event.step_failure_data.user_failure_data.description)
            for event in self.events
            if event.is_step_failure and event.step_failure_data.user_failure_data is not None
        }


def run_main_job(home: Path, variables: Mapping[str, str], config: Mapping[str, Any] | None = None) -> Finished:
    """Run the main job as a user's command line does.

    Args:
        home: Folder for MLOPS_HOME; that of an earlier run continues it.
        variables: Environment on top of this process's.
        config: Run config; `SMALL` when not given.
    """
    (home / "dagster").mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(json.dumps(config or SMALL))
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "main"]
    done = subprocess.run(
        [*command, "-c", str(home / "config.yaml")],
        cwd=CHECKOUT,
        env={**os.environ, "MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        newest = [run.run_id for run in instance.get_runs(limit=1)]
    return Finished(home, "".join(newest), done.returncode == 0, done.stderr)


def outcome(client: MlflowClient) -> dict[str, Any]:
    """Return what a search found, without what differs between two runs of it."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"tags.`{STAGE_TAG}` = 'search'")
    assert run.info.status == "FINISHED"
    measured = {name: value for name, value in run.data.metrics.items() if "seconds" not in name}
    return {"params": run.data.params, "metrics": measured, "raw_version": run.data.tags["mlops_assets.raw_version"]}
