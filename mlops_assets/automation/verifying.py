"""The verification as a Dagster job, once a week: the lines of `mlops verify`.

What belongs here: the job and its schedule. What does not: the looks (`diagnostics/verification`).

Annotations are not postponed: Dagster inspects the one of `context`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.automation.doctor import log_findings
from mlops_assets.spec import models_in

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment

VERIFY = "verify"
WEEKLY_VERIFY = "weekly_verify"
_WEEKLY = "0 2 * * 0"  # before upkeep deletes anything


def verify_job(deployment: "Deployment", load: Callable[[], object], resources: Mapping[str, Any]) -> dg.JobDefinition:
    """Return the job that looks at stores, tables and models of this code location.

    Args:
        deployment: That of the code location.
        load: Makes the code location, whose models are looked at.
        resources: Its resources.
    """

    @dg.op(description="One line for each store and each model's tables; fails when one is damaged or does not fit.")
    def look(context: dg.OpExecutionContext) -> None:
        from mlops_assets.diagnostics.verification import verify

        models = models_in(getattr(load(), "metadata", None) or {})
        log_findings(context, verify(deployment, resources, models))

    @dg.job(
        name=VERIFY,
        executor_def=dg.in_process_executor,
        description="Reads tables, manifest, sets, models and stores, and compares them: what is damaged, missing or "
        "does not fit, line by line in the log. Starts no Spark and changes nothing.",
    )
    def verifying() -> None:
        look()

    return verifying


def verify_schedule(*, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Return the schedule of the job; `status` says whether it is on when nobody has switched it."""
    return dg.ScheduleDefinition(
        name=WEEKLY_VERIFY,
        job_name=VERIFY,
        cron_schedule=_WEEKLY,
        default_status=status,
        description="Looks once a week whether what lies on the disks is whole and fits together.",
    )
