"""`mlops demo`: the main job, and a summary at the end.

What belongs here: the run, and where the summary goes. What does not: what the summary says (`summary`), running the
job (`run_job`), anything a run needs that does not come from the assets themselves, and what a target needs besides its
settings.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.tuning_config import TunedModelConfig
from mlops_assets.automation.jobs import MAIN
from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import About, print_line, report_failure, run_job
from mlops_assets.cli.summary import as_text, summarize

if TYPE_CHECKING:
    from mlops_assets.cli.location import Chosen
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
    summary = summarize(finished, spec, resources["tracking"], address)
    target = _write(settings.home, summary)
    print_line(as_text(summary, target, f"{ui or _ui_command(settings)}, then {settings.dagster_url}"))
    return DONE


def _write(home: Path, summary: dict[str, Any]) -> Path:
    """Write a summary to a file of its run and, as a whole, to `demo.json`, which is the newest one's."""
    text = json.dumps(summary, indent=2) + "\n"
    kept = home / "demos" / f"{summary['dagster_run_id']}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    newest = kept.with_suffix(".new")
    newest.write_text(text, encoding="utf-8")
    newest.replace(home / "demo.json")
    return kept


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
