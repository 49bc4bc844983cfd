"""Automation conditions, evaluated by Dagster over real runs, as its daemon does at each tick.

What belongs here: ticks, and the runs between them. What does not: assets and what should be asked for (the test).
Whether a condition is *written* as wanted says nothing; what is asked for after which history does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

_ROUNDS = 10


@dataclass
class Ticks:
    """The daemon's look at a code location; assets are named as in the UI, such as `cards/train_set`.

    Attributes:
        instance: Holds the history.
        defs: The code location; give another one for a deployment in between.
        now: The time of the last tick, which conditions such as `cron_tick_passed` go by.
    """

    instance: dg.DagsterInstance
    defs: dg.Definitions
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(minute=1, second=30, microsecond=0))
    _cursor: Any = field(default=None, init=False, repr=False)

    def look(self, minutes: int = 1) -> set[str]:
        """Evaluate all conditions once, some minutes later; return the names of what is asked for."""
        self.now += timedelta(minutes=minutes)
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self._cursor, evaluation_time=self.now
        )
        self._cursor = result.cursor
        return {key.to_user_string() for key in self.defs.resolve_all_asset_keys() if result.get_num_requested(key)}

    def execute(self, names: Collection[str]) -> bool:
        """Materialize assets in this process; return whether that succeeded."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=_keys(names), raise_on_error=False
        ).success

    def start(self, names: Collection[str]) -> dg.DagsterRun:
        """Begin a run that somebody else executes, and leave it going."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(job_def=job, asset_selection=frozenset(_keys(names)))
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job.name)
        self.instance.report_dagster_event(event, run.run_id)
        return run

    def settle(self) -> list[set[str]]:
        """Look and run what is asked for until nothing is; return what was run, in order.

        Raises:
            AssertionError: After ten rounds something is still asked for.
        """
        ran: list[set[str]] = []
        for _ in range(_ROUNDS):
            if not (asked := self.look()):
                return ran
            ran.append(asked)
            self.execute(asked)
        raise AssertionError(f"it does not come to rest: {ran}")


def _keys(names: Collection[str]) -> list[dg.AssetKey]:
    return [dg.AssetKey.from_user_string(name) for name in names]
