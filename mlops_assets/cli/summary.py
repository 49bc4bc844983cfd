"""What `mlops demo` prints at its end: every row accounted for, the threshold, the metrics, and where they mean little.

What belongs here: metadata and report in, text and JSON out. What does not: running the job (`demo`, `run_job`), the
figures themselves (`evaluation`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.cli.run_job import FinishedRun, facts_line
from mlops_assets.data.labels.maturity import LEFT_OUT
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
    from mlops_assets.resources.tracking import Tracking
    from mlops_assets.spec import FraudModelSpec

SETS: Final = ("train", "validation", "test")
# Fewer frauds than this in a set, and its figures depend on single ones.
_FEW_FRAUDS: Final = 30
# A set whose fraud rate is so many times that of the table, or that part of it.
_FAR: Final = 3.0
_WHY_LEFT_OUT: Final = {
    "gap": "in the gaps between sets",
    "immature": "with labels too young",
    "unlabelled": "without label",
    "not_arrived": "not there yet",
}


def summarize(finished: FinishedRun, spec: FraudModelSpec, tracking: Tracking, address: str) -> dict[str, Any]:
    """Return the summary of a finished run of the main job, as JSON can hold it.

    Args:
        finished: The run.
        spec: The model.
        tracking: Where its report is.
        address: Address of the raw table.
    """
    metadata = finished.metadata()
    raw, tuned, registered = metadata[RAW], metadata[TUNED_MODEL], metadata[REGISTERED_MODEL]
    report = json.loads(read_artifact(tracking.connect(spec.experiment), tuned[MLFLOW_RUN_ID], EVALUATION_FILE))
    sets = {name: metadata[f"{name}_set"] for name in SETS}
    return {
        "data_set": spec.source,
        "contract": spec.contract.name,
        "tables": address.rpartition("/" if "/" in address else ".")[0],
        "rows": raw[ROW_COUNT],
        "fraud_rate": raw["fraud_rate"],
        RAW_VERSION: raw[DELTA_VERSION],
        "sets": {name: said[ROW_COUNT] for name, said in sets.items()},
        "set_frauds": {name: said["frauds"] for name, said in sets.items()},
        "in_no_set": {reason: sets["train"].get(f"{reason}_rows", 0) for reason in ("gap", *LEFT_OUT)},
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
        "test_days": report["days"],
        "test_alerts": report["alerts"],
        "alerts_per_day": report["alerts_per_day"],
        "seconds": finished.seconds,
        "launches": finished.launches,
        "metrics": {
            name: {"estimate": value["estimate"], "low": value["low"], "high": value["high"]}
            for name, value in report["metrics"].items()
        },
    }


def as_text(summary: dict[str, Any], target: Path, look: str) -> str:
    """Return a summary for a terminal.

    Args:
        summary: That of `summarize`.
        target: Where it was written as JSON.
        look: How to look at the run.
    """
    width = max(len(name) for name in summary["metrics"])
    lines = [
        "",
        f"Data        {summary['rows']:,} rows, {summary['fraud_rate']:.3%} frauds, version {summary[RAW_VERSION]}",
        f"Sets        {_sets(summary)}",
        *_in_no_set(summary),
        f"Tables      {summary['tables']}",
        f"MLflow run  {summary['run_id']} in {summary['tracking_uri']}",
        f"Registered  {summary['registered_model']} version {summary['registered_version']}, "
        + ("champion" if summary["champion"] else "challenger"),
        f"Gate        {summary['gate']}",
        f"Best point  {', '.join(f'{name} {value:.4g}' for name, value in summary[BEST_POINT].items())}",
        f"Threshold   {_threshold(summary)}",
        "",
        f"On {summary['test_rows']:,} test rows with {summary['test_frauds']:,} frauds (95 % bootstrap interval):",
        *(
            f"  {name:<{width}}  {value['estimate']:7.4f}   [{value['low']:.4f}, {value['high']:.4f}]"
            for name, value in summary["metrics"].items()
        ),
        *(f"Note: {note}." for note in notes(summary)),
        *_launched_lines(summary["launches"]),
        "",
        f"The same as JSON: {target}",
        f"Look at it:       {look}",
    ]
    return "\n".join(lines)


def notes(summary: dict[str, Any]) -> list[str]:
    """Return where the figures of a summary mean little, one sentence each."""
    found = [
        f"only {summary['set_frauds'][name]:,} frauds in {name}: single ones decide its figures, see the intervals"
        for name in ("validation", "test")
        if summary["set_frauds"][name] < _FEW_FRAUDS
    ]
    a_day = summary["test_rows"] / max(1, summary["test_days"])
    if summary["alerts_per_day"] >= a_day:
        budget = f"the daily budget of {summary['alerts_per_day']:,} alerts"
        found.append(f"{budget} is as large as the {a_day:,.0f} rows of a day: metrics of the budget say nothing")
    for name, rows in summary["sets"].items():
        rate, whole = summary["set_frauds"][name] / max(1, rows), summary["fraud_rate"]
        if whole and rows and not whole / _FAR <= rate <= whole * _FAR:
            found.append(f"{rate:.3%} of {name} are frauds, {whole:.3%} of the table: they are not alike")
    return found


def _sets(summary: dict[str, Any]) -> str:
    frauds = summary["set_frauds"]
    return ", ".join(f"{name} {rows:,} ({frauds[name]:,} frauds)" for name, rows in summary["sets"].items())


def _in_no_set(summary: dict[str, Any]) -> list[str]:
    """Return what became of the rows that are in no set; the counts add up to those of the table."""
    left = {_WHY_LEFT_OUT[reason]: rows for reason, rows in summary["in_no_set"].items() if rows}
    rest = summary["rows"] - sum(summary["sets"].values()) - sum(summary["in_no_set"].values())
    if rest:  # another run has loaded rows since the split
        left["loaded since"] = rest
    return [f"In no set   {', '.join(f'{rows:,} {why}' for why, rows in left.items())}"] if left else []


def _threshold(summary: dict[str, Any]) -> str:
    chosen, days = summary["threshold"], max(1, summary["test_days"])
    why = {
        "cost": f"least cost at {chosen['setting']:g} per alert",
        "alert_budget": f"{chosen['setting']:g} alerts a day",
    }
    alerts = f"{summary['test_alerts']:,} alerts on the test rows, {summary['test_alerts'] / days:,.1f} a day"
    value = f"{chosen['value']:.4g}" if chosen["value"] <= 1 else "alert nothing"
    return f"{value} ({why[chosen['rule']]} on validation): {alerts}"


def _launched_lines(launches: list[dict[str, Any]]) -> list[str]:
    if not launches:
        return []
    width = max(len(launch["step"]) for launch in launches)
    lines = [f"  {launch['step']:<{width}}  {facts_line(launch) or launch['page']}" for launch in launches]
    return ["", f"{len(launches)} launches on Databricks:", *lines]
