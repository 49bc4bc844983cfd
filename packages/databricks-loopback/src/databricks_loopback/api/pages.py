"""The page that links of runs lead to; the platform's own web UI is not emulated.

What belongs here: one list of runs for people. What does not: what clients read (the other modules).

Links have the form `<host>/?o=<workspace>#job/<job>/run/<run>`: the browser does not send their last part, but marks
that row of the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from databricks_loopback.clusters import now_ms
from databricks_loopback.routing import Route
from databricks_loopback.runs import Run, Runs
from databricks_loopback.wire import Reply, Request

_HEAD = """<!doctype html><meta charset="utf-8"><title>Loopback workspace</title>
<style>body { font: 15px sans-serif; margin: 2em } td, th { text-align: left; padding: .3em 1.5em .3em 0 }
tr:target { background: #fe9 }</style>
<h1>Runs of the loopback workspace</h1>
<table><tr><th>run<th>name<th>state<th>cluster<th>seconds</tr>
"""


class Pages:
    """The list of runs.

    Args:
        runs: All runs.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> list[Route]:
        """Return the page; it needs no token, and shows neither logs nor parameters."""
        return [Route("GET", "/", self._list, public=True)]

    def _list(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        rows = "".join(_row(run) for run in self._runs)
        return Reply(200, f"{_HEAD}{rows}</table>\n".encode(), {"Content-Type": "text/html; charset=utf-8"})


def _row(run: Run) -> str:
    seconds = ((run.ended_at or now_ms()) - run.started_at) / 1000
    end = run.end  # read once: the run may end between two reads
    state = f"{run.life_cycle(end)} {end.result if end else ''}".strip()
    cells = [str(run.id), run.name, state, ", ".join(task.cluster.id for task in run.tasks if task.cluster)]
    shown = "".join(f"<td>{escape(cell)}" for cell in [*cells, f"{seconds:.1f}"])
    return f'<tr id="job/{run.job_id}/run/{run.id}">{shown}</tr>\n'
