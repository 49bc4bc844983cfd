"""A step that takes long says so, and a run that is over says nothing more."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import dagster as dg
import pytest

from mlops_assets.cli.run_job import RunPrinter, _reminded


def entry(step: str, event: dg.DagsterEventType | None = None, message: str = "hello") -> dg.EventLogEntry:
    class Entry:
        step_key, user_message = step, message
        dagster_event = None if event is None else type("Event", (), {"event_type": event})()

    return cast("dg.EventLogEntry", cast("Any", Entry))


def test_a_quiet_step_is_named_with_its_time(capsys: pytest.CaptureFixture[str]):
    printer = RunPrinter()
    printer(entry("raw_transactions"))
    begun = time.monotonic()
    capsys.readouterr()

    printer.remind(begun + 5, after=10)
    assert capsys.readouterr().out == ""
    printer.remind(begun + 25, after=10)
    assert capsys.readouterr().out == "    still running: raw_transactions (25 s)\n"
    printer(entry("raw_transactions", dg.DagsterEventType.STEP_SUCCESS))
    capsys.readouterr()
    printer.remind(begun + 99, after=10)
    assert capsys.readouterr().out == "", "the step is over"


def test_the_reminder_ends_with_the_run(capsys: pytest.CaptureFixture[str]):
    printer = RunPrinter()
    printer(entry("splits"))

    with _reminded(printer, after=0.01):
        while "still running: splits" not in capsys.readouterr().out:
            time.sleep(0.01)

    assert "reminder" not in {thread.name for thread in threading.enumerate()}
