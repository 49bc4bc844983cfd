"""The registered version: verified against the trained model, then challenger, then champion if the gate promotes it.

What belongs here: the asset's specification, its configuration, and how a registration is shown. What does not: the
steps (`registry/registration`), the rule (`registry/gate`).

If the gate does not promote a model, that is an ordinary outcome: the run succeeds, the check is a warning, and the
version stays challenger. A run fails only when something is broken: scores that are not reproduced, metrics that are
not numbers, a registry that can't be reached.
"""

import dagster as dg
from pydantic import Field

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.naming import group_of, key_of
from mlops_assets.assets.reporting import check_results, check_specs, refusal
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.lineage import MLFLOW_RUN_ID, MODEL_URI, PROMOTED, TEST_SET_VERSION
from mlops_assets.registry.gate import PROMOTION_GATE, GateRule
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import LAUNCH_POOL
from mlops_assets.spec import FraudModelSpec

REGISTERED_MODEL = "registered_model"
_CHECKS = {
    "scores_reproduced": "The version, loaded from the registry, scores the test rows as the trained model did.",
    PROMOTION_GATE: "Better than chance by the stated factor, and than the champion on rows that neither has seen.",
}


class GateConfig(dg.Config):
    """What a model must achieve to become champion."""

    min_lift: float = Field(
        default=GateRule().min_lift, ge=1, description="Test average precision must be this many times the fraud rate."
    )
    min_gain: float = Field(
        default=GateRule().min_gain,
        ge=0,
        description="The lower end of the gain in average precision over the champion must be above this.",
    )
    min_unseen_frauds: int = Field(
        default=GateRule().min_unseen_frauds,
        ge=1,
        description="Frauds that the gate needs among the test rows that the champion has not seen.",
    )
    brier_margin: float = Field(
        default=GateRule().brier_margin, ge=0, description="Tolerated loss, as a share of the champion's Brier score."
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
    replace_after_days: float = Field(
        default=GateRule().replace_after_days,
        ge=0,
        description="If the gate can't tell, it replaces a champion registered longer ago than this; 0: never.",
    )


def build_registered_model(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model."""
    key = key_of(spec, REGISTERED_MODEL)
    form = with_defaults(GateConfig, spec.gate, where=f"gate of model {spec.title}")

    @dg.asset(
        key=key,
        group_name=group_of(spec, "registry"),
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

        rule = GateRule(**config.model_dump())
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
                "model": version.name,
                "version": version.number,
                MLFLOW_RUN_ID: version.run_id,
                MODEL_URI: f"models:/{version.name}/{version.number}",
                "aliases": dg.MetadataValue.json(report.aliases),
                PROMOTED: verdict.promoted,
                "gate": verdict.reason,
                TEST_SET_VERSION: report.test_version,
            },
        )
        yield from check_results([report.reproduced, verdict.outcome], key)

    return registered_model
