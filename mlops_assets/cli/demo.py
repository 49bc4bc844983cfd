"""`mlops demo`: the main job, and a summary at the end.

What belongs here: the summary, printed and as JSON. What does not: running the job (`run_job`), anything a run needs
that does not come from the assets themselves, and what a target needs besides its settings.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.automation.jobs import MAIN
from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import About, FinishedRun, facts_line, print_line, report_failure, run_job
from mlops_assets.lineage import (
    BEST_POINT,
    DELTA_VERSION,
    EVALUATION_FILE,
    MLFLOW_RUN_ID,
    PROMOTED,
    RAW_VERSION,
    ROW_COUNT,
)
from mlops_assets.tracking.artifacts import read_artifact

if TYPE_CHECKING:
    from mlops_assets.cli.location import Chosen
    from mlops_assets.resources.tracking import Tracking
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_demo(
    settings: Settings,
    chosen: Chosen,
    trials: int | None = None,
    about: About | None = None,
    *,
    ui: str | None = None,
) -> int:
    """Run the main job and print its summary.

    Args:
        settings: The settings of this process's environment; the code location is loaded with them.
        chosen: The model.
        trials: Number of trials; None means the model's own default.
        about: Returns facts about a Databricks run.
        ui: The command that shows the run in Dagster's UI; without it, that of the model which the settings describe.

    Returns:
        The exit code: 0 if the model was registered, whether or not it became champion.
    """
    spec = chosen.spec
    wanted = {} if trials is None else {"trials": trials}
    number = {"trials": TunedModelConfig().trials, **spec.search, **wanted}["trials"]
    model = f" of {spec.name}" if spec.name else ""
    title = f"main job{model} on {spec.source} with contract {spec.contract.name}, {number} trials"
    if settings.target == "local":
        beside = ThreadPoolExecutor(max_workers=1)
        beside.submit(_warm_up, settings, spec)  # its result is not used
        beside.shutdown(wait=False)
    finished = run_job(settings, chosen, MAIN, title, ops={TUNED_MODEL: wanted} if wanted else None, about=about)
    if not finished.result.success:
        return report_failure(finished)
    from mlops_assets.fraud_model.shared import build_resources

    resources = build_resources(settings)
    address = resources["lakehouse"].open(spec).location(RAW)
    summary = _summarize(finished, spec, resources["tracking"], address)
    target = settings.home / "demo.json"
    target.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print_summary(summary, target, f"{ui or _ui_command(settings)}, then {settings.dagster_url}")
    return DONE


def _ui_command(settings: Settings) -> str:
    usual = type(settings).model_fields
    asked = {name: getattr(settings, name) for name in ("source", "contract")}
    changed = {name.upper(): quote(value) for name, value in asked.items() if value != usual[name].default}
    here = "".join(f"MLOPS_{name}={value} " for name, value in changed.items())
    there = "".join(f" {name}={value}" for name, value in changed.items())
    return f"{here}mlops ui   (in a checkout: make ui{there})"


def _warm_up(settings: Settings, spec: FraudModelSpec) -> None:
    """Start what the run will need while Dagster loads and rows are generated: the JVM, then MLflow's empty store.

    What fails here fails again in the run, which reports it.
    """
    from mlops_assets.fraud_model.shared import build_resources

    resources = build_resources(settings)
    _ = resources["lakehouse"].open(spec).session
    resources["tracking"].connect(spec.experiment)


def _summarize(finished: FinishedRun, spec: FraudModelSpec, tracking: Tracking, address: str) -> dict[str, Any]:
    metadata = finished.metadata()
    raw, tuned, registered = metadata[RAW], metadata[TUNED_MODEL], metadata[REGISTERED_MODEL]
    report = json.loads(read_artifact(tracking.connect(spec.experiment), tuned[MLFLOW_RUN_ID], EVALUATION_FILE))
    return {
        "data_set": spec.source,
        "contract": spec.contract.name,
        "tables": address.rpartition("/" if "/" in address else ".")[0],
        "rows": raw[ROW_COUNT],
        "fraud_rate": raw["fraud_rate"],
        RAW_VERSION: raw[DELTA_VERSION],
        "sets": {name: metadata[f"{name}_set"][ROW_COUNT] for name in ("train", "validation", "test")},
        "dagster_run_id": finished.result.run_id,
        "run_id": tuned[MLFLOW_RUN_ID],
        "tracking_uri": tracking.mlflow_tracking_uri,
        "registered_model": registered["model"],
        "registered_version": registered["version"],
        "champion": registered[PROMOTED],
        "gate": registered["gate"],
        BEST_POINT: tuned[BEST_POINT],
        "threshold": report["threshold"],
        "test_rows": report["rows"],
        "test_frauds": report["frauds"],
        "seconds": finished.seconds,
        "launches": finished.launches,
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
        f"Data        {summary['rows']:,} rows, {summary['fraud_rate']:.3%} frauds, version {summary[RAW_VERSION]}",
        f"Sets        {sets}",
        f"Tables      {summary['tables']}",
        f"MLflow run  {summary['run_id']} in {summary['tracking_uri']}",
        f"Registered  {summary['registered_model']} version {summary['registered_version']}, "
        + ("champion" if summary["champion"] else "challenger"),
        f"Gate        {summary['gate']}",
        f"Best point  {', '.join(f'{name} {value:.4g}' for name, value in summary[BEST_POINT].items())}",
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
    print_line("\n".join(lines))


def _launched_lines(launches: list[dict[str, Any]]) -> list[str]:
    if not launches:
        return []
    width = max(len(launch["step"]) for launch in launches)
    lines = [f"  {launch['step']:<{width}}  {facts_line(launch) or launch['page']}" for launch in launches]
    return ["", f"{len(launches)} launches on Databricks:", *lines]
