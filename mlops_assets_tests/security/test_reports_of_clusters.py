"""Whoever forges a report from a cluster speaks for its own step at most, and steers no terminal."""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.databricks.launch.accepted import own_tags, refusal
from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher, _Launch
from mlops_assets.databricks.launch.reports import ForgedChunkError, decode_chunk, encode_chunk
from mlops_assets.foreign_text import for_terminal

KEY = "0f" * 32


def entry(kind: dg.DagsterEventType | None, *, run_id: str = "mine", step: str | None = "raw") -> dg.EventLogEntry:
    data = StepMaterializationData(dg.AssetMaterialization("raw"))
    event = None
    if kind is not None:
        specific = data if kind is dg.DagsterEventType.ASSET_MATERIALIZATION else None
        event = dg.DagsterEvent(kind.value, "main", step_key=step, event_specific_data=specific)
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="said", run_id=run_id, timestamp=time.time(), dagster_event=event
    )


SAID = (None, dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.STEP_START)


@pytest.mark.parametrize("kind", SAID)
def test_what_the_step_says_is_taken(kind: dg.DagsterEventType | None):
    assert refusal(entry(kind), run_id="mine", step="raw") == ""


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (entry(None, run_id="other"), "of run other"),
        (entry(dg.DagsterEventType.ASSET_MATERIALIZATION, run_id="other"), "of run other"),
        (entry(dg.DagsterEventType.ASSET_MATERIALIZATION, step="registered_model"), "of step registered_model"),
        (entry(dg.DagsterEventType.RUN_SUCCESS, step=None), "no step reports"),
        (entry(dg.DagsterEventType.RUN_CANCELED), "no step reports"),
        (entry(dg.DagsterEventType.ASSET_WIPED), "no step reports"),
    ],
    ids=["log of another run", "event of another run", "another step", "end of the run", "cancelled", "wiped"],
)
def test_what_it_can_t_say_is_not(forged: dg.EventLogEntry, reason: str):
    assert reason in refusal(forged, run_id="mine", step="raw")


def test_tags_by_which_dagster_works_are_not_set():
    tags = {"model": "cards", "dagster/run_key": "x", ".dagster/grpc_info": "{}", "mlflow_run": 7}

    assert own_tags(tags) == {"model": "cards", "mlflow_run": "7"}


def test_a_launcher_takes_nothing_else(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    @dg.op
    def raw() -> None: ...

    @dg.job
    def main() -> None:
        raw()

    run = instance.create_run_for_job(main)
    parts: dict[str, Any] = {
        "log": logging.getLogger("launch"),
        "context": SimpleNamespace(instance=instance, run_id=run.run_id),
        "attempt": SimpleNamespace(step="raw"),
    }
    launch = _Launch(folder="f", **parts)
    launcher = object.__new__(DatabricksStepLauncher)

    def reported(**record: Any) -> list[dg.DagsterEvent]:
        return list(launcher._take(launch, record))

    own = entry(dg.DagsterEventType.ASSET_MATERIALIZATION, run_id=run.run_id)
    forged = entry(dg.DagsterEventType.RUN_CANCELED, run_id=run.run_id, step=None)
    assert len(reported(kind="event", entry=dg.serialize_value(own))) == 1
    assert reported(kind="event", entry=dg.serialize_value(forged)) == []
    assert "an event PIPELINE_CANCELED, which no step reports was not taken" in caplog.text
    reported(kind="tags", tags={"dagster/run_key": "x", "model": "cards"})
    reported(kind="stdout", text="\x1b]0;owned\x07")
    reported(kind="stderr", text="\x1b]0;owned\x07")

    kept = instance.get_run_by_id(run.run_id)
    assert kept is not None
    assert kept.status is not dg.DagsterRunStatus.CANCELED
    assert dict(kept.tags) == {"model": "cards"}
    assert capsys.readouterr() == ("\\x1b]0;owned\\x07", "\\x1b]0;owned\\x07")


@given(text=st.one_of(st.text(), st.text(alphabet="\x1b[]0;m2J\x07\x9b\r\n\ta\u202e")))
def test_printed_text_steers_no_terminal(text: str):
    shown = for_terminal(text)

    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert re.fullmatch(r"(?:[^\x1b]|\x1b\[[0-9;]*m)*", shown)


def test_lines_and_colors_are_kept():
    assert for_terminal("\x1b[32m10 %\x1b[0m\r\n\tdone") == "\x1b[32m10 %\x1b[0m\r\n\tdone"
    assert for_terminal("\x1b]0;owned\x07") == "\\x1b]0;owned\\x07"


@given(data=st.binary(max_size=200), number=st.integers(1, 9))
def test_a_chunk_of_any_bytes_is_none_or_what_was_written(data: bytes, number: int):
    written = encode_chunk(number, [{"kind": "end"}], KEY)

    with suppress(ForgedChunkError):
        assert decode_chunk(number, data, KEY) is None
    assert decode_chunk(number, written, KEY) == [{"kind": "end"}]
    with pytest.raises(ForgedChunkError):
        decode_chunk(number + 1, written, KEY)
