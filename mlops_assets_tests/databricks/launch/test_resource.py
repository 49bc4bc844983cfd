"""The resource that assets name, made of a profile."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.step_launcher import StepLauncher
from dagster._core.remote_representation.external_data import RepositorySnap

from databricks_loopback import Workspace
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.errors import SettingsError
from mlops_assets.resources.launcher import StepLauncherResource, launch_spec
from mlops_assets_tests.databricks.conftest import profile_of
from mlops_assets_tests.databricks.launch.driving import PATHS


def resource_of(profile: DatabricksProfile, **fields: Any) -> StepLauncherResource:
    document = profile.model_dump(mode="json", by_alias=True)
    return StepLauncherResource(**{"cost_class": "loader", "profile": document, **fields})


@pytest.mark.parametrize("cost_class", ["loader", "trials"])
def test_spec_is_what_the_profile_says(workspace: Workspace, cost_class: str):
    profile = profile_of(workspace, STAGING_PATH=PATHS["volume"], SECRETS="{WORD: scope/key}")
    spec = launch_spec(profile, cost_class, env={"A": "1"})  # type: ignore[arg-type]
    cluster = profile.cluster(cost_class)  # type: ignore[arg-type]
    assert spec.cluster["spark_version"] == cluster.api_spark_version
    assert spec.cluster["data_security_mode"] == "SINGLE_USER"
    assert (spec.staging, spec.staging_path) == ("volume", PATHS["volume"])
    assert (spec.env, spec.secrets) == ({"A": "1"}, {"WORD": "scope/key"})
    assert {"python", "dagster", "pydantic", "spark", "packages"} == set(spec.versions)
    assert (tuple(spec.libraries), "\ndagster==" in spec.requirements) == ((), True)
    assert (spec.timeout_seconds, spec.reuse_seconds) == (cluster.timeout_seconds, 60 * cluster.reuse_minutes)
    assert spec.orphan_seconds == 60 * profile.reap_after_minutes


def test_inactive_resource_leaves_the_step_where_it_is(workspace: Workspace):
    assert resource_of(profile_of(workspace), active=False).get_object_to_set_on_execution_context() is None
    assert StepLauncherResource(cost_class="trials", active=False).get_object_to_set_on_execution_context() is None


def test_dagster_finds_the_launcher(workspace: Workspace):
    resource = resource_of(profile_of(workspace), token=workspace.token)
    launcher = resource.get_object_to_set_on_execution_context()
    assert isinstance(launcher, StepLauncher)
    assert resource.get_object_to_set_on_execution_context() is launcher, "one for all steps of a process"


def told_to_the_ui(resource: dg.ConfigurableResource[Any]) -> str:
    return str(RepositorySnap.from_def(dg.Definitions(resources={"one": resource}).get_repository_def()))


def test_credentials_are_not_in_what_the_ui_is_told(workspace: Workspace):
    told = told_to_the_ui(resource_of(profile_of(workspace), token=workspace.token, client_secret="hunter2"))  # noqa: S106
    assert "client_secret" in told
    assert not [value for value in (workspace.token, workspace.host, "hunter2") if value in told]


def test_the_ui_would_be_told_what_an_ordinary_resource_holds():
    class Ordinary(dg.ConfigurableResource[Any]):
        token: str

    assert "hunter2" in told_to_the_ui(Ordinary(token="hunter2"))  # noqa: S106


def test_profile_that_can_not_be_used_is_refused_when_the_step_starts(workspace: Workspace):
    document = profile_of(workspace).model_dump(mode="json", by_alias=True)
    resource = StepLauncherResource(cost_class="loader", profile={**document, "staging": "ftp"}, token="x")  # noqa: S106
    with pytest.raises((SettingsError, ValueError), match="staging"):
        resource.get_object_to_set_on_execution_context()


def test_loading_it_imports_neither_sdk_nor_launcher():
    code = (
        "import sys, mlops_assets.resources.launcher; "
        "print([name for name in ('databricks.sdk', 'dagster_databricks', 'pyspark', "
        "'mlops_assets.databricks.launch.launcher') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_document_of_the_profile_is_json(workspace: Workspace):
    document = profile_of(workspace).model_dump(mode="json", by_alias=True)
    assert DatabricksProfile.model_validate(json.loads(json.dumps(document))) == profile_of(workspace)
