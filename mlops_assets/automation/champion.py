"""The alias `champion` in Dagster: a job that goes back to an older version, a sensor for moves by other clients.

What belongs here: Dagster's side. What does not: the moves themselves (`registry/alias_moves`).

Annotations are not postponed: Dagster inspects those of `context` and `config`.
"""

import dagster as dg
from pydantic import Field

from mlops_assets.assets.run_config import close_form
from mlops_assets.automation.retired import Retired, active
from mlops_assets.lineage import RUN_MODEL_TAG
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

ROLLBACK = "rollback"
RECONCILE = "reconcile_champion"
_SECONDS = 300


class RollbackConfig(dg.Config):
    """Where to go back to, and why."""

    to: int = Field(default=0, ge=0, description="The version; 0: the champion before the present one.")
    reason: str = Field(default="by hand", description="Kept in the ledger of champions.")


def rollback_job(spec: FraudModelSpec) -> dg.JobDefinition:
    """Return the job that makes an older version of a model champion again."""

    @dg.op(name=f"{spec.prefixed(ROLLBACK)}_op", description="Verifies the older version, then moves the alias.")
    def go_back(
        context: dg.OpExecutionContext, config: RollbackConfig, lakehouse: LakehouseResource, tracking: Tracking
    ) -> None:
        from mlops_assets.registry.alias_moves import REGISTRATION_LOCK, ChampionLedger, Move

        there, name = lakehouse.open(spec), tracking.model(spec.registered_model)
        ledger = ChampionLedger.of(tracking.connect(spec.experiment), name, there)
        why = Move("rolled back", config.reason, dagster_run=context.run_id)
        with there.exclusive(REGISTRATION_LOCK):
            left, taken = ledger.rollback(config.to or None, why)
        context.log.info(f"{name}: version {taken} is champion instead of version {left} ({config.reason})")

    close_form(go_back)

    @dg.job(
        name=spec.prefixed(ROLLBACK),
        executor_def=dg.in_process_executor,
        tags={RUN_MODEL_TAG: spec.title},
        description="Make an older version champion again, once it is verified. Starts no Spark and no cluster.",
    )
    def rollback() -> None:
        go_back()

    return rollback


def reconcile_sensor(
    spec: FraudModelSpec, *, status: dg.DefaultSensorStatus, moves_back: bool, retired: Retired = active
) -> dg.SensorDefinition:
    """Return the sensor that writes down a move of the alias by another client, such as MLflow's UI.

    Args:
        spec: The model.
        status: Whether it is on when nobody has switched it.
        moves_back: Whether it makes the champion of the ledger champion again.
        retired: Says whether the model is retired; then there is nothing to look at.
    """

    @dg.sensor(
        name=spec.prefixed(RECONCILE),
        minimum_interval_seconds=_SECONDS,
        default_status=status,
        description="Notices that another client has moved the alias `champion`, and writes it into the ledger.",
    )
    def reconcile(
        context: dg.SensorEvaluationContext, lakehouse: LakehouseResource, tracking: Tracking
    ) -> dg.SkipReason:
        from mlops_assets.registry.alias_moves import REGISTRATION_LOCK, ChampionLedger

        if reason := retired():
            return dg.SkipReason(reason)
        there, name = lakehouse.open(spec), tracking.model(spec.registered_model)
        ledger = ChampionLedger.of(tracking.connect(spec.experiment), name, there)
        with there.exclusive(REGISTRATION_LOCK):
            found = ledger.reconcile(moves_back=moves_back)
        if found:
            context.log.warning(found)
        return dg.SkipReason(found or "the alias is where the ledger says")

    return reconcile
