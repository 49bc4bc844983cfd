"""A cluster is someone of its own: clients on it get in without being given a token."""

from __future__ import annotations

from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.driving import SUCCESS, cluster_id, run_code, states

_WHO = """
    import os
    from databricks.sdk import WorkspaceClient
    there = WorkspaceClient()
    print(there.config.host, there.current_user.me().user_name)
    print([name for name in os.environ if "TOKEN" in name or "SECRET" in name])
"""


def test_the_sdk_finds_address_and_identity_by_itself(client: WorkspaceClient, workspace: Workspace):
    run, found = run_code(client, _WHO)
    assert states(run) == SUCCESS
    host, *user = (found.logs or "").splitlines()[0].split()
    assert host == workspace.host
    assert " ".join(user) == f"engineer@example.com on cluster {cluster_id(run)}"
    assert (found.logs or "").splitlines()[1] == "[]"
