"""A launcher for steps that run in several places.

What belongs here: handing each step to the launcher of its place, or running it here. What does not: which step has
which place (`resources.launcher`), launching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg

from mlops_assets.dagster_internals import core_dagster_event_sequence_for_step


class PlacedSteps(dg.StepLauncher):
    """Decides for each step, because Dagster asks a resource for one launcher and does not say for which step.

    Args:
        launcher_of: Returns the launcher of a step, or None to run it here; raises for one that can't run there.
    """

    def __init__(self, launcher_of: Callable[[dg.StepExecutionContext], dg.StepLauncher | None]) -> None:
        self._launcher_of = launcher_of

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Run a step in its place; Dagster calls this."""
        launcher = self._launcher_of(step_context)
        if launcher is None:
            # What Dagster itself does with a step that has no launcher (`dagster_event_sequence_for_step`).
            yield from core_dagster_event_sequence_for_step(step_context)
        else:
            yield from launcher.launch_step(step_context)
