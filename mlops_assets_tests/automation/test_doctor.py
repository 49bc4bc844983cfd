"""The doctor as a job: the lines of the command, and a failure when one is not ok."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.automation.doctor import DOCTOR
from mlops_assets.definitions import build_defs
from mlops_assets.diagnostics.checkup import examine
from mlops_assets.settings import Settings

NOWHERE = "https://127.0.0.1:9"


def ran(settings: Settings, instance: dg.DagsterInstance) -> tuple[dg.ExecuteInProcessResult, list[tuple[str, str]]]:
    """Run the job; return its result and its own log lines with their levels."""
    job = build_defs(settings).resolve_job_def(DOCTOR)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    entries = instance.all_logs(result.run_id)
    return result, [(dg_level(entry.level), entry.user_message) for entry in entries if entry.dagster_event is None]


def dg_level(level: int | str) -> str:
    return {20: "ok", 30: "warning", 40: "error"}[int(level)]


def test_good_settings_are_a_line_each_and_a_success(tmp_path: Path, instance: dg.DagsterInstance):
    settings = Settings(home=tmp_path / "home")
    result, lines = ran(settings, instance)
    assert result.success
    assert [text for _, text in lines] == [str(finding) for finding in examine(settings, lambda: build_defs(settings))]
    assert [text.split()[1].rstrip(":") for _, text in lines] == ["java", "python", "packages", "home", "settings"]
    assert {level for level, _ in lines} == {"ok"}


def test_what_is_wrong_fails_the_job_and_says_what_to_do(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", NOWHERE)
    (tmp_path / "file").write_text("", "utf-8")
    result, lines = ran(Settings(home=tmp_path / "file", target="databricks"), instance)
    assert not result.success
    (event,) = result.get_step_failure_events()
    shown = event.step_failure_data.user_failure_data
    assert shown is not None
    assert {"home", "host"} == set(shown.metadata)
    assert f"{NOWHERE} can't be reached" in str(shown.description)
    assert "set MLOPS_HOME to a writable folder" in str(shown.description)
    assert [level for level, text in lines if " home: " in text or " host: " in text] == ["error", "error"]
    assert any(text.startswith("ok      java:") for _, text in lines)


def test_a_placement_that_loading_would_refuse_is_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", NOWHERE)
    monkeypatch.setenv("MLOPS_DATABRICKS_PLACEMENT", "{nothing: local}")
    broken = Settings(home=tmp_path, target="databricks")
    found = {finding.subject: finding for finding in examine(broken, lambda: build_defs(broken))}
    assert found["settings"].level == "error"
    assert "placement names unknown assets: nothing" in found["settings"].text
