"""Dagster's own Pipes client, unchanged, from end to end; it needs Spark on the other side.

Annotations are not postponed here: Dagster looks at that of `context` when the asset is defined.
"""

import dagster as dg
import pytest
from dagster_databricks import PipesDatabricksClient, PipesDbfsMessageReader
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import ClusterLogConf, DbfsStorageInfo

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, small_cluster

REMOTE = """
import os
from dagster_pipes import PipesDbfsContextLoader, PipesDbfsMessageWriter, open_dagster_pipes

with open_dagster_pipes(context_loader=PipesDbfsContextLoader(), message_writer=PipesDbfsMessageWriter()) as pipes:
    pipes.log.info("from the cluster")
    pipes.report_asset_materialization(
        metadata={"runtime": os.environ["DATABRICKS_RUNTIME_VERSION"], "extra": pipes.get_extra("word")}
    )
"""


@pytest.mark.proof  # a process that runs what it is given
def test_asset_is_materialized_through_pipes(workspace: Workspace, client: WorkspaceClient):
    @dg.asset
    def piped(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        pipes = PipesDatabricksClient(
            client, message_reader=PipesDbfsMessageReader(client=client, interval=0.2), poll_interval_seconds=0.1
        )
        logs = ClusterLogConf(dbfs=DbfsStorageInfo("dbfs:/pipes-logs"))
        task = python_task(REMOTE, client, new_cluster=small_cluster(cluster_log_conf=logs))
        result: dg.MaterializeResult[None] = pipes.run(
            context=context, task=task, extras={"word": "through"}
        ).get_materialize_result()
        return result

    result = dg.materialize([piped])
    assert result.success
    (materialization,) = result.asset_materializations_for_node("piped")
    metadata = {name: value.value for name, value in materialization.metadata.items()}
    assert (metadata["runtime"], metadata["extra"]) == ("18.2", "through")
    assert str(metadata["Databricks Job Run URL"]).startswith(f"{workspace.host}/?o=")
    assert list((workspace.storage.dbfs / "tmp").iterdir()) == [], "the client cleans up what it put there"
