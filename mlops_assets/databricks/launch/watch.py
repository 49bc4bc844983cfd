"""Watches a run: yields the reports of its step and the changes of its state until both have ended.

What belongs here: what to read, in which order and how often. What does not: acting on it (`launcher`), the format of
the reports (`reports`).

The two may end in any order. If the step reports its end first, the watch goes on until the run has ended too; if the
run ends first, the reports are read once more, because they may arrive late or have been read while they were written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from databricks.sdk.errors.base import DatabricksError

from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.failures import RunView
from mlops_assets.databricks.launch.reports import ForgedChunkError, chunk_name, decode_chunk
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import Staging
from mlops_assets.errors import LaunchError

_SHORTEST_PAUSE_S: Final = 0.5
_LATE_READS, _LATE_PAUSE_S = 5, 1.0
_LONGEST_BEAT_S = 60.0


class Reports:
    """The chunks of one launch, each read once.

    Args:
        staging: Where they are stored.
        folder: The launch's folder.
        key: The launch's key, hexadecimal.
        warn: Called with the text of a problem that does not stop the watch.
    """

    def __init__(self, staging: Staging, folder: str, key: str, warn: Callable[[str], None]) -> None:
        self._staging, self._folder, self._key, self._warn = staging, folder, key, warn
        self._next, self._forged = 1, 0
        self.is_complete, self.process_stays = False, False

    @property
    def is_empty(self) -> bool:
        """Whether none has been read."""
        return self._next == 1

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield new records; an incomplete chunk is left for the next call, as is a forged one."""
        while not self.is_complete:
            data = self._staging.get(f"{self._folder}/{chunk_name(self._next)}")
            try:
                records = None if data is None else decode_chunk(self._next, data, self._key)
            except ForgedChunkError as error:
                if self._forged != self._next:  # once for each
                    self._forged = self._next
                    self._warn(
                        f"{self._folder}/{error} was not written by the step, and is not read. "
                        "Fix: find out who else writes to the staging folder, and revoke that."
                    )
                return
            if records is None:
                return
            self._next += 1
            ends = [record for record in records if record["kind"] == "end"]
            self.is_complete, self.process_stays = bool(ends), any(record["stays"] for record in ends)
            yield from records


@dataclass(frozen=True)
class WatchEvent:
    """One update: a record of the step, or a change of the run's state.

    Attributes:
        record: What the step reported, or None.
        view: The run, if this is about its state.
    """

    record: dict[str, Any] | None = None
    view: RunView | None = None


class Watch:
    """Watches one run.

    Args:
        api: The workspace.
        staging: Where the launch's folder is.
        folder: The launch's folder.
        key: The launch's key, hexadecimal.
        run_id: The run.
        spec: How often to poll, and for how long.
        warn: Called with the text of a problem that does not stop the watch.

    Attributes:
        view: The run as it was last seen.
        has_reported: Whether the step has reported its end.
        stays: Whether the run waits for another step.
    """

    def __init__(
        self,
        api: Api,
        staging: Staging,
        folder: str,
        key: str,
        run_id: int,
        spec: LaunchSpec,
        warn: Callable[[str], None],
    ) -> None:
        self._api, self._staging, self._folder, self._run_id = api, staging, folder, run_id
        self._spec, self._warn = spec, warn
        self._reports = Reports(staging, folder, key, warn)
        self._beats, self._beat_at = 0, time.monotonic()
        self._granted = not spec.cluster_permissions
        self._changed_at = time.monotonic()
        self.view: RunView | None = None

    @property
    def has_reported(self) -> bool:
        """Whether the step has reported its end."""
        return self._reports.is_complete

    @property
    def stays(self) -> bool:
        """Whether the run waits for another step."""
        return self._reports.process_stays

    def follow(self) -> Iterator[WatchEvent]:
        """Yield what happens until the run has ended, or until it waits for another step.

        Raises:
            LaunchError: The workspace no longer answers.
            databricks.sdk.errors.DatabricksError: It rejects a call.
        """
        looked_at = float("-inf")
        while True:
            news = False
            if self.view is not None and self.view.has_started:
                for record in self._reports.read():
                    news = True
                    yield WatchEvent(record=record)
                if self.has_reported:
                    break
            # A step that reports is alive; the run's state is polled only every few silent rounds.
            now = time.monotonic()
            running = self.view is not None and self.view.life_cycle == "RUNNING"
            if not news and (not running or now - looked_at >= 3 * self._pause()):
                looked_at = now
                yield from self._look()
                if self.view is not None and self.view.has_ended:
                    yield from self._read_late()
                    return
            if news:
                self._changed_at = now
            self._beat()
            time.sleep(self._pause())
        if not self.stays:
            yield from self._settle()

    def _look(self) -> Iterator[WatchEvent]:
        view = submission.look(self._api, self._run_id)
        changed = self.view is None or (view.life_cycle, view.message) != (self.view.life_cycle, self.view.message)
        self.view = view
        if changed:
            self._changed_at = time.monotonic()
            yield WatchEvent(view=view)
        if not self._granted and view.cluster_id is not None and not view.has_ended:
            self._grant(view.cluster_id)

    def _pause(self) -> float:
        """Return how long to wait: short after a change, longer the longer nothing happens."""
        silence = time.monotonic() - self._changed_at
        return min(self._spec.poll_seconds, max(_SHORTEST_PAUSE_S, silence / 10))

    def _read_late(self) -> Iterator[WatchEvent]:
        """Read what the ended run has left; a chunk may take a moment to appear, or to be complete."""
        for attempt in range(_LATE_READS):
            if attempt:
                time.sleep(_LATE_PAUSE_S)
            for record in self._reports.read():
                yield WatchEvent(record=record)
            never_ran = self.view is not None and self.view.lost_cluster and self._reports.is_empty
            if self.has_reported or never_ran:
                return

    def _settle(self) -> Iterator[WatchEvent]:
        """Wait until the run ends after its step; cancel it if it does not."""
        deadline, pause = time.monotonic() + self._spec.settle_seconds, _SHORTEST_PAUSE_S / 2
        while True:
            yield from self._look()
            if self.view is not None and self.view.has_ended:
                return
            if time.monotonic() > deadline:
                self._warn(f"the step has ended but its run {self._run_id} has not; cancelling it")
                submission.cancel(self._api, self._run_id)
                return
            time.sleep(pause)
            pause = min(pause * 1.5, self._spec.poll_seconds)

    def _beat(self) -> None:
        """Renew the heartbeat, without which the step on the cluster ends itself."""
        now = time.monotonic()
        if now - self._beat_at < min(self._spec.orphan_seconds / 4, _LONGEST_BEAT_S):
            return
        self._beat_at = now
        self._beats += 1
        try:
            self._staging.put(f"{self._folder}/heartbeat", str(self._beats).encode())
        except (LaunchError, DatabricksError) as error:
            self._warn(f"the heartbeat for the cluster could not be written: {error}")

    def _grant(self, cluster_id: str) -> None:
        self._granted = True
        try:
            submission.grant_cluster_permissions(self._api, self._spec, cluster_id)
        except (LaunchError, DatabricksError) as error:
            self._warn(f"permissions of cluster {cluster_id} could not be set; the run goes on: {error}")
