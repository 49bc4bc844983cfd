"""`make demo`: the main job on the embedded default, with progress while it works and a summary at its end.

What belongs here: starting the job, printing, and the JSON of the same. What does not: anything a run needs that does
not come from the assets themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.tuned_model import EVALUATION_FILE, TUNED_MODEL
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.automation.jobs import MAIN
from mlops_assets.errors import PlatformError
from mlops_assets.instance import prepare_instance
from mlops_assets.registry.gate import PROMOTION_GATE
from mlops_assets.settings import Settings
from mlops_assets.training.progress_bar import SearchBar, search_bar
from mlops_assets.training.runs import read_artifact

_LOGGER = "progress"


@dataclass
class Progress(logging.Handler):
    """Prints what a person who waits wants to see: assets, trials, refusals.

    Attributes:
        bar: Shows the search where there is a terminal for it.
        seconds: Time of each finished step.
    """

    bar: SearchBar | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(logging.DEBUG)

    __hash__ = object.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, or nothing."""
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event, step = meta.get("dagster_event"), str(meta.get("step_key"))
        if event is None:
            if record.levelno >= logging.INFO:
                self._say(f"    {meta.get('orig_message', record.getMessage())}")
        elif event.event_type_value == "STEP_START":
            self._started[step] = time.monotonic()
            self._say(f"  {step} ...")
        elif event.event_type_value in ("STEP_SUCCESS", "STEP_FAILURE"):
            self.seconds[step] = round(time.monotonic() - self._started.get(step, time.monotonic()), 2)
            done = "done" if event.event_type_value == "STEP_SUCCESS" else "FAILED"
            self._say(f"  {step} {done} in {self.seconds[step]:.1f} s")

    def _say(self, text: str) -> None:
        if self.bar is None:
            _say(text)
        else:
            self.bar.write(text)


def run_demo(settings: Settings, trials: int) -> int:
    """Run the main job and print its summary.

    Returns:
        The exit status: 0 when the model was registered (whether or not it became champion), 1 otherwise.
    """
    from mlops_assets.definitions import build_defs  # noqa: PLC0415 - binds the settings: `main` shows their errors

    home = str(prepare_instance(settings.dagster_home))
    with dg.DagsterInstance.from_config(home) as instance, search_bar(sys.stderr) as bar:
        progress = Progress(bar)
        shown = dg.Definitions(loggers={_LOGGER: _logger(progress)})
        definitions = build_defs(settings)
        job = dg.Definitions.merge(definitions, shown).resolve_job_def(MAIN)
        config = dg.RunConfig(ops={TUNED_MODEL: TunedModelConfig(trials=trials)}, loggers={_LOGGER: {}})
        _say(f"main job on {settings.source} with contract {settings.contract}, {trials} trials")
        result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    if not result.success and not _only_the_gate_refused(result):
        _say("\nThe job failed:")
        for event in result.get_step_failure_events():
            _say(f"  {event.step_key}: {_reason(event)}")
        return 1
    summary = _summarize(result, settings, definitions, progress.seconds)
    target = settings.home / "demo.json"
    target.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print_summary(summary, settings, target)
    return 0


def _logger(progress: Progress) -> dg.LoggerDefinition:
    def build(_context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger(_LOGGER, logging.DEBUG)  # noqa: LOG001 - a logger of this run alone
        logger.addHandler(progress)
        return logger

    return dg.LoggerDefinition(build)


def _only_the_gate_refused(result: dg.ExecuteInProcessResult) -> bool:
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
    result: dg.ExecuteInProcessResult, settings: Settings, definitions: dg.Definitions, seconds: dict[str, float]
) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {
        event.asset_key.to_user_string(): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    raw, tuned, registered = found["raw_transactions"], found[TUNED_MODEL], found[REGISTERED_MODEL]
    store = definitions.resources["tracking"].connect()  # type: ignore[index]
    report = json.loads(read_artifact(store, tuned["mlflow_run_id"], EVALUATION_FILE))
    return {
        "data_set": settings.source,
        "contract": settings.contract,
        "tables": str(Path(raw["table"]).parent),
        "rows": raw["dagster/row_count"],
        "fraud_rate": raw["fraud_rate"],
        "raw_version": raw["delta_version"],
        "sets": {name: found[f"{name}_set"]["dagster/row_count"] for name in ("train", "validation", "test")},
        "dagster_run_id": result.run_id,
        "run_id": tuned["mlflow_run_id"],
        "tracking_uri": settings.mlflow_uri,
        "registered_model": registered["model"],
        "registered_version": registered["version"],
        "champion": registered["promoted"],
        "gate": registered["gate"],
        "best_point": tuned["best_point"],
        "threshold": report["threshold"],
        "test_rows": report["rows"],
        "test_frauds": report["frauds"],
        "seconds": seconds,
        "metrics": {
            name: {"estimate": value["estimate"], "low": value["low"], "high": value["high"]}
            for name, value in report["metrics"].items()
        },
    }


def _print_summary(summary: dict[str, Any], settings: Settings, target: Path) -> None:
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
        "",
        f"The same as JSON: {target}",
        f"Look at it:       make ui   (then {settings.dagster_url})",
    ]
    _say("\n".join(lines))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="mlops_assets.demo", description="Run the main job on embedded Spark.")
    parser.add_argument("--trials", type=int, default=TunedModelConfig().trials, help="number of trials")
    arguments = parser.parse_args()
    try:
        return run_demo(Settings.from_environment(), arguments.trials)
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
