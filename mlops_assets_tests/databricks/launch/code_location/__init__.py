"""A code location whose assets do next to nothing, to be launched.

It travels to the cluster, so it imports nothing of the tests. How to launch comes from two environment variables of the
launching process, read when a step starts; on the cluster there is neither.

Annotations are not postponed here: Dagster looks at that of `context` when an asset is defined.
"""

import importlib
import json
import os
import sys
import time
from typing import Any

import dagster as dg
from dagster._config.pythonic_config import IAttachDifferentObjectToOpContext
from pydantic import PrivateAttr

from mlops_assets.databricks.launch.api import Api, Credentials
from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher
from mlops_assets.databricks.launch.spec import LaunchSpec

PACKAGES = ("mlops_assets", "mlops_assets_tests.databricks.launch.code_location")
ON_CLUSTER = bool(os.environ.get("DATABRICKS_RUNTIME_VERSION"))


class SpecLauncher(dg.ConfigurableResource[Any], IAttachDifferentObjectToOpContext):
    """Launches as the variable `LAUNCH_SPEC` says: fields of `LaunchSpec`, and `host`."""

    _launchers: dict[str, Any] = PrivateAttr(default_factory=dict)

    def get_object_to_set_on_execution_context(self) -> Any:
        if ON_CLUSTER:
            return None
        document = os.environ["LAUNCH_SPEC"]
        if document not in self._launchers:
            fields = json.loads(document)
            host = fields.pop("host")
            spec = LaunchSpec(**{"packages": PACKAGES, "retry_seconds": 10, **fields})
            api = Api(Credentials(host, os.environ["LAUNCH_TOKEN"]), retry_seconds=spec.retry_seconds)
            self._launchers[document] = DatabricksStepLauncher(api, spec)
        return self._launchers[document]

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        for launcher in self._launchers.values():
            launcher.close(context.instance)
        self._launchers.clear()


@dg.asset
def nothing(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        metadata={
            "runtime": os.environ.get("DATABRICKS_RUNTIME_VERSION", "none"),
            "module": __file__,
            "plain": os.environ.get("PLAIN", "none"),
            "secret": os.environ.get("HIDDEN", "none"),
            "token": os.environ.get("LAUNCH_TOKEN", os.environ.get("DATABRICKS_TOKEN", "none")),
            "python": sys.version.split()[0],
        }
    )


@dg.asset(deps=[nothing])
def after_nothing(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    context.log.info("after nothing")


@dg.asset
def tagging(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    """Tag the run, then fail, as a search does that breaks off."""
    context.instance.add_run_tags(context.run_id, {"colour": "blue", "kept": "changed"})
    raise ValueError("as asked")


@dg.asset
def broken(step_launcher: dg.ResourceParam[Any]) -> None:
    sys.stderr.write("about to fail\n")
    raise ValueError("as asked")


@dg.asset(deps=[nothing])
def broken_after(step_launcher: dg.ResourceParam[Any]) -> None:
    raise ValueError("as asked")


@dg.asset
def refusing(step_launcher: dg.ResourceParam[Any]) -> None:
    raise dg.Failure(description="refused", metadata={"rows": 3})


@dg.asset
def chatty(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    for trial in range(8):
        context.log.info(f"trial {trial} of 8")
        sys.stdout.write(f"printed {trial}\n")
        time.sleep(0.7)


@dg.asset
def sleeper(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    context.log.info("asleep")
    time.sleep(600)


@dg.asset
def dying(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    sys.stderr.write("last words\n")
    time.sleep(2)
    os._exit(9)


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
def second_time_lucky(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    if context.retry_number == 0:
        raise ValueError("not the first time")


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
def patient(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> None:
    context.log.info(f"attempt {context.retry_number}")


@dg.asset
def counting(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[Any]) -> dg.MaterializeResult[None]:
    def module_of(_: int) -> str:
        return str(importlib.import_module("mlops_assets").__file__)

    # Imported where it is used: the other assets shall not wait for it.
    sql = importlib.import_module("pyspark.sql")
    spark = sql.SparkSession.builder.getOrCreate()
    (row,) = spark.range(1).select(sql.functions.udf(module_of)("id").alias("file")).collect()
    return dg.MaterializeResult(metadata={"file": row.file})


ASSETS = [
    nothing,
    after_nothing,
    tagging,
    broken,
    broken_after,
    refusing,
    chatty,
    sleeper,
    dying,
    second_time_lucky,
    patient,
    counting,
]
JOBS = [dg.define_asset_job(f"{asset.key.to_user_string()}_job", [asset]) for asset in ASSETS]
PAIR = dg.define_asset_job("pair_job", [nothing, after_nothing])
THEN_BROKEN = dg.define_asset_job("then_broken_job", [nothing, broken_after])
SIBLINGS = dg.define_asset_job("siblings_job", [chatty, nothing])

defs = dg.Definitions(
    assets=ASSETS,
    jobs=[*JOBS, PAIR, SIBLINGS, THEN_BROKEN],
    resources={"step_launcher": SpecLauncher()},
    executor=dg.multi_or_in_process_executor,
)
