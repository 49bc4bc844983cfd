"""What `runs/get` answers while a task ends: at no moment a run that is over and has no result."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from databricks_loopback import run_states
from databricks_loopback.run_states import FAILED, SUCCESS, End
from databricks_loopback.runs import Run, TaskRun


def run_of(*keys: str) -> Run:
    tasks = [TaskRun(number, key, {}, Path("/nowhere")) for number, key in enumerate(keys, 1)]
    return Run(10, 11, "run", {}, tasks, "engineer@example.com")


def states(run: Run) -> list[dict[str, Any]]:
    document = run.document("http://127.0.0.1", 1)
    return [part["state"] for part in (document, *document["tasks"])]


class EndsWhileLookedAt(TaskRun):
    """A task that ends right after the first look at one of its attributes: the worst moment for an answer."""

    armed = ""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == super().__getattribute__("armed"):
            self.armed = ""
            # What was looked at is as it was: `finished` is an event, which would change in the looker's hand.
            value = threading.Event() if name == "finished" else value
            self.finish(SUCCESS)
        return value


@pytest.mark.parametrize("look", ["phase", "end", "finished", "ended_at"])
def test_a_task_that_ends_while_the_answer_is_made_has_ended_with_its_result_or_not_at_all(look: str):
    task = EndsWhileLookedAt(1, "a", {}, Path("/nowhere"))
    task.running()
    task.armed = look
    document = Run(10, 11, "run", {}, [task], "engineer@example.com").document("http://127.0.0.1", 1)
    assert task.armed == ""
    for part in (document, *document["tasks"]):
        is_over = part["state"]["life_cycle_state"] in run_states.FINISHED
        assert is_over == ("result_state" in part["state"])
        assert is_over == ("termination_details" in part["status"])
        assert (part["status"]["state"] == "TERMINATED") == is_over


def test_states_on_the_way():
    run = run_of("a", "b")
    assert [state["life_cycle_state"] for state in states(run)] == ["PENDING", "PENDING", "PENDING"]
    run.tasks[0].running()
    assert [state["life_cycle_state"] for state in states(run)] == ["RUNNING", "RUNNING", "PENDING"]
    run.tasks[0].finish(SUCCESS)
    assert [state["life_cycle_state"] for state in states(run)] == ["RUNNING", "TERMINATED", "PENDING"]
    run.tasks[1].running()
    run.tasks[1].phase = "TERMINATING"
    assert states(run)[0]["life_cycle_state"] == "TERMINATING"


@pytest.mark.parametrize("end", [SUCCESS, FAILED])
def test_answers_from_many_threads_are_never_half_an_end(end: End):
    wrong: list[dict[str, Any]] = []
    for _ in range(200):
        run = run_of("a")
        run.tasks[0].running()

        def look(run: Run = run) -> None:
            for _ in range(20):
                wrong.extend(
                    state
                    for state in states(run)
                    if (state["life_cycle_state"] in run_states.FINISHED) != ("result_state" in state)
                )

        looker = threading.Thread(target=look)
        looker.start()
        run.tasks[0].finish(end)
        looker.join()
    assert wrong == []
