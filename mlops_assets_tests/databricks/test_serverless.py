"""`compute: serverless`: what a profile may say with it, what is submitted, and what a session there refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.errors import AnalysisException

from mlops_assets.data.ingest.staging_frames import reads_apart
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.profile import DatabricksProfile, load_profile
from mlops_assets.errors import SettingsError
from mlops_assets.lakehouse.session_settings import UnavailableSettingError, session_settings
from mlops_assets.resources.launcher import launch_spec

HOST = {"MLOPS_DATABRICKS_HOST": "https://adb-1.1.azuredatabricks.net"}
ONE_SETTING = {"MLOPS_DATABRICKS_CLUSTERS__LOADER": "{compute: serverless}"}


def profile(**changes: str) -> DatabricksProfile:
    return load_profile(
        "dev", HOST | ONE_SETTING | {f"MLOPS_DATABRICKS_{name}": text for name, text in changes.items()}
    )


def test_one_setting_sends_the_loader_to_serverless_compute():
    loader = profile().clusters.loader
    assert (loader.compute, loader.runtime, loader.starts_cluster) == ("serverless", "serverless-5", False)
    with pytest.raises(ValueError, match="none"):
        loader.new_cluster(tags={})
    assert profile().clusters.trials.starts_cluster


def test_the_submission_names_an_environment_and_no_cluster():
    spec = launch_spec(profile(BUDGET_POLICY_ID="b-1"), "loader", env={"A": "it's"})
    files = [{"requirements": "/Workspace/Users/a/r.txt"}]
    attempt = Attempt("run", "job", "step", 0)
    body = submission.submission(spec, attempt, python_file="/Workspace/x.py", parameters=["x"], libraries=files)
    (task,) = body["tasks"]
    assert set(task) == {"task_key", "spark_python_task", "environment_key"}
    lines = {"environment_version": "5", "dependencies": ["-r /Workspace/Users/a/r.txt"]}
    assert body["environments"] == [{"environment_key": task["environment_key"], "spec": lines}]
    assert body["budget_policy_id"] == "b-1"
    assert "--hash=" in spec.requirements


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"CLUSTERS__LOADER__NODE_TYPE": "x", "CLUSTERS__LOADER__WORKERS": "0"},
            "serverless compute has no workers, n",
        ),
        ({"CLUSTERS__LOADER__REUSE_MINUTES": "5"}, "serverless compute has no reuse_minutes"),
        ({"CLUSTERS__LOADER__TAGS": "{a: b}"}, "serverless compute has no tags"),
        ({"CLUSTERS__LOADER__RUNTIME": "18"}, "runtime 18 does not fit compute: serverless"),
        ({"CLUSTERS__TRIALS": "{compute: serverless}"}, "SparkTrials needs a SparkContext"),
        ({"CLUSTERS__TRIALS__RUNTIME": "serverless-5"}, "runtime serverless-5 does not fit compute: classic"),
        ({"STAGING": "dbfs"}, "needs staging: volume and tables: catalog"),
        ({"TABLES": "path", "TABLE_ROOT": "dbfs:/t"}, "needs staging: volume and tables: catalog"),
    ],
)
def test_what_serverless_compute_has_not_is_refused(changes: dict[str, str], said: str):
    with pytest.raises(SettingsError, match=said):
        profile(**changes)


class Conf:
    """The settings of a session that knows one name only, as serverless compute does."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {"known": "before"}

    def get(self, name: str, default: str | None) -> str | None:
        if name != "known":
            raise AnalysisException(f"[CONFIG_NOT_AVAILABLE] Configuration {name} is not available. SQLSTATE: 42K0I")
        return self.values.get(name, default)

    def set(self, name: str, value: str) -> None:
        self.values[name] = value

    def unset(self, name: str) -> None:
        del self.values[name]


class Session:
    def __init__(self) -> None:
        self.conf = Conf()


def test_a_setting_that_cant_be_set_is_an_error_that_says_where_to_run_instead():
    session: Any = Session()
    with (
        pytest.raises(UnavailableSettingError, match=r"a MERGE needs the session setting other.*placement"),
        session_settings(session, {"known": "now", "other": "1"}, purpose="a MERGE"),
    ):
        pytest.fail("it must not run")
    assert session.conf.values == {"known": "before"}


def test_executors_see_what_all_machines_mount_although_the_master_is_not_told():
    session: Any = Session()
    assert reads_apart(session, "all")
    assert not reads_apart(session, "machine"), "they are elsewhere"


def test_settings_are_restored():
    session: Any = Session()
    with session_settings(session, {"known": "now"}, purpose="x"):
        assert session.conf.values == {"known": "now"}
    assert session.conf.values == {"known": "before"}
