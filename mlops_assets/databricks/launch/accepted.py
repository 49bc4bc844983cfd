"""What a launching process believes of the reports from a cluster: only what its own step may say.

What belongs here: which events and tags are taken. What does not: the format of reports (`reports`), text for a
terminal (`foreign_text`).

The reports lie in a folder that others may be able to write to. Whoever forges one can spoil this step, as by writing
to its tables; they must not report for another step or run, end the run, or set the tags by which Dagster works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

_T = dg.DagsterEventType
_OF_A_STEP: Final = frozenset(
    {
        _T.ASSET_CHECK_EVALUATION,
        _T.ASSET_CHECK_EVALUATION_PLANNED,
        _T.ASSET_MATERIALIZATION,
        _T.ASSET_OBSERVATION,
        _T.ENGINE_EVENT,
        _T.HANDLED_OUTPUT,
        _T.HOOK_COMPLETED,
        _T.HOOK_ERRORED,
        _T.HOOK_SKIPPED,
        _T.LOADED_INPUT,
        _T.LOGS_CAPTURED,
        _T.OBJECT_STORE_OPERATION,
        _T.RESOURCE_INIT_FAILURE,
        _T.RESOURCE_INIT_STARTED,
        _T.RESOURCE_INIT_SUCCESS,
        _T.STEP_EXPECTATION_RESULT,
        _T.STEP_FAILURE,
        _T.STEP_INPUT,
        _T.STEP_OUTPUT,
        _T.STEP_RESTARTED,
        _T.STEP_SKIPPED,
        _T.STEP_START,
        _T.STEP_SUCCESS,
        _T.STEP_UP_FOR_RETRY,
        _T.STEP_WORKER_STARTED,
        _T.STEP_WORKER_STARTING,
    }
)
_DAGSTERS: Final = ("dagster/", ".dagster/")


def refusal(entry: dg.EventLogEntry, *, run_id: str, step: str) -> str:
    """Return why an event is not taken; empty if it is one of this step."""
    if entry.run_id != run_id:
        return f"an event of run {entry.run_id}"
    if not entry.is_dagster_event:
        return ""  # a line of its log
    event = entry.get_dagster_event()
    if event.event_type not in _OF_A_STEP:
        return f"an event {event.event_type_value}, which no step reports"
    return "" if event.step_key in (None, step) else f"an event of step {event.step_key}"


def own_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a step may give its run: not those by which Dagster works."""
    return {name: str(value) for name, value in tags.items() if not name.startswith(_DAGSTERS)}
