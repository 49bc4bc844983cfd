"""The registered version: verified against the trained model, then challenger, then champion if the gate promotes it.

What belongs here: the asset's specification, its configuration, and how a registration is shown. What does not: the
steps (`registry/registration`), the rule (`registry/gate`).

If the gate does not promote a model, that is an ordinary outcome: the run succeeds, the check is a warning, and the
version stays challenger. A run fails only when something is broken: scores that are not reproduced, metrics that are
not numbers, a registry that can't be reached.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.reporting import check_results, check_specs, refusal, thumbnail
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lineage import MLFLOW_RUN_ID, MODEL_URI, PROMOTED, TEST_SET_VERSION
from mlops_assets.registry.gate import GATE_RULES, PROMOTION_GATE
from mlops_assets.registry.gate_rule import GateRule
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.registry.ledger import Entry
    from mlops_assets.registry.page import Page

REGISTERED_MODEL = "registered_model"
_COMPARED = ("average_precision", "precision_at_budget", "money_saved", "brier", "calibration_error")
_HEAD, _SHOWN_MOVES = 2, 10
_CHECKS = {
    "scores_reproduced": "The version, loaded from the registry, scores the test rows as the trained model did.",
    PROMOTION_GATE: "Better than chance by the stated factor, and than the champion on rows that neither has seen.",
}


class GateConfig(dg.Config):
    """What a model must achieve to become champion."""

    min_lift: float = Field(
        default=GateRule().min_lift, ge=1, description="Test average precision must be this many times the fraud rate."
    )
    beat_simple_scores: bool = Field(
        default=GateRule().beat_simple_scores,
        description="Whether a first version must be better than the amount alone and than logistic regression.",
    )
    min_gain: float = Field(
        default=GateRule().min_gain,
        ge=0,
        description="The lower end of the gain in average precision over the champion must be above this.",
    )
    false_promotions: float = Field(
        default=GateRule().false_promotions,
        gt=0,
        lt=1,
        description="Chance that a year of gates promotes any model that is no better than the champion.",
    )
    gates_a_year: int = Field(default=GateRule().gates_a_year, ge=1, description="How many gates share that chance.")
    min_unseen_frauds: int = Field(
        default=GateRule().min_unseen_frauds,
        ge=1,
        description="Frauds that the gate needs among the test rows that the champion has not seen.",
    )
    average_precision_margin: float = Field(
        default=GateRule().average_precision_margin,
        ge=0,
        description="Tolerated loss of average precision by a refresh (the champion's point on newer rows), absolute.",
    )
    brier_margin: float = Field(
        default=GateRule().brier_margin, ge=0, description="Tolerated loss, as a share of the champion's Brier score."
    )
    calibration_margin: float = Field(
        default=GateRule().calibration_margin,
        ge=0,
        description="Tolerated loss of calibration: growth of the calibration error, as a share of the fraud rate.",
    )
    precision_margin: float = Field(
        default=GateRule().precision_margin,
        ge=0,
        description="Tolerated loss of precision on the alert budget, absolute.",
    )
    money_margin: float = Field(
        default=GateRule().money_margin,
        ge=0,
        description="Tolerated loss of money saved, as a share of the fraudulent money.",
    )
    slice_margin: float = Field(
        default=GateRule().slice_margin,
        ge=0,
        description="Tolerated loss of average precision in a part of the rows (amounts, hours), absolute.",
    )
    min_slice_frauds: int = Field(
        default=GateRule().min_slice_frauds, ge=2, description="Parts of the rows with fewer frauds are not judged."
    )
    slice_columns: list[str] = Field(
        default=list(GateRule().slice_columns), description="Columns of the contract whose values are parts, too."
    )
    min_reason_overlap: float = Field(
        default=GateRule().min_reason_overlap,
        ge=0,
        le=1,
        description="Median share of the top-3 reasons that champion and challenger must have in common; 0: none.",
    )
    replace_after_days: float = Field(
        default=GateRule().replace_after_days,
        ge=0,
        description="If the gate can't tell, it replaces a champion registered longer ago than this; 0: never.",
    )
    approvals: int = Field(
        default=GateRule().approvals,
        ge=0,
        le=2,
        description="How many persons must approve a model that passed before it becomes champion.",
    )


def build_registered_model(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model."""
    key = key_of(spec, REGISTERED_MODEL)
    form = with_defaults(GateConfig, spec.gate, where=f"gate of model {spec.title}")

    @dg.asset(
        key=key,
        group_name=spec.group,
        tags=stage_tag("registry"),
        code_version=str(GATE_RULES),
        deps=[key_of(spec, TUNED_MODEL)],
        kinds={"mlflow"},
        owners=list(spec.owners),
        description=(
            "Version in the MLflow registry: alias `challenger` once it is verified bit for bit, alias `champion` when "
            "the promotion gate lets it."
        ),
        check_specs=check_specs(_CHECKS, key),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster", config=form)
    def registered_model(
        context: dg.AssetExecutionContext,
        config: GateConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Register the newest tuned model of this database."""
        from mlops_assets.registry.registration import register_tuned

        rule = GateRule(**{**config.model_dump(), "slice_columns": tuple(config.slice_columns)})
        report = register_tuned(
            tracking.connect(spec.experiment),
            lakehouse.open(spec),
            spec.contract,
            rule,
            name=tracking.model(spec.registered_model),
            dagster_run=context.op_execution_context.run_id,
        )
        version, verdict = report.version, report.verdict
        refused = refusal([report.reproduced], what=f"{version.name} version {version.number} got no alias")
        if refused is not None or verdict is None:
            yield from check_results([report.reproduced], key)
            raise refused or AssertionError("the scores were reproduced, but the gate returned no verdict")
        context.log.info(f"{version.name} version {version.number}: {verdict.reason}")
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "mlflow_version": dg.MetadataValue.url(tracking.pages.version(version.name, version.number)),
                "model": version.name,
                "version": version.number,
                MLFLOW_RUN_ID: version.run_id,
                MODEL_URI: f"models:/{version.name}/{version.number}",
                "aliases": dg.MetadataValue.json(report.aliases),
                PROMOTED: verdict.promoted,
                "gate": verdict.reason,
                "side_by_side": dg.MetadataValue.md(_side_by_side(verdict.details)),
                **_shown(report.page),
                "champions": dg.MetadataValue.md(_champions(report.moves)),
                "model_card": dg.MetadataValue.md(report.card),
                TEST_SET_VERSION: report.test_version,
                **_figures(verdict.details),
            },
            data_version=dg.DataVersion(f"{version.name}/{version.number}"),
        )
        yield from check_results([report.reproduced, verdict.outcome], key)

    return registered_model


def _shown(page: "Page") -> dict[str, dg.MarkdownMetadataValue]:
    """Return the pictures and the table that there are."""
    pictures = {"precision_recall_of_both": page.curves, "champions_over_time": page.history}
    shown = {name: thumbnail(svg, name) for name, svg in pictures.items() if svg}
    return shown if not page.budgets else {**shown, "alert_budgets": dg.MetadataValue.md(page.budgets)}


def _side_by_side(details: Mapping[str, str | int | float]) -> str:
    """Return a table of champion and challenger on the rows that neither has seen."""
    lines = ["| on unseen rows | challenger | champion | gain |", "|:--|--:|--:|:-:|"]
    for name in _COMPARED:
        if f"{name}_gain_low" in details:
            new, old = (details[f"{name}_{who}"] for who in ("candidate", "champion"))
            low, high = (details[f"{name}_gain_{end}"] for end in ("low", "high"))
            lines.append(f"|{name.replace('_', ' ')}|{new:.4g}|{old:.4g}|{low:.4g} to {high:.4g}|")
    return "\n".join(lines) if len(lines) > _HEAD else "nothing was compared"


def _champions(moves: Sequence["Entry"]) -> str:
    """Return a table of the newest moves of the alias, newest first."""
    if not moves:
        return "no ledger of champions yet, or none is kept here"
    lines = ["| since (UTC) | champion | what happened |", "|:--|--:|:--|"]
    newest = reversed(moves[-_SHOWN_MOVES:])
    lines += [f"|{move.at[:19]}|{move.to_version or 'nobody'}|{move.event}|" for move in newest]
    return "\n".join(lines)


def _figures(details: Mapping[str, str | int | float]) -> dict[str, int | float]:
    """Return the gate's figures, which the UI plots over time."""
    return {name: value for name, value in details.items() if not isinstance(value, str) and math.isfinite(value)}
