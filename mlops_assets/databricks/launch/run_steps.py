"""Which steps a Dagster run has, which of them this process runs, and which are still to come.

What belongs here: deciding which process cleans up after a run. What does not: cleaning up (`uploads`, `warm`).
"""

from __future__ import annotations

import dagster as dg


def executes_whole_run(context: dg.StepExecutionContext) -> bool:
    """Whether this process runs all steps of its run, and so knows when the last one has ended."""
    here = set(context.plan_data.execution_plan.step_keys_to_execute)
    return here >= planned_steps(context.instance, context.dagster_run)


def steps_to_come(context: dg.StepExecutionContext) -> set[str]:
    """Return the keys of the steps of a run that have not ended, without that of the context."""
    ended = ended_steps(context.instance, context.run_id)
    return planned_steps(context.instance, context.dagster_run) - ended - {context.step.key}


def ended_steps(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """Return the keys of the steps of a run that have ended."""
    return {stats.step_key for stats in instance.get_run_step_stats(run_id) if stats.end_time is not None}


def planned_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Return the keys of all steps of a run; empty if its plan is not stored."""
    if run.execution_plan_snapshot_id is None:
        return set()
    return set(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)
