"""One launched run as the launching side knows it: what it has reported, how it ended, how Dagster shows that.

What belongs here: what the step launcher and Pipes do with a run in the same way. What does not: reports that only one
of them reads (`launcher`, `pipes_client`), watching (`watch`), what a code of Databricks means (`failures`).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.failures import RunView, reason_of, tail
from mlops_assets.foreign_text import for_terminal, printable

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.watch import Watch

_TAIL_CHARACTERS = 20_000


class Ending(NamedTuple):
    """Why a run ended before its step did.

    Attributes:
        text: What happened, and how to fix it.
        trace: Traceback on the cluster, empty if there is none.
        is_transient: Whether the same step may succeed on another machine.
    """

    text: str
    trace: str
    is_transient: bool


@dataclass(kw_only=True)
class LaunchedRun:
    """The state of one launch.

    Attributes:
        log: Log of the step in Dagster.
        folder: Its folder in staging.
        key: Its secret, hexadecimal, with which reports from the cluster are signed.
        run_id: Its run, once submitted.
        watch: The watch over the run, once it is submitted.
        stderr: The end of what was printed to stderr on the cluster.
        failure: The report of the script on the cluster, if it could not run the step to its end.
    """

    log: dg.DagsterLogManager
    folder: str
    key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    run_id: int | None = None
    watch: Watch | None = None
    stderr: str = ""
    failure: dict[str, Any] | None = None

    @property
    def view(self) -> RunView | None:
        """The run as it was last seen."""
        return None if self.watch is None else self.watch.view

    def take(self, record: Mapping[str, Any]) -> None:
        """Handle one report of the script; kinds that are unknown here are left to the caller."""
        kind = record["kind"]
        if kind == "stdout":
            sys.stdout.write(for_terminal(record["text"]))
        elif kind == "stderr":
            self.stderr = (self.stderr + for_terminal(record["text"]))[-_TAIL_CHARACTERS:]
            sys.stderr.write(for_terminal(record["text"]))
        elif kind == "warning":
            self.log.warning(f"Cluster and launching side differ: {printable(record['text'])}")
        elif kind == "failure":
            self.failure = dict(record)

    def cancel(self, api: Api, orphan_seconds: float) -> None:
        """Cancel the run if it is still active, because nobody will watch it any more."""
        if self.run_id is None or (self.view is not None and self.view.has_ended):
            return
        try:
            submission.cancel(api, self.run_id)
        except Exception as error:  # noqa: BLE001 - the error that led here must be raised
            self.log.error(  # noqa: TRY400 - the text says it all; the traceback would be an HTTP client's
                f"Databricks run {self.run_id} could not be cancelled ({error}). It ends by itself after "
                f"{orphan_seconds:g} s without a heartbeat."
            )
        else:
            self.log.info(f"Databricks run {self.run_id} was cancelled.")

    def ending(self, api: Api, view: RunView) -> Ending:
        """Return why the run ended without a report from its step; takes its log if nothing of it has arrived."""
        output = submission.output(api, view)
        reason = reason_of(view, cluster_code=submission.termination_code(api, view))
        summary = f": {output['error']}" if output.get("error") and output["error"] != view.message else ""
        text = f"Databricks run {view.run_id} failed, {reason.what}. {view.state}{summary} Fix: {reason.fix}"
        self.stderr = self.stderr or output.get("logs") or ""
        return Ending(text, output.get("error_trace") or "", reason.is_transient)

    def evidence(self, trace: str = "") -> dict[str, Any]:
        """Return what is known about the run as metadata of a failure."""
        shown = {} if self.view is None else page_of(self.view)
        for title, content in (("traceback on the cluster", trace), ("end of stderr", self.stderr)):
            if content:
                shown[title] = dg.MetadataValue.md(f"```\n{tail(content)}\n```")
        return shown


def page_of(view: RunView) -> dict[str, Any]:
    """Return link and state of a run as metadata."""
    link = {"Databricks run": dg.MetadataValue.url(view.url)} if view.url else {}
    return {**link, "state": view.state}
