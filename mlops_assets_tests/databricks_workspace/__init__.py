"""A loopback Databricks workspace: speaks the REST API that databricks-sdk calls, and really runs submitted tasks."""

from mlops_assets_tests.databricks_workspace.workspace import Workspace

__all__ = ["Workspace"]
