"""The loopback workspace of the databricks tests, for what the doctor looks at there."""

from mlops_assets_tests.databricks.conftest import empty_home, profile_there, shared_workspace, workspace

__all__ = ["empty_home", "profile_there", "shared_workspace", "workspace"]
