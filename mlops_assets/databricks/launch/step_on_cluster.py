"""What the script on the cluster does with Dagster, once it can be imported: run the step, report its events and tags.

What belongs here: the Dagster instance of a process on the cluster, which ends with the process. What does not: what
must work before Dagster can be imported (`cluster_main`), and the format of the reports (`reports`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg


class _AddedTags:
    """The tags that code on the cluster adds to its Dagster run.

    Args:
        instance: This process's own; it gets the run, so that code can tag it as it does on the launching side.
        run: The run as it was launched.
    """

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        # Without the snapshots of its job, which are in the launching side's storage alone.
        instance.add_run(dg.DagsterRun(job_name=run.job_name, run_id=run.run_id, tags=run.tags))
        self._instance, self._run_id, self._reported = instance, run.run_id, dict(run.tags)

    def new(self) -> dict[str, str]:
        """Return the tags that the run has got since the last call."""
        run = self._instance.get_run_by_id(self._run_id)
        found = {} if run is None else {name: tag for name, tag in run.tags.items() if self._reported.get(name) != tag}
        self._reported |= found
        return found


@contextmanager
def reporting_tags(
    instance: dg.DagsterInstance, run: dg.DagsterRun, report: Callable[[dict[str, str]], object]
) -> Iterator[None]:
    """Report the tags that a block adds to a run, at its end, however it ends.

    Args:
        instance: This process's own.
        run: The run as it was launched.
        report: Takes the tags, if there are any.
    """
    tags = _AddedTags(instance, run)
    try:
        yield
    finally:
        if added := tags.new():
            report(added)


def run_step(step: Mapping[str, str], put: Callable[..., object]) -> bool:
    """Run the step and report its events; return whether it succeeded.

    Args:
        step: The fields of its `StepRunRef`, each in Dagster's own serialization.
        put: Takes the kind of a record and its fields. Tags are reported before the next event, because the process
            may be killed.
    """
    fields: dict[str, Any] = {name: dg.deserialize_value(text) for name, text in step.items()}
    reference = dg.StepRunRef(**fields)

    def report(entry: dg.EventLogEntry) -> None:
        if added := tags.new():
            put("tags", tags=added)
        put("event", entry=dg.serialize_value(entry))

    with dg.external_instance_from_step_run_ref(reference, event_listener_fn=report) as instance:
        tags = _AddedTags(instance, reference.dagster_run)
        events: list[Any] = list(dg.run_step_from_ref(reference, instance))
    return not any(event.is_step_failure or event.is_step_up_for_retry for event in events)
