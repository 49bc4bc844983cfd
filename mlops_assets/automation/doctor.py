"""The check-up as a Dagster job: the lines of `mlops doctor`, as seen from where runs are executed.

What belongs here: reporting findings in a run's log, and failing when something is wrong. What does not: the checks
themselves (`diagnostics`).

Annotations are not postponed: Dagster inspects the one of `context`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment

DOCTOR = "doctor"
_LEVELS = {"ok": "info", "warning": "warning", "error": "error"}


def doctor_job(deployment: "Deployment", load: Callable[[], object]) -> dg.JobDefinition:
    """Return the job that checks the settings of this code location.

    The machine it looks at is the one that executes Dagster runs, which need not be the one `mlops doctor` is run on.

    Args:
        deployment: That of the code location.
        load: Makes the code location; what it refuses is a finding.
    """

    @dg.op(description="One line for each thing that must be there; fails when one is not.")
    def check_up(context: dg.OpExecutionContext) -> None:
        # databricks-sdk takes a second to import, which loading the code location should not pay.
        from mlops_assets.diagnostics.checkup import examine
        from mlops_assets.diagnostics.launch_limit import launch_limit

        findings = [*examine(deployment, load), *launch_limit(deployment, context.instance)]
        log_findings(context, findings)

    @dg.job(
        name=DOCTOR,
        executor_def=dg.in_process_executor,
        description="What is right and what to fix, line by line in the log: Java, versions, settings and, for "
        "Databricks, the workspace. Starts no cluster and changes nothing.",
    )
    def doctor() -> None:
        check_up()

    return doctor


def log_findings(context: dg.OpExecutionContext, findings: Iterable[Any]) -> None:
    """Write findings of `diagnostics` into the run's log.

    Raises:
        dagster.Failure: One of them is an error.
    """
    findings = list(findings)
    for finding in findings:
        context.log.log(_LEVELS[finding.level].upper(), str(finding))
    wrong = [finding for finding in findings if finding.level == "error"]
    if wrong:
        raise dg.Failure(
            description="\n".join(str(finding) for finding in wrong),
            metadata={finding.subject: finding.text for finding in wrong},
            allow_retries=False,
        )
