"""Which steps a Dagster run has, and which of them this process runs.

What belongs here: deciding which process cleans up after a run. What does not: cleaning up (`uploads`).
"""

from __future__ import annotations

import dagster as dg


def executes_whole_run(context: dg.StepExecutionContext) -> bool:
    """Whether this process runs all steps of its run, and so knows when the last one has ended."""
    here = set(context.plan_data.execution_plan.step_keys_to_execute)
    return here >= planned_steps(context.instance, context.dagster_run)


def planned_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Return the keys of all steps of a run; empty if its plan is not stored."""
    if run.execution_plan_snapshot_id is None:
        return set()
    return set(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)
