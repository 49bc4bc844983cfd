"""`make demo`: the main job, with progress while it works and a summary at its end.

What belongs here: starting the job, printing, and the JSON of the same. What does not: anything a run needs that does
not come from the assets themselves, and what a target needs beside its settings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dagster as dg

from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.tuned_model import EVALUATION_FILE, TUNED_MODEL
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.automation.jobs import MAIN
from mlops_assets.cli.progress_bar import SearchBar, search_bar
from mlops_assets.dagster_internals import ReconstructableRepository, RunFailureReason, execute_run
from mlops_assets.errors import PlatformError
from mlops_assets.instance.home import prepare_instance
from mlops_assets.registry.gate import PROMOTION_GATE
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.tracking.store import read_artifact

# What the caller knows about a Databricks run, by the address of its page; asked at its launch and at its step's end.
About = Callable[[str], dict[str, Any]]

_CODE_LOCATION: Final = "mlops_assets.definitions"
# Dagster's own lines would say everything twice.
_QUIET: Final = {"console": {"config": {"log_level": "CRITICAL"}}}
_PAGE: Final = "Databricks run"  # what the step launcher calls the link in its metadata
_INTERRUPTED: Final = 130  # what shells make of Ctrl-C
_ENDS: Final = {
    dg.DagsterEventType.STEP_SUCCESS: "done",
    dg.DagsterEventType.STEP_FAILURE: "FAILED",
    dg.DagsterEventType.STEP_UP_FOR_RETRY: "FAILED, to be tried again",
}


@dataclass
class Progress:
    """Prints what a person who waits wants to see: assets, trials, launches, refusals.

    Attributes:
        about: What the caller knows about a Databricks run.
        bar: Shows the search where there is a terminal for it.
        seconds: Time of each finished step.
        launches: Databricks runs in the order in which they were launched: `step`, `page`, and what `about` says once
            the step has ended.
    """

    about: About | None = None
    bar: SearchBar | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    launches: list[dict[str, Any]] = field(default_factory=list)
    _started: dict[str, float] = field(default_factory=dict)

    def __call__(self, entry: dg.EventLogEntry) -> None:
        """Print one entry of the event log, or nothing."""
        step, event = entry.step_key, entry.dagster_event
        if step is None:
            return
        if step not in self._started:
            self._started[step] = time.monotonic()
            self._say(f"  {step} ...")
        if event is None:
            self._say(f"    {entry.user_message}")
        elif event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            self._launched(step, event)
        elif event.event_type in _ENDS:
            self.seconds[step] = round(time.monotonic() - self._started[step], 2)
            self._ended(step)
            self._say(f"  {step} {_ENDS[event.event_type]} in {self.seconds[step]:.1f} s")

    def _launched(self, step: str, event: dg.DagsterEvent) -> None:
        page = event.engine_event_data.metadata.get(_PAGE)
        if page is None:
            return
        self.launches.append({"step": step, "page": page.value})
        self._say(f"    {event.message} {page.value}")
        if self.about is not None:
            known = self.about(str(page.value))
            self._say(f"    {_words(known)}")

    def _ended(self, step: str) -> None:
        if self.about is not None and self.launches and self.launches[-1]["step"] == step:
            self.launches[-1] |= self.about(self.launches[-1]["page"])

    def _say(self, text: str) -> None:
        if self.bar is None:
            _say(text)
        else:
            self.bar.write(text)


def run_demo(settings: Settings, trials: int, about: About | None = None, *, ui: str = "make ui") -> int:
    """Run the main job and print its summary.

    Args:
        settings: Those of this process's environment, from which the code location is loaded.
        trials: Number of trials.
        about: What the caller knows about a Databricks run.
        ui: The command that shows the run in Dagster's UI.

    Returns:
        The exit status: 0 when the model was registered (whether or not it became champion), 1 otherwise, 130 when
        the run was interrupted.
    """
    from mlops_assets.definitions import build_resources  # noqa: PLC0415 - binds the settings: `main` shows their errors

    # Steps can be launched only from a job that can be found again in another process, by its module.
    repository = ReconstructableRepository.for_module(_CODE_LOCATION, "defs")
    job = repository.get_reconstructable_job(MAIN)
    config = dg.RunConfig(ops={TUNED_MODEL: TunedModelConfig(trials=trials)}, loggers=_QUIET).to_config_dict()
    home = str(prepare_instance(settings.dagster_home))
    with dg.DagsterInstance.from_config(home) as instance, search_bar(sys.stderr) as bar:
        progress = Progress(about, bar)
        run = instance.create_run_for_job(
            job.get_definition(), job_code_origin=job.get_python_origin(), run_config=config
        )
        instance.add_event_listener(run.run_id, progress)
        _say(f"main job on {settings.source} with contract {settings.contract}, {trials} trials")
        result = execute_run(job, run, instance)
    if _was_interrupted(result):
        _say("\nInterrupted.")
        return _INTERRUPTED
    if not result.success and not _only_the_gate_refused(result):
        _say("\nThe job failed:")
        for event in result.get_step_failure_events():
            _say(f"  {event.step_key}: {_reason(event)}")
        return 1
    summary = _summarize(result, settings, build_resources(settings)["tracking"], progress)
    target = settings.home / "demo.json"
    target.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print_summary(summary, target, f"{ui}   (then {settings.dagster_url})")
    return 0


def _was_interrupted(result: dg.JobExecutionResult) -> bool:
    if result.success:
        return False
    return result.get_run_failure_event().job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION


def _only_the_gate_refused(result: dg.JobExecutionResult) -> bool:
    refused = [found.check_name for found in result.get_asset_check_evaluations() if not found.passed]
    return refused == [PROMOTION_GATE]


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason was given"


def _summarize(
    result: dg.JobExecutionResult, settings: Settings, tracking: Tracking, progress: Progress
) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {
        event.asset_key.to_user_string(): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    raw, tuned, registered = found["raw_transactions"], found[TUNED_MODEL], found[REGISTERED_MODEL]
    report = json.loads(read_artifact(tracking.connect(), tuned["mlflow_run_id"], EVALUATION_FILE))
    return {
        "data_set": settings.source,
        "contract": settings.contract,
        "tables": raw["table"].rpartition("/" if "/" in raw["table"] else ".")[0],
        "rows": raw["dagster/row_count"],
        "fraud_rate": raw["fraud_rate"],
        "raw_version": raw["delta_version"],
        "sets": {name: found[f"{name}_set"]["dagster/row_count"] for name in ("train", "validation", "test")},
        "dagster_run_id": result.run_id,
        "run_id": tuned["mlflow_run_id"],
        "tracking_uri": tracking.mlflow_tracking_uri,
        "registered_model": registered["model"],
        "registered_version": registered["version"],
        "champion": registered["promoted"],
        "gate": registered["gate"],
        "best_point": tuned["best_point"],
        "threshold": report["threshold"],
        "test_rows": report["rows"],
        "test_frauds": report["frauds"],
        "seconds": progress.seconds,
        "launches": progress.launches,
        "metrics": {
            name: {"estimate": value["estimate"], "low": value["low"], "high": value["high"]}
            for name, value in report["metrics"].items()
        },
    }


def _print_summary(summary: dict[str, Any], target: Path, look: str) -> None:
    width = max(len(name) for name in summary["metrics"])
    sets = ", ".join(f"{name} {rows:,}" for name, rows in summary["sets"].items())
    lines = [
        "",
        f"Data        {summary['rows']:,} rows, {summary['fraud_rate']:.3%} frauds, version {summary['raw_version']}",
        f"Sets        {sets}",
        f"Tables      {summary['tables']}",
        f"MLflow run  {summary['run_id']} in {summary['tracking_uri']}",
        f"Registered  {summary['registered_model']} version {summary['registered_version']}, "
        + ("champion" if summary["champion"] else "challenger"),
        f"Gate        {summary['gate']}",
        f"Best point  {', '.join(f'{name} {value:.4g}' for name, value in summary['best_point'].items())}",
        "",
        f"On {summary['test_rows']:,} test rows with {summary['test_frauds']:,} frauds (95 % bootstrap interval):",
        *(
            f"  {name:<{width}}  {value['estimate']:7.4f}   [{value['low']:.4f}, {value['high']:.4f}]"
            for name, value in summary["metrics"].items()
        ),
        *_launched_lines(summary["launches"]),
        "",
        f"The same as JSON: {target}",
        f"Look at it:       {look}",
    ]
    _say("\n".join(lines))


def _launched_lines(launches: list[dict[str, Any]]) -> list[str]:
    if not launches:
        return []
    width = max(len(launch["step"]) for launch in launches)
    lines = [f"  {launch['step']:<{width}}  {_words(launch) or launch['page']}" for launch in launches]
    return ["", f"{len(launches)} launches on Databricks:", *lines]


def _words(known: dict[str, Any]) -> str:
    summary = {name.replace("_", " "): value for name, value in known.items() if name not in ("step", "page")}
    return ", ".join(f"{name} {value}" for name, value in summary.items())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="mlops_assets.cli.demo", description="Run the main job and print its summary."
    )
    parser.add_argument("--trials", type=int, default=TunedModelConfig().trials, help="number of trials")
    arguments = parser.parse_args()
    try:
        return run_demo(Settings.from_environment(), arguments.trials)
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
