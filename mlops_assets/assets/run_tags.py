"""Tags of a Dagster run: its model, the version of the raw table, its MLflow run; set as soon as they are known.

What belongs here: setting them. What does not: their keys (`lineage`), tags that a run has from its start
(`automation`), how they come back from a cluster (`databricks`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TypeVar

import dagster as dg

from mlops_assets.dagster_internals import GRPC_INFO_TAG
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import (
    DELTA_VERSION,
    MLFLOW_RUN_ID,
    RAW_VERSION,
    RUN_MLFLOW_TAG,
    RUN_MODEL_TAG,
    RUN_PROCESS_TAG,
    RUN_RAW_VERSION_TAG,
)
from mlops_assets.processes import process
from mlops_assets.spec import FraudModelSpec

_Result = TypeVar("_Result")


def tag_run(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> None:
    """Add tags to the run of an asset. A direct invocation, as in a unit test, has no run: nothing happens."""
    run_id = context.op_execution_context.run_id
    run = context.instance.get_run_by_id(run_id)
    if run is not None and not tags.items() <= run.tags.items():
        context.instance.add_run_tags(run_id, dict(tags))


def mlflow_tags(run_id: str, raw_version: int) -> dict[str, str]:
    """Return the tags of a run that has opened an MLflow run on a version of the raw table."""
    return {RUN_MLFLOW_TAG: run_id, RUN_RAW_VERSION_TAG: str(raw_version)}


def tagging(context: dg.AssetExecutionContext, spec: FraudModelSpec, results: Iterator[_Result]) -> Iterator[_Result]:
    """Yield an asset's results, and tag its run with what they name.

    Args:
        context: The asset's.
        spec: Its model. Jobs and conditions name it from the start; runs that the UI starts from the graph do not.
        results: What the asset yields.
    """
    tag_run(context, {RUN_MODEL_TAG: spec.title, **_process_tag(context)})
    for result in results:
        if isinstance(result, dg.MaterializeResult | dg.AssetMaterialization):
            tag_run(context, _named(result))
        yield result


def _process_tag(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Return the tag with the process of a run that neither the code server nor a command of ours has started.

    It reports its number, which another machine may have given to another process; so this is noted where the step
    runs, if that is the same process or a child of it (on a cluster it is neither).
    """
    run_id = context.op_execution_context.run_id
    run = context.instance.get_run_by_id(run_id)
    if run is None or GRPC_INFO_TAG in run.tags or RUN_PROCESS_TAG in run.tags:
        return {}
    for entry in context.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            number = int(str(pid.value))
            return {RUN_PROCESS_TAG: process(number)} if number in (os.getpid(), os.getppid()) else {}
    return {}


def _named(result: dg.MaterializeResult[None] | dg.AssetMaterialization) -> dict[str, str]:
    metadata = {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in (result.metadata or {}).items()
    }
    is_raw = result.asset_key is not None and result.asset_key.path[-1] == RAW
    raw, run = metadata.get(DELTA_VERSION if is_raw else RAW_VERSION), metadata.get(MLFLOW_RUN_ID)
    return {
        **({} if raw is None else {RUN_RAW_VERSION_TAG: str(raw)}),
        **({} if run is None else {RUN_MLFLOW_TAG: str(run)}),
    }
