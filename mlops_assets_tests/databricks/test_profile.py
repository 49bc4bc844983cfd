"""Profiles: the shipped ones load, overrides win, and what is wrong is named with its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_assets.databricks.credentials import SecretRef
from mlops_assets.databricks.profile import SHIPPED, cloud_of, load_profile
from mlops_assets.errors import SettingsError

HOST = "https://adb-1234567890123456.7.azuredatabricks.net"
ENVIRON = {"MLOPS_DATABRICKS_HOST": HOST}
IN_VOLUME = "/Volumes/main/mlops/data/tables"
TOKEN = "dapi" + "0123456789abcdef" * 2


def written(folder: Path, **changes: Any) -> Path:
    """Write the shipped `dev` profile with changes; a field given as None is left out."""
    dev = Path(__file__).resolve().parents[2] / "mlops_assets" / "databricks" / "profiles" / "dev.yaml"
    document = yaml.safe_load(dev.read_text("utf-8")) | {"host": HOST} | changes
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({name: item for name, item in document.items() if item is not None}), "utf-8")
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ones_need_the_address_alone(name: str):
    profile = load_profile(name, ENVIRON)
    assert profile.host == HOST
    assert profile.staging_path == f"/Volumes/{profile.catalog}/{profile.db_schema}/staging"
    assert (profile.tracking_uri, profile.registry_uri) == ("databricks", "databricks-uc")
    assert profile.three_level("fraud") == f"main.{profile.db_schema}.fraud"
    assert profile.cluster("loader").cost_class == "loader"
    assert profile.cluster("trials").cost_class == "trials"
    with pytest.raises(SettingsError, match="set MLOPS_DATABRICKS_HOST"):
        load_profile(name, {})


def test_a_cluster_waits_for_launched_steps_only():
    reused = ENVIRON | {"MLOPS_DATABRICKS_CLUSTERS__LOADER__REUSE_MINUTES": "30"}
    assert load_profile("dev", reused).clusters.loader.reuse_minutes == 30
    with pytest.raises(SettingsError, match="reuse_minutes needs launcher: step"):
        load_profile("dev", reused | {"MLOPS_DATABRICKS_LAUNCHER": "pipes"})


def test_they_differ_where_environments_do():
    dev, staging, prod = (load_profile(name, ENVIRON) for name in SHIPPED)
    assert len({dev.db_schema, staging.db_schema, prod.db_schema}) == 3
    assert (dev.clusters.trials.workers, prod.clusters.trials.workers) == (2, 6)
    assert (staging.clusters.trials.spot, prod.clusters.trials.spot) == (True, False)
    assert (dev.keep_staging_on_failure, prod.keep_staging_on_failure) == (True, False)


def test_overrides_go_as_deep_as_needed():
    environ = ENVIRON | {
        "MLOPS_DATABRICKS_CATALOG": "sandbox",
        "MLOPS_DATABRICKS_LAUNCHER": "pipes",
        "MLOPS_DATABRICKS_KEEP_STAGING_ON_FAILURE": "false",
        "MLOPS_DATABRICKS_POLL_SECONDS": "0.2",
        "MLOPS_DATABRICKS_CLUSTERS__TRIALS__WORKERS": "3",
        "MLOPS_DATABRICKS_CLUSTERS__TRIALS__NODE_TYPE": "null",
        "MLOPS_DATABRICKS_CLUSTERS__TRIALS__SPOT": "false",
        "MLOPS_DATABRICKS_CLUSTERS__TRIALS__INSTANCE_POOL_ID": "0123",
        "MLOPS_DATABRICKS_CLUSTERS__LOADER__TAGS": "{cost_centre: x}",
        "MLOPS_DATABRICKS_PLACEMENT__SPLITS": "trials",
        "MLOPS_DATABRICKS_SECRETS__KAFKA_PASSWORD": "kafka/password",
        "MLOPS_DATABRICKS_STAGING": "",
        "MLOPS_DATABRICKS_PROFILE": "dev",
        "MLOPS_HOME": "/elsewhere",
    }
    profile = load_profile("dev", environ)
    assert (profile.catalog, profile.launcher, profile.poll_seconds) == ("sandbox", "pipes", 0.2)
    assert profile.keep_staging_on_failure is False
    trials = profile.clusters.trials
    assert (trials.workers, trials.node_type, trials.instance_pool_id) == (3, None, "0123")
    assert profile.clusters.loader.tags == {"cost_centre": "x"}
    assert profile.place("splits", "loader") == "trials"
    assert profile.place("raw_transactions", "loader") == "loader"
    assert profile.secrets == {"KAFKA_PASSWORD": SecretRef(scope="kafka", key="password")}
    assert profile.staging == "volume"
    assert profile.staging_path == "/Volumes/sandbox/mlops_assets_dev/staging"


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("HOSTT", "x", "did you mean MLOPS_DATABRICKS_HOST"),
        ("ZZZZ", "x", "the fields are budget_policy_id, catalog"),
        ("CLUSTERS__TRIALS__WORKRS", "3", r"clusters\.trials\.workrs: Extra inputs"),
        ("CLUSTERS__TRIALS__WORKERS", "many", r"clusters\.trials\.workers: .*valid integer"),
        ("CLUSTERS__LOADER__TAGS", "{a: [", "not valid YAML"),
        ("CLUSTERS__HUGE__WORKERS", "3", r"clusters\.huge: Extra inputs"),
        ("CLUSTERS__LOADER__COST_CLASS", "trials", "clusters"),
        ("STAGING", "s3", "staging"),
        ("POLL_SECONDS", "0", "poll_seconds: .*greater than 0"),
        ("PLACEMENT__SPLITS", "moon", r"placement\.splits"),
        ("SECRETS__KAFKA", "no-slash", "write <scope>/<key>"),
        ("SECRETS__DATABRICKS_TOKEN", "a/b", "is never sent"),
        ("TABLES", "path", "set table_root with"),
        ("TABLE_ROOT", "dbfs:/lake", "set table_root with"),
        ("CLUSTERS__LOADER__SPARK_ENV_VARS", '{NOTE: "it\'s"}', "NOTE: Databricks exports the value unescaped"),
        ("CLUSTERS__LOADER__SPARK_ENV_VARS", '{NOTE: "two\\nlines"}', "NOTE: Databricks exports the value unescaped"),
        ("PACKAGE_INDEX", "http://pypi.example.com/simple", "package_index: use https://"),
        ("PACKAGE_INDEX", "https://user:hunter2@pypi.example.com/simple", "package_index: use https://"),
        ("CLUSTERS__LOADER__SPARK_ENV_VARS", '{"A B": "1"}', "not a valid name"),
        ("CATALOG", "my-catalog", "catalog: use letters"),
        ("HOST", "http://adb-1.azuredatabricks.net", "https://<workspace>"),
        ("HOST", "adb-1.azuredatabricks.net", "https://<workspace>"),
        ("HOST", "https://adb-1.azuredatabricks.net/?o=1", "only the address"),
        ("STAGING_PATH", "dbfs:/x", "with staging: volume use /Volumes"),
        ("STAGING_PATH", "/Volumes/a/b", "with staging: volume use /Volumes"),
        ("STAGING_PATH", "/Volumes/a/b/c/../d", "with staging: volume use /Volumes"),
        (
            "CLUSTERS__LOADER__REUSE_MINUTES",
            "31",
            r"clusters\.loader: reuse_minutes is at most half of timeout_minutes",
        ),
        ("CLUSTERS__LOADER__REUSE_MINUTES", "-1", r"clusters\.loader\.reuse_minutes"),
        ("CLUSTERS__LOADER", "{runtime: '18', existing_cluster_id: a, reuse_minutes: 5}", "needs no reuse_minutes"),
    ],
)
def test_what_is_refused(variable: str, value: str, why: str):
    load_profile("dev", ENVIRON)  # the good case
    with pytest.raises(SettingsError, match=why):
        load_profile("dev", ENVIRON | {f"MLOPS_DATABRICKS_{variable}": value})


def test_old_workspaces_stage_in_dbfs_and_keep_tables_in_folders():
    environ = {"STAGING": "dbfs", "TABLES": "path", "TABLE_ROOT": "dbfs:/lake"}
    profile = load_profile("dev", ENVIRON | {f"MLOPS_DATABRICKS_{name}": value for name, value in environ.items()})
    assert profile.staging_path == "dbfs:/mlops_assets"
    assert profile.table_root == "dbfs:/lake"
    with pytest.raises(SettingsError, match="Databricks keeps no tables in volumes; use tables: catalog"):
        load_profile("dev", ENVIRON | {"MLOPS_DATABRICKS_TABLES": "path", "MLOPS_DATABRICKS_TABLE_ROOT": IN_VOLUME})
    with pytest.raises(SettingsError, match="with staging: dbfs use dbfs:"):
        load_profile("dev", ENVIRON | {"MLOPS_DATABRICKS_STAGING": "dbfs", "MLOPS_DATABRICKS_STAGING_PATH": "/lake"})


def test_a_file_of_ones_own(tmp_path: Path):
    assert load_profile(written(tmp_path, catalog="own"), {}).catalog == "own"
    assert load_profile(str(written(tmp_path, catalog="own")), {"MLOPS_DATABRICKS_CATALOG": "two"}).catalog == "two"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"token": TOKEN}, "token"),
        ({"client_secret": "x"}, "client_secret"),
        ({"host": f"https://{TOKEN}@x"}, "host"),
        ({"clusters": {"loader": {"tags": {"t": TOKEN}}}}, r"clusters\.loader\.tags\.t"),
        ({"placement": [TOKEN]}, "placement"),
    ],
)
def test_credentials_are_refused_unread_and_unrepeated(tmp_path: Path, changes: dict[str, Any], where: str):
    with pytest.raises(SettingsError, match=rf"{where} (is a credential|contains a literal token)") as refused:
        load_profile(written(tmp_path, **changes), {})
    assert TOKEN not in str(refused.value)
    assert "DATABRICKS_TOKEN" in str(refused.value)


@pytest.mark.parametrize(("variable", "value"), [("TOKEN", "x"), ("CATALOG", TOKEN), ("PLACEMENT", f"{{a: {TOKEN}}}")])
def test_credentials_are_refused_in_overrides(variable: str, value: str):
    with pytest.raises(SettingsError, match=r"is a credential|contains a literal token") as refused:
        load_profile("dev", ENVIRON | {f"MLOPS_DATABRICKS_{variable}": value})
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "not a mapping"),
        ("", "not a mapping"),
        ("catalog: a\ncatalogue: b\n", "catalogue: Extra"),
    ],
)
def test_files_that_are_no_profiles(tmp_path: Path, text: str, why: str):
    path = tmp_path / "own.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=why):
        load_profile(path, {})


def test_names_that_are_no_profiles(tmp_path: Path):
    with pytest.raises(SettingsError, match="use one of dev, staging, prod"):
        load_profile("production", {})
    with pytest.raises(SettingsError, match="No such file"):
        load_profile(tmp_path / "none.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_profile(tmp_path / "binary.yaml", {})


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("https://adb-1.2.azuredatabricks.net", "azure"),
        ("https://123.4.gcp.databricks.com", "gcp"),
        ("https://dbc-a1b2.cloud.databricks.com", "aws"),
        ("http://127.0.0.1:8080", "aws"),
    ],
)
def test_the_cloud_follows_from_the_address_unless_said_otherwise(host: str, cloud: str):
    assert cloud_of(host) == cloud
    environ = {"MLOPS_DATABRICKS_HOST": host}
    assert load_profile("dev", environ).clusters.trials.cloud == cloud
    said = load_profile("dev", environ | {"MLOPS_DATABRICKS_CLUSTERS__TRIALS__CLOUD": "gcp"})
    assert said.clusters.trials.cloud == "gcp"
