"""The states of a run, and the ways in which it can end.

What belongs here: states, results and their messages. What does not: the records that have them (`runs`), choosing
between them (`attempt`).

States and messages follow recorded runs: cancel in flyteorg/flytekit PR 1935; a failing task is TERMINATED/FAILED while
its run is INTERNAL_ERROR/FAILED with the task's message; a lost driver is "Could not reach driver of cluster".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

LifeCycle = Literal["PENDING", "RUNNING", "TERMINATING", "TERMINATED", "INTERNAL_ERROR", "SKIPPED"]
FINISHED = ("TERMINATED", "INTERNAL_ERROR", "SKIPPED")
WORKLOAD_FAILED = "Workload failed, see run output for details"


@dataclass(frozen=True)
class End:
    """How a task or run ended.

    Attributes:
        life_cycle: One of `FINISHED`.
        result: One of `jobs.RunResultState`.
        message: The state message, empty after a success.
        code: One of `jobs.TerminationCodeCode`.
        type: One of `jobs.TerminationTypeType`.
    """

    life_cycle: LifeCycle
    result: str
    message: str
    code: str
    type: str

    @property
    def is_success(self) -> bool:
        """Whether tasks that depend on it may run."""
        return self.result == "SUCCESS"


SUCCESS = End("TERMINATED", "SUCCESS", "", "SUCCESS", "SUCCESS")
FAILED = End("TERMINATED", "FAILED", WORKLOAD_FAILED, "RUN_EXECUTION_ERROR", "CLIENT_ERROR")
CANCELED = End("TERMINATED", "CANCELED", "Run cancelled.", "USER_CANCELED", "CLIENT_ERROR")
TIMED_OUT = End("TERMINATED", "TIMEDOUT", "Run timed out.", "CANCELED", "CLIENT_ERROR")
UPSTREAM_FAILED = End("SKIPPED", "UPSTREAM_FAILED", "An upstream task failed.", "SKIPPED", "CLIENT_ERROR")


def state_document(life_cycle: LifeCycle, end: End | None) -> dict[str, Any]:
    """Return a `jobs.RunState`."""
    state: dict[str, Any] = {"life_cycle_state": life_cycle, "state_message": "", "user_cancelled_or_timedout": False}
    if end is not None:
        state |= {"result_state": end.result, "state_message": end.message}
        state["user_cancelled_or_timedout"] = end in (CANCELED, TIMED_OUT)
    elif life_cycle == "PENDING":
        state["state_message"] = "Waiting for cluster"
    elif life_cycle == "RUNNING":
        state["state_message"] = "In run"
    return state


def status_document(life_cycle: LifeCycle, end: End | None) -> dict[str, Any]:
    """Return a `jobs.RunStatus`."""
    status: dict[str, Any] = {"state": "TERMINATED" if life_cycle in FINISHED else life_cycle}
    if end is not None:
        details = {"code": end.code, "type": end.type, **({"message": end.message} if end.message else {})}
        status["termination_details"] = details
    return status
