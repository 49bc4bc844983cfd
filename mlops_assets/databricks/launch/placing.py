"""A launcher that picks the place of each step.

What belongs here: passing each step to the launcher of its place, or running it in this process. What does not: which
place a step has (`resources.launcher`), launching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg

from mlops_assets.dagster_internals import core_dagster_event_sequence_for_step


class PlacedSteps(dg.StepLauncher):
    """Picks a launcher for each step, because Dagster asks a resource for one launcher without naming the step.

    Args:
        launcher_of: Returns the launcher of a step, or None to run it here; raises if the step can't run in its place.
    """

    def __init__(self, launcher_of: Callable[[dg.StepExecutionContext], dg.StepLauncher | None]) -> None:
        self._launcher_of = launcher_of

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Run a step in its place; called by Dagster."""
        launcher = self._launcher_of(step_context)
        if launcher is None:
            # What Dagster itself does for a step without a launcher (`dagster_event_sequence_for_step`).
            yield from core_dagster_event_sequence_for_step(step_context)
        else:
            yield from launcher.launch_step(step_context)
