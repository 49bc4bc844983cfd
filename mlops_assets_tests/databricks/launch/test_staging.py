"""Files that both sides see."""

from __future__ import annotations

from typing import Any

import pytest

from databricks_loopback import Workspace
from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.reports import chunk_name, encode_chunk
from mlops_assets.databricks.launch.spec import StagingKind
from mlops_assets.databricks.launch.staging import Staging, staging_of
from mlops_assets.databricks.launch.watch import Reports
from mlops_assets.errors import LaunchError
from mlops_assets_tests.databricks.launch.driving import PATHS, Driver

KINDS: tuple[StagingKind, ...] = ("volume", "dbfs")


@pytest.fixture
def api(workspace: Workspace) -> Api:
    return Api(Credentials(workspace.host, workspace.token), retry_seconds=5)


@pytest.fixture(params=KINDS)
def staging(request: pytest.FixtureRequest, api: Api) -> Staging:
    return staging_of(api, request.param, PATHS[request.param])


@pytest.mark.parametrize("size", [0, 10, 2**20, 2**20 + 1, 3 * 2**20])
def test_what_is_put_is_what_is_got(staging: Staging, size: int):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert staging.get("run/file") is None
    assert not staging.exists("run/file")
    staging.put("run/file", b"older")
    staging.put("run/file", data)
    assert staging.get("run/file") == data
    assert staging.exists("run/file")


def test_names_with_signs_are_escaped(staging: Staging):
    name = "run/50% of #1?.json"
    staging.put(name, b"x")
    assert staging.get(name) == b"x"
    assert staging.names("run") == ["50% of #1?.json"]


def test_remove_takes_all_and_is_content_with_nothing(staging: Staging):
    for name in ("run/a", "run/inner/b", "run/inner/deeper/c", "other/d"):
        staging.put(name, b"x")
    assert sorted(staging.names("")) == ["other", "run"]
    staging.remove("run")
    staging.remove("run")
    assert staging.names("") == ["other"]
    assert staging.names("run") == []


def test_volume_of_many_files_is_removed(workspace: Workspace, api: Api):
    staging = staging_of(api, "volume", PATHS["volume"])
    staging.put("run/0", b"x")
    folder = workspace.storage.in_volumes(f"{PATHS['volume']}/run")
    for number in range(1, 1100):  # more than a page of the listing
        (folder / str(number)).write_bytes(b"x")
    staging.remove("run")
    assert not folder.exists()


def test_script_lies_where_the_jobs_api_takes_it(staging: Staging, workspace: Workspace):
    python_file = staging.scripts.put("run/main.py", b"print(1)")
    assert python_file.startswith("/Workspace/Users/engineer@example.com/"), "everybody can write to DBFS"
    assert workspace.storage.locate(python_file).read_bytes() == b"print(1)"
    staging.remove("run")
    staging.scripts.remove("run")
    staging.scripts.remove("run")
    assert not workspace.storage.locate(python_file).exists()


def test_scripts_of_a_dead_launcher_are_found(api: Api, workspace: Workspace):
    left = staging_of(api, "volume", PATHS["volume"]).scripts.put("run/main.py", b"print(1)")
    other = staging_of(api, "volume", PATHS["volume"]).scripts.put("run2/main.py", b"print(1)")
    staging_of(api, "volume", PATHS["volume"]).scripts.remove("run")
    assert not workspace.storage.locate(left).exists()
    assert workspace.storage.locate(other).exists()


def test_script_folder_can_be_chosen(api: Api, workspace: Workspace):
    staging = staging_of(api, "volume", PATHS["volume"], script_folder="/Shared/team")
    assert staging.scripts.put("run/main.py", b"print(1)") == "/Workspace/Shared/team/run-main.py"
    assert workspace.calls.matching("GET", "*/Me") == []


def test_a_report_that_somebody_else_wrote_is_not_read_and_does_not_hide_the_step_s_own(staging: Staging):
    key, warnings = "ab" * 32, list[str]()
    reports = Reports(staging, "run/raw-0", key, warnings.append)
    forged: list[dict[str, Any]] = [{"kind": "event", "entry": "{}"}, {"kind": "end", "stays": False}]
    name = f"run/raw-0/{chunk_name(1)}"

    staging.put(name, encode_chunk(1, forged, "cd" * 32))
    assert [*reports.read(), *reports.read()] == []
    assert not reports.is_complete
    assert [f"{name} was not written by the step" in warning for warning in warnings] == [True]

    own: list[dict[str, Any]] = [{"kind": "end", "stays": False}]
    staging.put(name, encode_chunk(1, own, key))
    assert list(reports.read()) == own
    assert reports.is_complete


def test_block_that_arrives_twice_is_noticed(api: Api, workspace: Workspace):
    staging = staging_of(api, "dbfs", PATHS["dbfs"])
    workspace.faults.lose_answer("/api/2.0/dbfs/add-block")
    data = b"ab" * 2**20
    staging.put("run/file", data)
    assert staging.get("run/file") == data


@pytest.mark.parametrize("kind", KINDS)
def test_credential_is_not_put(api: Api, workspace: Workspace, kind: StagingKind):
    """Base64 would hide it from a look at the body."""
    staging = staging_of(api, kind, PATHS[kind])
    for put in (staging.put, staging.scripts.put):
        with pytest.raises(LaunchError, match="a credential"):
            put("run/file", b"..." + workspace.token.encode() + b"...")
    assert workspace.calls.matching("P*", "*") == []


def test_no_dbfs_says_which_setting_mends_it(dbfs: Driver):
    dbfs.workspace.faults.no_dbfs()
    text = dbfs.run("nothing").failure_text
    assert "DBFS can't be used" in text
    assert "set `staging: volume` and `staging_path: /Volumes/<catalog>/<schema>/<volume>`" in text
    assert dbfs.workspace.calls.matching("POST", "*/submit") == []


@pytest.mark.parametrize("path", ["/Volumes/main/ml/nothing", "/Volumes/main/nothing/x", "/Volumes/nothing/x/y"])
def test_no_volume_says_which_setting_mends_it(volume: Driver, path: str):
    text = volume.run("nothing", staging_path=path).failure_text
    assert "the volume can't be used" in text
    assert "WRITE VOLUME" in text
    assert "`staging: dbfs`" in text
    assert volume.workspace.calls.matching("POST", "*/submit") == []


def test_script_folder_that_can_not_be_written_says_so(volume: Driver):
    (volume.workspace.storage.files / "blocked").write_text("a file, no folder", "utf-8")
    text = volume.run("nothing", script_folder="/blocked/inner").failure_text
    assert "can't be stored as a workspace file" in text
    assert "script_folder" in text
