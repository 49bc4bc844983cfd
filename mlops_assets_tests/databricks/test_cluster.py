"""Clusters: what is refused, and that the rest is what the Jobs API and the Permissions API take."""

from __future__ import annotations

from typing import Any

import pytest
from databricks.sdk.service import compute, iam
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from databricks_loopback.schema import check_object
from mlops_assets.databricks.cluster import ClusterSpec
from mlops_assets.databricks.credentials import looks_secret
from mlops_assets.databricks.runtimes import RUNTIMES, SERVERLESS
from mlops_assets.errors import SettingsError

LOADER: dict[str, Any] = {"runtime": "18", "cost_class": "loader", "workers": 1, "node_type": "i3.xlarge"}
TRIALS: dict[str, Any] = LOADER | {"cost_class": "trials", "workers": 6, "task_cpus": 4}


ARN = "arn:aws:iam::123456789012:instance-profile/fraud"


def spec(base: dict[str, Any], **fields: Any) -> ClusterSpec:
    """Return a spec; a field given as None is left out."""
    return ClusterSpec.model_validate({name: item for name, item in (base | fields).items() if item is not None})


def test_the_seeds_trials_cluster():
    made = spec(TRIALS, tags={"cost_centre": "fraud"}).new_cluster(tags={"asset": "tuned_model", "dagster_run": "r1"})
    assert made == {
        "spark_version": "18.x-scala2.13",
        "data_security_mode": "SINGLE_USER",
        "num_workers": 6,
        "node_type_id": "i3.xlarge",
        "spark_conf": {"spark.task.cpus": "4"},
        "custom_tags": {"cost_centre": "fraud", "asset": "tuned_model", "dagster_run": "r1"},
    }


def test_a_single_machine_says_so_to_spark():
    made = spec(LOADER, workers=0).new_cluster(tags={})
    assert made["num_workers"] == 0
    assert made["spark_conf"] == {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"}
    assert made["custom_tags"] == {"ResourceClass": "SingleNode"}


def test_a_loader_may_autoscale():
    made = spec(LOADER, workers=None, autoscale={"min_workers": 1, "max_workers": 4}).new_cluster(tags={})
    assert made["autoscale"] == {"min_workers": 1, "max_workers": 4}
    assert "num_workers" not in made


def test_both_pools_together():
    pools = {"instance_pool_id": "pool-1", "driver_instance_pool_id": "pool-2", "node_type": None}
    made = spec(TRIALS, **pools).new_cluster(tags={})
    assert (made["instance_pool_id"], made["driver_instance_pool_id"]) == ("pool-1", "pool-2")
    assert "node_type_id" not in made


@pytest.mark.parametrize(
    ("cloud", "attributes"),
    [
        ("aws", {"aws_attributes": {"first_on_demand": 1, "availability": "SPOT_WITH_FALLBACK"}}),
        ("azure", {"azure_attributes": {"first_on_demand": 1, "availability": "SPOT_WITH_FALLBACK_AZURE"}}),
        ("gcp", {"gcp_attributes": {"availability": "PREEMPTIBLE_WITH_FALLBACK_GCP"}}),
    ],
)
def test_spot_workers_have_an_on_demand_driver(cloud: str, attributes: dict[str, Any]):
    made = spec(TRIALS, spot=True, cloud=cloud).new_cluster(tags={})
    assert {name: item for name, item in made.items() if name.endswith("_attributes")} == attributes
    assert not any(name.endswith("_attributes") for name in spec(TRIALS, cloud=cloud).new_cluster(tags={}))


def test_what_a_companys_platform_asks_for():
    made = spec(
        LOADER,
        cloud="aws",
        spot=True,
        policy_id="ABC",
        apply_policy_default_values=True,
        runtime_engine="PHOTON",
        instance_profile_arn=ARN,
        init_scripts=["/Volumes/main/ml/scripts/certificates.sh", "/Workspace/Shared/proxy.sh"],
        log_destination="/Volumes/main/ml/logs",
    ).new_cluster(tags={})
    assert made["aws_attributes"]["instance_profile_arn"] == ARN
    assert made["aws_attributes"]["availability"] == "SPOT_WITH_FALLBACK"
    assert made["init_scripts"] == [
        {"volumes": {"destination": "/Volumes/main/ml/scripts/certificates.sh"}},
        {"workspace": {"destination": "/Shared/proxy.sh"}},
    ]
    assert made["cluster_log_conf"] == {"volumes": {"destination": "/Volumes/main/ml/logs"}}
    assert (made["runtime_engine"], made["apply_policy_default_values"]) == ("PHOTON", True)


def test_another_build_of_the_runtime():
    made = spec(LOADER, runtime="18-ml", spark_version="18.x-cpu-ml-scala2.13").new_cluster(tags={})
    assert made["spark_version"] == "18.x-cpu-ml-scala2.13"


@pytest.mark.parametrize(
    ("base", "fields", "why"),
    [
        (TRIALS, {"workers": None, "autoscale": {"min_workers": 1, "max_workers": 6}}, "SparkTrials fixes its paral"),
        (TRIALS, {"workers": 0}, "at least one worker"),
        (TRIALS, {"task_cpus": None}, "the number of cores of a worker"),
        (LOADER, {"workers": None}, "exactly one of workers and autoscale"),
        (LOADER, {"autoscale": {"min_workers": 1, "max_workers": 2}}, "exactly one of workers and autoscale"),
        (LOADER, {"workers": None, "autoscale": {"min_workers": 2, "max_workers": 2}}, "above min_workers"),
        (LOADER, {"workers": -1}, "greater than or equal to 0"),
        (LOADER, {"node_type": None}, "exactly one of node_type and instance_pool_id"),
        (LOADER, {"instance_pool_id": "p"}, "exactly one of node_type and instance_pool_id"),
        (LOADER, {"driver_instance_pool_id": "p"}, "needs instance_pool_id"),
        (LOADER, {"node_type": None, "instance_pool_id": "p", "driver_node_type": "m"}, "use driver_instance_pool_id"),
        (
            LOADER,
            {"node_type": None, "instance_pool_id": "p", "spot": True, "cloud": "aws"},
            "the pool decides about spot",
        ),
        (LOADER, {"spot": True}, "spot needs the cloud"),
        (LOADER, {"runtime": "16.4-lts"}, "not a supported Databricks Runtime.*17.3-lts"),
        (LOADER, {"runtime": "19"}, "Spark 4.0 or 4.1"),
        (LOADER, {"spark_version": "17.3.x-scala2.13"}, "not a build of runtime 18"),
        (LOADER, {"autotermination_minutes": 20}, "use timeout_minutes"),
        (LOADER, {"timeout_minutes": 0}, "greater than or equal to 1"),
        (LOADER, {"spark_conf": {"spark.task.cpus": "2"}}, "set task_cpus instead"),
        (LOADER, {"spark_env_vars": {"KAFKA_PASSWORD": "hunter2"}}, "looks like a secret"),
        (LOADER, {"spark_env_vars": {"HARMLESS": "dapi" + "0" * 32}}, "looks like a secret"),
        (LOADER, {"spark_conf": {"fs.azure.account.key.x.dfs.core.windows.net": "abc="}}, "looks like a secret"),
        (LOADER, {"spark_env_vars": {"API_TOKEN": "{{ secrets/a/b }}"}}, "must be the whole value"),
        (LOADER, {"spark_env_vars": {"NOTE": "x{{secrets/a/b}}"}}, "must be the whole value"),
        (LOADER, {"spark_env_vars": {"DATABRICKS_TOKEN": "{{secrets/a/b}}"}}, "is never sent"),
        (LOADER, {"tags": {"x" * 128: "y"}}, "1 to 127 characters"),
        (LOADER, {"tags": {"x": "y" * 256}}, "up to 255"),
        (LOADER, {"tags": {str(number): "" for number in range(42)}}, "the limit is 41"),
        (LOADER, {"docker_image": {}}, "Extra inputs"),
        (LOADER, {"init_scripts": ["dbfs:/init.sh"]}, "use /Volumes/"),
        (LOADER, {"init_scripts": ["/Volumes/main/ml/scripts"]}, "use /Volumes/.*<file>"),
        (LOADER, {"log_destination": "/logs"}, "use /Volumes/"),
        (LOADER, {"instance_profile_arn": "fraud"}, "should match pattern"),
        (LOADER, {"instance_profile_arn": ARN, "cloud": "azure"}, "for AWS, and the workspace is on azure"),
        (LOADER, {"runtime_engine": "photon"}, "PHOTON"),
        (LOADER, {"apply_policy_default_values": True}, "needs policy_id"),
        (LOADER, {"permissions": {"job": [{"level": "CAN_VIEW"}]}}, "exactly one of user, group"),
        (LOADER, {"permissions": {"job": [{"level": "CAN_VIEW", "user": "a", "group": "b"}]}}, "exactly one of user"),
        (LOADER, {"permissions": {"job": [{"level": "CAN_RESTART", "user": "a"}]}}, "CAN_MANAGE_RUN"),
        (LOADER, {"permissions": {"cluster": [{"level": "CAN_VIEW", "user": "a"}]}}, "CAN_ATTACH_TO"),
        (LOADER, {"permissions": {"job": [{"level": "IS_OWNER", "group": "a"}]}}, "a group can't be IS_OWNER"),
        (LOADER, {"permissions": {"job": [{"level": "IS_OWNER", "user": u} for u in "ab"]}}, "one owner"),
    ],
)
def test_what_is_refused(base: dict[str, Any], fields: dict[str, Any], why: str):
    spec(base)  # the good case
    with pytest.raises(ValidationError, match=why):
        spec(base, **fields)


def test_a_refused_secret_is_not_repeated_in_full_by_our_own_message():
    with pytest.raises(ValidationError) as refused:
        spec(LOADER, spark_env_vars={"KAFKA_PASSWORD": "hunter2"})
    assert "hunter2" not in refused.value.errors()[0]["msg"]


def test_references_to_secrets_pass_and_are_listed():
    made = spec(
        LOADER,
        spark_conf={"spark.password": "{{secrets/lake/key}}"},
        spark_env_vars={"API_TOKEN": "{{secrets/kafka/password}}", "MODE": "fast"},
    )
    assert made.secret_references == (("kafka", "password"), ("lake", "key"))
    assert made.new_cluster(tags={})["spark_env_vars"] == {"API_TOKEN": "{{secrets/kafka/password}}", "MODE": "fast"}


@pytest.mark.parametrize(
    "name", ["SPARK_LOCAL_DIRS", "MONKEY", "TOKENIZERS_PARALLELISM", "spark.sql.shuffle.partitions"]
)
def test_ordinary_settings_are_no_secrets(name: str):
    assert not looks_secret(name, "200")


@pytest.mark.parametrize("name", ["KAFKA_PASSWORD", "token", "fs.s3a.secret.key", "AWS_SECRET_ACCESS_KEY", "api-key"])
def test_names_of_secrets(name: str):
    assert looks_secret(name, "200")


def test_numbers_in_yaml_become_the_texts_that_the_platform_wants():
    made = spec(LOADER, runtime=18, spark_conf={"spark.sql.shuffle.partitions": 16}).new_cluster(tags={})
    assert made["spark_conf"] == {"spark.sql.shuffle.partitions": "16"}


def test_tags_of_a_launch_are_cut_and_too_many_are_refused():
    made = spec(LOADER, tags={"a": "1"})
    assert made.new_cluster(tags={"asset": "x" * 300})["custom_tags"]["asset"] == "x" * 255
    with pytest.raises(SettingsError, match="42 tags"):
        made.new_cluster(tags={f"t{number}": "" for number in range(41)})


def test_an_existing_cluster_keeps_its_own_settings():
    existing = {"runtime": "18", "cost_class": "loader", "existing_cluster_id": "0101-1", "autotermination_minutes": 30}
    made = ClusterSpec.model_validate(existing)
    with pytest.raises(ValueError, match="exists already"):
        made.new_cluster(tags={})
    with pytest.raises(ValidationError, match=r"has its own workers, permissions\.cluster"):
        ClusterSpec.model_validate(
            existing | {"workers": 1, "permissions": {"cluster": [{"level": "CAN_MANAGE", "user": "a"}]}}
        )


def test_access_lists_name_users_groups_and_service_principals():
    permissions = {
        "job": [{"level": "IS_OWNER", "service_principal": "app"}, {"level": "CAN_VIEW", "group": "users"}],
        "cluster": [{"level": "CAN_MANAGE", "user": "a@b.c"}],
    }
    lists = spec(LOADER, permissions=permissions).access_control()
    assert lists == {
        "job": [
            {"service_principal_name": "app", "permission_level": "IS_OWNER"},
            {"group_name": "users", "permission_level": "CAN_VIEW"},
        ],
        "cluster": [{"user_name": "a@b.c", "permission_level": "CAN_MANAGE"}],
    }
    for entry in [*lists["job"], *lists["cluster"]]:
        assert iam.AccessControlRequest.from_dict(entry).as_dict() == entry


@given(
    runtime=st.sampled_from(sorted(RUNTIMES.keys() - {SERVERLESS})),
    workers=st.integers(1, 100),
    pool=st.booleans(),
    cloud=st.sampled_from(["aws", "azure", "gcp"]),
    spot=st.booleans(),
    policy=st.sampled_from([None, "ABC"]),
    engine=st.sampled_from([None, "PHOTON", "STANDARD"]),
    scripts=st.lists(st.sampled_from(["/Volumes/main/ml/scripts/init.sh", "/Workspace/Shared/init.sh"]), max_size=2),
    logs=st.sampled_from([None, "/Volumes/main/ml/logs", "dbfs:/logs"]),
    tags=st.dictionaries(st.text("abc", min_size=1), st.text(max_size=255), max_size=5),
)
def test_every_spec_is_the_object_that_the_sdk_knows(
    runtime: str,
    workers: int,
    pool: bool,
    cloud: str,
    spot: bool,
    policy: str | None,
    engine: str | None,
    scripts: list[str],
    logs: str | None,
    tags: dict[str, str],
):
    machines: dict[str, Any] = {"node_type": None, "instance_pool_id": "p"} if pool else {"spot": spot}
    made = spec(
        TRIALS,
        runtime=runtime,
        workers=workers,
        cloud=cloud,
        policy_id=policy,
        apply_policy_default_values=policy is not None,
        runtime_engine=engine,
        instance_profile_arn=ARN if cloud == "aws" else None,
        init_scripts=scripts,
        log_destination=logs,
        **machines,
    )
    cluster = made.new_cluster(tags=tags)
    check_object(cluster, compute.ClusterSpec)
    assert compute.ClusterSpec.from_dict(cluster).as_dict() == cluster
