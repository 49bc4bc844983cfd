"""What a registered version says of itself: verdict, card and packages as files, tags, and its description.

What belongs here: writing it. What does not: the verdict (`gate`), the card's text (`card`), the figures
(`evaluation`), the alias's history (`ledger`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.lineage import (
    CARD_FILE,
    DAGSTER_URL_TAG,
    DATABASE_TAG,
    GATE_EVIDENCE_TAG,
    GATE_REASON_TAG,
    GATE_TAG,
    IMPORTANCE_FILE,
    RAW_VERSION_TAG,
    SBOM_FILE,
    TEST_SET_VERSION,
    TEST_VERSION_TAG,
    VERDICT_FILE,
)
from mlops_assets.registry.card import bill_of_materials, card
from mlops_assets.registry.gate import slice_ends
from mlops_assets.registry.golden import write_into_version
from mlops_assets.tracking.artifacts import read_json

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.splits.split_checks import SetSummary
    from mlops_assets.registry.contest import Contest
    from mlops_assets.registry.gate import Verdict
    from mlops_assets.registry.gate_rule import GateRule
    from mlops_assets.registry.tuned_run import TunedRun
    from mlops_assets.registry.verified import VerifiedModel
    from mlops_assets.registry.versions import Version
    from mlops_assets.tracking.store import Store

# Unity Catalog's limit for a tag's value.
_MAX_TAG: Final = 1_000
_SHOWN: Final = ("average_precision", "precision_at_budget", "money_saved", "brier", "calibration_error", "roc_auc")


def record_verdict(
    store: Store,
    model: VerifiedModel,
    run: TunedRun,
    verdict: Verdict,
    rule: GateRule,
    champion: Version | None,
    contest: Contest | None,
    *,
    contract: Contract,
    sets: Mapping[str, SetSummary],
) -> str:
    """Write the verdict on a version into its folder, its tags and its description; again replaces it.

    Args:
        store: Where the version is.
        model: The version.
        run: The run that made the candidate.
        verdict: What the gate decided.
        rule: By which rule.
        champion: What it was compared with; None if there was none.
        contest: The comparison with the champion; None if there was none.
        contract: The contract of its rows.
        sets: What its sets hold, by the names of their tables.

    Returns:
        The model card.

    Raises:
        TrackingError: MLflow can't be reached.
    """
    number = str(model.number)
    document = {
        **verdict.to_json_dict(),
        "rule": asdict(rule),
        "version": model.number,
        "champion": None if champion is None else champion.number,
        "mlflow_run": run.run_id,
        TEST_SET_VERSION: int(run.tags[TEST_VERSION_TAG]),
        "model_sha256": model.sha256,
    }
    said = described(run, verdict)
    parts = {} if contest is None else slice_ends(rule, contest)
    importance = read_json(store, run.run_id, IMPORTANCE_FILE)["importance"]
    written = card(model, run, said, contract=contract, sets=sets, parts=parts, importance=importance)
    files = {
        VERDICT_FILE: json.dumps(document, indent=2),
        CARD_FILE: written,
        SBOM_FILE: bill_of_materials(),
    }
    write_into_version(store, model, {name: text.encode() for name, text in files.items()})
    with store.answering():
        tags = {GATE_TAG: verdict.decision, GATE_REASON_TAG: verdict.reason}
        if contest is not None and contest.counted is not None:
            tags[GATE_EVIDENCE_TAG] = contest.counted.to_tag()
        for tag, text in tags.items():
            store.client.set_model_version_tag(model.name, number, tag, text[:_MAX_TAG].strip())
        store.client.update_model_version(model.name, number, description=said)
    return written


def described(run: TunedRun, verdict: Verdict) -> str:
    """Return a version's description in Markdown: verdict, metrics with intervals, threshold, data."""
    threshold = run.threshold(production=run.production is not None)
    lines = [
        f"**Gate: {verdict.decision}.** {verdict.reason}",
        "",
        "| metric of the evaluated model, test rows | estimate | interval |",
        "|:--|--:|:-:|",
        *(_line(name, run.evaluation["metrics"][name]) for name in _SHOWN if name in run.evaluation["metrics"]),
        "",
        f"Alert from a score of {threshold.value:.4g} on (rule: {threshold.rule}).",
        f"Data: database {run.tags[DATABASE_TAG]}, raw table version {run.tags.get(RAW_VERSION_TAG, 'unknown')}, "
        + ", ".join(f"{table} version {version}" for table, version in run.tables.items()),
        f"MLflow run {run.run_id}",
    ]
    if address := run.tags.get(DAGSTER_URL_TAG):
        lines.append(f"[Dagster run]({address})")
    return "\n".join(lines)


def _line(name: str, interval: Mapping[str, Any]) -> str:
    ends = f"{interval['low']:.4g} to {interval['high']:.4g}" if "low" in interval else ""
    return f"|{name.replace('_', ' ')}|{interval['estimate']:.4g}|{ends}|"
