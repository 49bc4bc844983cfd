"""Files that arrive in a volume, seen from where Dagster runs: there `/Volumes` is not mounted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.wire import ApiError, Reply
from mlops_assets.automation.landing import Pace
from mlops_assets.automation.sensors import NEW_FILES, new_files_sensor
from mlops_assets.data.sources.listing import landed_files
from mlops_assets.data.sources.storage import Opener
from mlops_assets.definitions import build_defs
from mlops_assets.diagnostics.checkup import examine
from mlops_assets.errors import PlatformError, SourceError, UnreachableError
from mlops_assets.resources.landing import opener_of
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import spec_of

VOLUME = "/Volumes/main/arrivals/inbox"


@pytest.fixture
def inbox(workspace: Workspace) -> WorkspaceClient:
    try:
        workspace.catalog.volume("main.arrivals.inbox")
    except ApiError:
        workspace.catalog.add_schema("main.arrivals")
        workspace.catalog.add_volume("main.arrivals.inbox")
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    for name in ("a.csv", "_draft.csv", "2026/b.parquet", "2026/.c.csv"):
        client.files.upload(f"{VOLUME}/{name}", io.BytesIO(b"x"), overwrite=True)
    return client


@pytest.fixture
def settings(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
    return Settings(home=tmp_path, target="databricks", source=VOLUME)


@pytest.fixture
def opened(inbox: WorkspaceClient, settings: Settings) -> Opener:
    del inbox
    return opener_of(settings)


def deny(_request: Any, _proceed: Any) -> Reply:
    raise ApiError(403, "PERMISSION_DENIED", "User does not have READ VOLUME on Volume 'main.arrivals.inbox'.")


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (VOLUME, ["a.csv"]),
        (f"{VOLUME}/", ["a.csv"]),
        (f"{VOLUME}/a.csv", ["a.csv"]),
        (f"{VOLUME}/*.csv", ["a.csv"]),
        (f"{VOLUME}/**/*", ["2026/b.parquet", "a.csv"]),
        (f"{VOLUME}/*.gz", []),
        (f"{VOLUME}/2026, {VOLUME}/*.csv", ["2026/b.parquet", "a.csv"]),
    ],
)
def test_a_volume_is_listed_like_any_folder(opened: Opener, place: str, found: list[str]):
    assert [file.location for file in landed_files(place, opened)] == [f"{VOLUME}/{name}" for name in found]


def test_a_mark_follows_what_the_workspace_says_of_a_file(workspace: Workspace, inbox: WorkspaceClient, opened: Opener):
    (by_folder,), (by_name,) = landed_files(VOLUME, opened), landed_files(f"{VOLUME}/a.csv", opened)
    assert by_folder.day is not None
    assert by_folder.day == by_name.day
    inbox.files.upload(f"{VOLUME}/a.csv", io.BytesIO(b"longer"), overwrite=True)
    assert landed_files(VOLUME, opened)[0].mark != by_folder.mark
    inbox.files.upload(f"{VOLUME}/a.csv", io.BytesIO(b"x"), overwrite=True)
    assert workspace.calls.matching("GET", "/api/2.0/fs/directories/*")


@pytest.mark.parametrize("place", [f"{VOLUME}/none", "/Volumes/main/arrivals/none/*.csv", f"{VOLUME}/none/**/*.csv"])
def test_a_place_that_is_not_there_is_an_error_and_not_an_empty_folder(opened: Opener, place: str):
    with pytest.raises(SourceError, match="no such folder"):
        landed_files(place, opened)


@pytest.mark.parametrize("place", [VOLUME, f"{VOLUME}/*.csv"])
def test_a_missing_right_is_an_error_of_the_tick(workspace: Workspace, settings: Settings, opened: Opener, place: str):
    sensor = new_files_sensor(spec_of(source=place), status=dg.DefaultSensorStatus.STOPPED, opened=opened)
    with (
        workspace.faults.on_call("denied", deny, path="/api/2.0/fs/*", times=None),
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance) as context,
        pytest.raises(UnreachableError, match=r"can't be listed.*READ VOLUME on main\.arrivals\.inbox"),
    ):
        sensor(context)
    assert settings.target == "databricks"


def test_the_sensor_of_a_code_location_finds_the_files(inbox: WorkspaceClient, settings: Settings):
    del inbox
    sensor = build_defs(settings).resolve_sensor_def(NEW_FILES)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, definitions=build_defs(settings)) as context,
    ):
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert "1 files there" in str(result.skip_reason), "seen, and looked at once more before it is taken"


def test_a_whole_file_is_asked_to_be_loaded_by_its_path_on_the_cluster(opened: Opener):
    pace = Pace(settle_seconds=0)
    sensor = new_files_sensor(spec_of(source=VOLUME), status=dg.DefaultSensorStatus.STOPPED, pace=pace, opened=opened)
    cursor: str | None = None
    asked: list[dg.RunRequest] = []
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
                result = sensor(context)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor
            asked += result.run_requests or []
    (request,) = asked
    assert request.run_config["ops"]["raw_transactions"]["config"]["source"]["location"] == f"{VOLUME}/a.csv"


def test_the_doctor_says_it_before(workspace: Workspace, inbox: WorkspaceClient, settings: Settings):
    del inbox

    def source(of: Settings) -> str:
        found = {finding.subject: finding for finding in examine(of, lambda: build_defs(of))}
        return str(found["source"])

    assert source(settings) == f"ok      source: {VOLUME} can be listed, 1 files"
    assert "no such folder" in source(settings.model_copy(update={"source": f"{VOLUME}/none"}))
    with workspace.faults.on_call("denied", deny, path="/api/2.0/fs/directories/*", times=None):
        assert "READ VOLUME on main.arrivals.inbox" in source(settings)


def test_on_the_cluster_and_without_databricks_the_path_is_one_of_the_machine(settings: Settings, tmp_path: Path):
    (tmp_path / "a.csv").touch()
    for here in (settings.model_copy(update={"runtime_version": "18.2"}), Settings(home=tmp_path)):
        fs, _ = opener_of(here)(VOLUME)
        assert "file" in fs.protocol
    assert [file.location for file in landed_files(str(tmp_path), opener_of(settings))] == [f"{tmp_path}/a.csv"]


def test_without_a_login_the_tick_fails(workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", "")
    monkeypatch.setenv("HOME", str(settings.home))
    with pytest.raises(PlatformError, match="no login to the workspace"):
        landed_files(VOLUME, opener_of(settings))
    assert len(workspace.calls) == 0
